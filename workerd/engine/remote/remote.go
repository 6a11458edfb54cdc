// Package remote is the HTTP client of the engines that speak to a server: ComfyUI, the OpenAI shape and Cog. It turns what
// can go wrong into an [*engine.Error] with the right class, bounds every answer, follows no redirect to another host and
// keeps the secrets of its headers out of errors.
//
// The operator says where the server is, so a private address is fine.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine"
)

const (
	// MaxAnswer is the most that [Client.JSON] reads.
	MaxAnswer = 1 << 20
	// MaxPictures is meant for [Client.Decode] where an answer holds pictures as base64.
	MaxPictures = 64 << 20

	maxRedirects   = 5
	maxHeaderBytes = 64 << 10
	connectTimeout = 10 * time.Second
)

// Client speaks to one server. It may be used by several goroutines at once and holds nothing that has to be closed.
type Client struct {
	base    *url.URL
	header  http.Header
	secrets []string
	http    *http.Client
}

// New makes a client for the server at base, such as "http://127.0.0.1:8188" or "https://api.example.com/v1", that sends the
// header with every request. The values of the header are taken for secrets. The server need not be up. An error means
// that base is no such address.
func New(base string, header http.Header) (*Client, error) {
	// The address is not in these messages: one with a password in it would end up in the log.
	address, err := url.Parse(strings.TrimRight(base, "/"))
	switch {
	case err != nil:
		return nil, errors.New("the address of the engine's server cannot be read: write it as http://127.0.0.1:8188")
	case address.Scheme != "http" && address.Scheme != "https", address.Hostname() == "":
		return nil, errors.New("the address of the engine's server must begin with http:// or https:// and name a host, as http://127.0.0.1:8188")
	case address.User != nil:
		return nil, errors.New("the address of the engine's server must not hold a user name or password")
	case address.RawQuery != "" || address.Fragment != "":
		return nil, errors.New("the address of the engine's server must not have a part after ? or #")
	}
	c := &Client{base: address, header: header.Clone(), secrets: secrets(header)}
	c.http = &http.Client{CheckRedirect: c.checkRedirect, Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSHandshakeTimeout:    connectTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true,
		// A new connection for each request: on a kept one that the server drops, Go sends a request with an Idempotency-Key
		// a second time by itself, and a server that does not know that header would do, and charge for, the work twice.
		DisableKeepAlives: true,
	}}
	return c, nil
}

// secrets lists what must not be seen of a header: its values, also without a leading "Bearer".
func secrets(header http.Header) []string {
	var list []string
	for values := range maps.Values(header) {
		for _, value := range values {
			list = append(list, value)
			if _, token, found := strings.Cut(value, " "); found {
				list = append(list, token)
			}
		}
	}
	return list
}

// hide takes the secrets out of a text that came from the server or a library.
func (c *Client) hide(text string) string {
	for _, secret := range c.secrets {
		if len(secret) >= 4 { // shorter ones guard nothing, and would tear words
			text = strings.ReplaceAll(text, secret, "[hidden]")
		}
	}
	return text
}

func (c *Client) checkRedirect(request *http.Request, via []*http.Request) error {
	switch {
	case !c.owns(request.URL):
		return engine.Errorf(engine.EngineDown, "The engine's server redirects to another host; its address in the configuration must be changed.")
	case request.Method != via[0].Method:
		return engine.Errorf(engine.EngineDown, "The engine's server redirects a request that changes something; its address in the configuration must be changed.")
	case len(via) > maxRedirects:
		return engine.Errorf(engine.EngineDown, "The engine's server redirects more than %d times.", maxRedirects)
	}
	return nil
}

// owns says whether an address is on the client's server.
func (c *Client) owns(address *url.URL) bool {
	return address.Scheme == c.base.Scheme && strings.EqualFold(address.Host, c.base.Host) && address.User == nil
}

// locate returns the address of a path under the base, or of an absolute address on the same host.
func (c *Client) locate(path string) (string, error) {
	if strings.HasPrefix(path, "/") {
		return c.base.String() + path, nil
	}
	address, err := url.Parse(path)
	if err != nil || !c.owns(address) {
		return "", engine.Errorf(engine.EngineDown, "The engine's server names a file on another host, which is not fetched.")
	}
	return address.String(), nil
}

// Do sends a request to a path under the base, such as "/prompt?a=b", or to an absolute address on the same host. header is
// sent beside the client's own, and goes before it. The answer has a status of 2xx; every other one is an error, with a
// [*StatusError] in its chain. The caller closes the answer's body; reading from it gives [*engine.Error] too, and ends
// with ctx.
func (c *Client) Do(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	if err := engine.Stopped(ctx); err != nil {
		return nil, err
	}
	address, err := c.locate(path)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, &engine.Error{Class: engine.EngineDown, Message: "The request to the engine's server cannot be written.", Err: c.plain(err)}
	}
	request.Header.Set("User-Agent", "darkroom-workerd")
	maps.Copy(request.Header, c.header)
	maps.Copy(request.Header, header)
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.failure(ctx, err)
	}
	response.Body = &answer{ReadCloser: response.Body, ctx: ctx, client: c}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		defer response.Body.Close()
		return nil, c.refusal(ctx, response)
	}
	return response, nil
}

// answer is a body that reads errors of the right class.
type answer struct {
	io.ReadCloser

	ctx    context.Context //nolint:containedctx // of the request, which reading the body is part of
	client *Client
}

// Read implements [io.Reader].
func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = a.client.failure(a.ctx, err)
	}
	return n, err
}

// failure classifies an error of the connection.
func (c *Client) failure(ctx context.Context, err error) error {
	if err := engine.Stopped(ctx); err != nil {
		return err
	}
	if failure, ok := errors.AsType[*engine.Error](err); ok { // of checkRedirect, or of a body that was to be sent
		return failure
	}
	message := "The connection to the engine's server broke off; the task will be tried again."
	if _, ok := errors.AsType[*net.OpError](err); ok && (errors.Is(err, syscall.ECONNREFUSED) || dialling(err)) {
		message = "The engine's server cannot be reached; the task will be tried again."
	}
	return &engine.Error{Class: engine.EngineDown, Message: message, Err: c.plain(err)}
}

func dialling(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op == "dial"
}

// plain takes addresses and secrets out of an error for the log.
func (c *Client) plain(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok { // its text has the whole address, query and all
		err = wrapped.Err
	}
	if text := err.Error(); c.hide(text) != text {
		return errors.New(c.hide(text))
	}
	return err
}

// JSON sends body as JSON, nothing when it is nil, and reads the answer, of at most [MaxAnswer] bytes, into the value that
// into points to; a nil into discards it. See [Client.Do] for path and errors.
func (c *Client) JSON(ctx context.Context, method, path string, body, into any) error {
	var reader io.Reader
	header := http.Header{"Accept": {"application/json"}}
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return &engine.Error{Class: engine.BadInput, Message: "The params cannot be sent to the engine's server.", Err: err}
		}
		reader = bytes.NewReader(data)
		header.Set("Content-Type", "application/json")
	}
	response, err := c.Do(ctx, method, path, header, reader)
	if err != nil {
		return err
	}
	return c.Decode(response, MaxAnswer, into)
}

// Decode reads an answer of [Client.Do], of at most limit bytes, as JSON into the value that into points to, and closes it. A
// nil into discards it.
func (c *Client) Decode(response *http.Response, limit int64, into any) error {
	defer response.Body.Close()
	if into == nil {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return err //nolint:wrapcheck // an *engine.Error of the body
	}
	if int64(len(data)) > limit {
		return engine.Errorf(engine.EngineDown, "The engine's server sent an answer of more than %d MB.", limit>>20)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return &engine.Error{Class: engine.EngineDown, Message: "The engine's server sent an answer that is not the expected JSON; the operator must check its address and version.", Err: err}
	}
	return nil
}

// Save fetches a path, or an absolute address on the same host, with GET into a new file of at most limit bytes and returns
// the file's media type by its first bytes: image/png, image/jpeg, image/webp, video/mp4 or video/webm, which are the outputs
// that engines may make. Anything else is an error. Of a failed Save no file stays.
func (c *Client) Save(ctx context.Context, path, file string, limit int64) (mediaType string, err error) {
	response, err := c.Do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	return Store(response.Body, file, limit)
}

// Store is [Client.Save] for what does not come by GET. An error that from gives and that is no [*engine.Error] counts as one of
// the disk.
func Store(from io.Reader, file string, limit int64) (mediaType string, err error) {
	to, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return "", unwritable(err)
	}
	defer func() {
		if closed := to.Close(); closed != nil && err == nil {
			err = unwritable(closed)
		}
		if err != nil {
			mediaType = ""
			_ = os.Remove(file)
		}
	}()
	size, err := io.Copy(to, io.LimitReader(from, limit+1))
	switch failure, ok := errors.AsType[*engine.Error](err); {
	case ok:
		return "", failure
	case err != nil:
		return "", unwritable(err)
	case size > limit:
		return "", engine.Errorf(engine.BadInput, "The engine made a file larger than %s; ask for a smaller output.", inWords(limit))
	case size == 0:
		return "", engine.Errorf(engine.EngineDown, "The engine's server sent an empty file.")
	}
	head := make([]byte, 512)
	n, err := to.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", unwritable(err)
	}
	if mediaType = storage.MediaType(head[:n]); mediaType == "" || mediaType == "video/quicktime" {
		return "", engine.Errorf(engine.EngineDown, "The engine's server sent a file that is neither a PNG, JPEG or WebP picture nor an MP4 or WebM video.")
	}
	return mediaType, nil
}

func inWords(size int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if size >= unit.size {
			return fmt.Sprintf("%d %s", size/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", size)
}

func unwritable(err error) error {
	message := "The worker cannot write the output."
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		message = "The worker's disk is full."
	}
	return &engine.Error{Class: engine.EngineDown, Message: message, Err: err}
}
