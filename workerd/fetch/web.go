package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"code.dny.dev/ssrf"

	"darkroom/workerd/engine"
)

const maxRedirects = 5

// publicOnly refuses every address outside the public internet: what the IANA registries set aside for special purposes
// (loopback, private, link-local with the clouds' metadata, shared, multicast, ...), every IPv6 address outside
// 2000::/3 and so each form that wraps an IPv4 address, and Azure's host, which has a public address.
func publicOnly() *ssrf.Guardian {
	return ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(netip.MustParsePrefix("168.63.129.16/32")))
}

// newClient makes the client for foreign addresses. The guard sees the address that each connection really goes to,
// after the name was resolved, so a name that resolves to something else at the next look gains nothing. A nil
// resolver and nil roots are the system's.
func newClient(guard *ssrf.Guardian, resolver *net.Resolver, roots *x509.CertPool) *http.Client {
	dialer := &net.Dialer{Timeout: 15 * time.Second, Control: guard.Safe, Resolver: resolver}
	return &http.Client{
		CheckRedirect: checkRedirect,
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would connect in our stead, unguarded
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    15 * time.Second,
			ResponseHeaderTimeout:  time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
			DisableKeepAlives:      true, // inputs come from many hosts, seldom twice from one
			ForceAttemptHTTP2:      true,
		},
	}
}

func checkRedirect(request *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return engine.Errorf(engine.BadInput, "The input at %q redirects more than %d times.", via[0].URL.Host, maxRedirects)
	}
	// The address before may hold a secret in its query.
	request.Header.Del("Referer")
	return checkURL(request.URL)
}

func checkURL(u *url.URL) error {
	switch {
	case !strings.EqualFold(u.Scheme, "https"):
		return engine.Errorf(engine.BadInput, "The input at %q must have an https address.", u.Host)
	case u.Hostname() == "":
		return engine.Errorf(engine.BadInput, "The https address of an input names no host.")
	case u.User != nil:
		return engine.Errorf(engine.BadInput, "The address of the input at %q must not hold a user name or password.", u.Host)
	}
	return nil
}

func (f *Fetcher) openURL(ctx context.Context, u *url.URL) (*source, error) {
	if err := checkURL(u); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, errReference(nil)
	}
	request.Header.Set("User-Agent", "darkroom-workerd")
	request.Header.Set("Accept", "image/png, image/jpeg, image/webp, video/mp4, video/webm, video/quicktime")
	response, err := f.client.Do(request)
	if err != nil {
		return nil, requestError(u.Host, err)
	}
	s := &source{ReadCloser: response.Body, label: u.Host, maxBytes: f.maxBytes}
	if err := s.checkResponse(response); err != nil {
		return nil, errors.Join(err, response.Body.Close())
	}
	return s, nil
}

func (s *source) checkResponse(response *http.Response) error {
	switch status := response.StatusCode; {
	case status == http.StatusOK:
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return down(fmt.Sprintf("The input at %q could not be fetched now: its server answered %d.", s.label, status), nil)
	default:
		return engine.Errorf(engine.BadInput, "The input at %q could not be fetched: its server answered %d; check its address.",
			s.label, status)
	}
	if response.ContentLength > s.maxBytes {
		return s.errTooLarge()
	}
	return nil
}

// requestError tells a wrong address from one that may answer later.
func requestError(host string, err error) error {
	// url.Error would put the whole address, query and all, into the log.
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	if _, ok := errors.AsType[*engine.Error](err); ok {
		return err // from checkRedirect
	}
	message := ""
	if errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedNetwork) || errors.Is(err, ssrf.ErrInvalidHostPort) {
		message = "The input at %q leads to an address that is not on the public internet; upload the file instead."
	} else if noSuchHost(err) {
		message = "The input at %q has a host name that does not exist; check its address."
	} else if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		message = "The input at %q is on a server without a valid certificate; use another address or upload the file."
	}
	if message != "" {
		return &engine.Error{Class: engine.BadInput, Message: fmt.Sprintf(message, host), Err: err}
	}
	return down(fmt.Sprintf("The server of the input at %q could not be reached.", host), err)
}

func noSuchHost(err error) bool {
	if _, ok := errors.AsType[*net.AddrError](err); ok {
		return true
	}
	lookup, ok := errors.AsType[*net.DNSError](err)
	return ok && lookup.IsNotFound
}
