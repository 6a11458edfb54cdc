package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/problem"
)

const (
	dialTimeout   = 5 * time.Second
	answerTimeout = 150 * time.Second // until an answer begins: as long as a Supabase function may run
	idleTimeout   = time.Minute
	maxIdle       = 64 // connections kept
	maxHeader     = 64 << 10
)

// proxy forwards to one server.
type proxy struct {
	target  *url.URL
	reverse *httputil.ReverseProxy
}

// passing is one request on its way, as the hooks of the reverse proxy see it.
type passing struct {
	c       echo.Context
	rewrite func(out *http.Request) // the credentials and the path
	err     error
}

type passingKey struct{}

func newProxy(target *url.URL, log *slog.Logger) *proxy {
	return &proxy{target: target, reverse: &httputil.ReverseProxy{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:    dialTimeout,
			ResponseHeaderTimeout:  answerTimeout,
			MaxResponseHeaderBytes: maxHeader,
			MaxIdleConnsPerHost:    maxIdle,
			IdleConnTimeout:        idleTimeout,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // it passes as it is
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			p := passingOf(r.In)
			r.SetURL(target)
			r.SetXForwarded()
			r.Out.Header.Set(echo.HeaderXForwardedFor, p.c.RealIP())
			r.Out.Header.Set(echo.HeaderXRequestID, p.c.Response().Header().Get(echo.HeaderXRequestID))
			p.rewrite(r.Out)
		},
		ModifyResponse: func(answer *http.Response) error {
			merge(passingOf(answer.Request).c.Response().Header(), answer.Header)
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) { passingOf(r).err = err },
		ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelDebug), // broken connections
	}}
}

func passingOf(r *http.Request) *passing {
	p, _ := r.Context().Value(passingKey{}).(*passing)
	return p
}

// pass forwards a request and answers it.
func (p *proxy) pass(c echo.Context, rewrite func(out *http.Request)) error {
	if !isStraight(c.Request().URL) {
		return problem.Refuse(problem.NoRoute, "The path has dot segments, backslashes or control characters.")
	}
	on := &passing{c: c, rewrite: rewrite}
	p.reverse.ServeHTTP(c.Response(), c.Request().WithContext(context.WithValue(c.Request().Context(), passingKey{}, on)))
	if on.err != nil {
		return fmt.Errorf("%w: %w", problem.Refuse(problem.BadUpstream, ""), on.err)
	}
	return nil
}

// merge settles who has the say on headers that both the gateway and the server behind set.
func merge(ours, theirs http.Header) {
	for name := range theirs {
		switch {
		case strings.HasPrefix(name, "Access-Control-"): // which origins may read it is the gateway's to say
			theirs.Del(name)
		case name == echo.HeaderVary, len(ours[name]) == 0:
		case name == echo.HeaderCacheControl, name == echo.HeaderContentSecurityPolicy: // theirs know what they are for
			ours.Del(name)
		default: // X-Request-Id, X-Content-Type-Options, Referrer-Policy
			theirs.Del(name)
		}
	}
}

// isStraight reports whether a path means the same to everybody: to those who clean it and those who do not, and also to those who decode it once more.
func isStraight(u *url.URL) bool {
	path := u.Path
	for again := true; again; {
		if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
			return false
		}
		for segment := range strings.SplitSeq(path, "/") {
			if segment == "." || segment == ".." {
				return false
			}
		}
		decoded, err := url.PathUnescape(path)
		again = err == nil && decoded != path
		path = decoded
	}
	return true
}

// isUnder reports whether a path is the prefix or lies below it, as it is written and as it is meant.
func isUnder(u *url.URL, prefix string) bool {
	below := func(path string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }
	return below(u.EscapedPath()) && below(u.Path)
}

var errAddress = errors.New("must look like https://abcdefgh.supabase.co; http:// is for this machine only")

// parse reads the address of a server behind. near says of a host whether plain HTTP to it is fine.
func parse(text string, near func(host string) bool) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !isStraight(u) {
		return nil, errAddress
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !near(u.Hostname())) {
		return nil, errAddress
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

// isLoopback reports whether a host is this machine.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// isPrivate reports whether a host is on this machine or a private network: by its address, or by a name without dots, as in a network of containers.
func isPrivate(host string) bool {
	ip, err := netip.ParseAddr(host)
	return isLoopback(host) || err == nil && ip.Unmap().IsPrivate() || err != nil && !strings.Contains(host, ".")
}
