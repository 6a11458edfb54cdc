package upstream_test

import (
	"bufio"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/upstream"
)

// pathBehind is a Project whose server behind is a transport that keeps what it is asked.
func pathBehind(tb testing.TB) func(requestLine string) (out *url.URL, host string, forwarded bool) {
	tb.Helper()
	var last *http.Request
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { last = r }))
	tb.Cleanup(web.Close)
	project, err := upstream.NewProject(web.URL+"/base", []string{"/realtime/v1"}, serviceKey, slog.New(slog.DiscardHandler))
	must(tb, err)
	e := echo.New()
	return func(requestLine string) (*url.URL, string, bool) {
		last = nil
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + requestLine + " HTTP/1.1\r\nHost: gateway.example\r\n\r\n")))
		if err != nil {
			return nil, "", false
		}
		r.RemoteAddr = "127.0.0.1:1"
		err = project.Middleware(func(echo.Context) error { return errOurs })(e.NewContext(r, httptest.NewRecorder()))
		if errors.Is(err, errOurs) || last == nil {
			return nil, "", false
		}
		return last.URL, last.Host + " " + strings.TrimPrefix(web.URL, "http://"), true
	}
}

var errOurs = errors.New("not forwarded")

func TestNoPathLeavesItsPrefix(t *testing.T) {
	t.Parallel()
	send := pathBehind(t)
	for line, want := range map[string]string{
		"/realtime/v1/a":                          "/base/realtime/v1/a",
		"/realtime/v1":                            "/base/realtime/v1",
		"/realtime/v1/a%2Fb":                      "/base/realtime/v1/a%2Fb",
		"/realtime/v1/..a/...":                    "/base/realtime/v1/..a/...",
		"http://evil.example/realtime/v1/a":       "/base/realtime/v1/a",
		"/realtime/v1/../../rest/v1/users":        "",
		"/realtime/v1/./a":                        "",
		"/realtime/v1/%2e%2e/rest":                "",
		"/realtime/v1/%252e%252E/rest":            "",
		"/realtime/v1/..%2frest":                  "",
		"/realtime/v1/a%2f..%2f..%2frest":         "",
		"/realtime/v1/..%5crest":                  "",
		"/realtime/v1/a%00":                       "",
		"/realtime/v1/a%0d%0aX-Injected:%201":     "",
		"//evil.example/realtime/v1/a":            "",
		"/realtime%2Fv1/a":                        "",
		"/realtime/v1@evil.example/":              "",
		"/realtime/v1.evil.example/":              "",
		"*":                                       "",
		"http://evil.example/realtime/v1/../rest": "",
	} {
		out, hosts, forwarded := send(line)
		if forwarded != (want != "") {
			t.Errorf("%s was forwarded: %v", line, forwarded)
		}
		if forwarded && out.EscapedPath() != want {
			t.Errorf("%s was asked as %s, want %s", line, out.EscapedPath(), want)
		}
		if host, behind, _ := strings.Cut(hosts, " "); host != behind {
			t.Errorf("%s was asked of %s", line, host)
		}
	}
}

// FuzzUpstreamPath: whatever is asked for, only the server behind is asked, below its base and the prefix, as it is written and however it is cleaned.
func FuzzUpstreamPath(f *testing.F) {
	for _, line := range []string{
		"/realtime/v1/a", "/realtime/v1/../x", "/realtime/v1/%2e%2e/x", "http://u:p@evil/realtime/v1/x", "//evil/realtime/v1", "/realtime/v1/a;b?c;d", "/realtime/v1?x=%zz",
		"/realtime/v1/%252e%252e%252fx", "/realtime/v1/\\..\\x", "/realtime/v1/%c0%ae%c0%ae/x", "/realtime/v1/a//..//b", "/realtime/v1/%2F%2Fevil", "*", "/realtime/v1#x",
	} {
		f.Add(line)
	}
	send := pathBehind(f)
	f.Fuzz(func(t *testing.T, line string) {
		out, hosts, forwarded := send(line)
		if !forwarded {
			return
		}
		if host, behind, _ := strings.Cut(hosts, " "); host != behind {
			t.Fatalf("%q was asked of %q", line, host)
		}
		text := out.Path
		for range 3 { // as it is, and for servers that decode again
			const base = "/base/realtime/v1"
			for _, cleaned := range []string{text, path.Clean(text), path.Clean(strings.ReplaceAll(text, "\\", "/"))} {
				if cleaned != base && !strings.HasPrefix(cleaned, base+"/") {
					t.Fatalf("%q was asked as %q, which is %q", line, out.Path, cleaned)
				}
			}
			decoded, err := url.PathUnescape(text)
			if err != nil {
				break
			}
			text = decoded
		}
	})
}
