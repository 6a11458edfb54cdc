package upstream_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
	"darkroom/gateway/upstream"
)

const (
	serviceKey = "our service key, which stays here"
	pat        = "dr_worker_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	userToken  = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl" // a JWT of the project's own
)

// behind is a server that answers what it was asked.
type behind struct {
	*httptest.Server

	t *testing.T
}

// asked is what a server behind was asked.
type asked struct {
	Method, URI, Host, Body string
	Header                  http.Header
}

func newBehind(t *testing.T) *behind {
	t.Helper()
	b := &behind{t: t}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/websocket"):
			b.echoes(w, r)
		case strings.HasSuffix(r.URL.Path, "/stream"):
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 2 {
				fmt.Fprintf(w, "data: %d\n\n", i)
				w.(http.Flusher).Flush()
				<-r.Context().Done() // the second only comes when nobody reads
			}
		case strings.HasSuffix(r.URL.Path, "/moved"):
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
		case strings.HasSuffix(r.URL.Path, "/broken"):
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
		default:
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("X-Request-ID", "theirs")
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Range", "0-1/2")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.WriteHeader(http.StatusMultiStatus)
			json.NewEncoder(w).Encode(asked{r.Method, r.RequestURI, r.Host, string(body), r.Header})
		}
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *behind) echoes(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	for {
		kind, text, err := conn.Read(r.Context())
		if err != nil || conn.Write(r.Context(), kind, append([]byte(r.URL.RawQuery+" "), text...)) != nil {
			return
		}
	}
}

// newGateway is an Echo with a Project before a door of its own.
func newGateway(t *testing.T, address string, prefixes ...string) *httptest.Server {
	t.Helper()
	project, err := upstream.NewProject(address, prefixes, serviceKey, slog.New(slog.DiscardHandler))
	must(t, err)
	return serve(t, func(e *echo.Echo) {
		e.Use(project.Middleware)
		e.Any("/*", func(c echo.Context) error { return c.String(http.StatusTeapot, "ours") })
	})
}

func serve(t *testing.T, routes func(e *echo.Echo)) *httptest.Server {
	t.Helper()
	e := echo.New()
	e.IPExtractor = echo.ExtractIPDirect()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		p := problem.From(err)
		problem.Write(c, slog.New(slog.DiscardHandler), err, problem.Status(p.Code), problem.Shape(c.Request().URL.Path, problem.Status(p.Code), p))
	}
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			h := c.Response().Header()
			h.Set("X-Request-ID", "ours-1")
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Cache-Control", "no-store")
			h.Set("Access-Control-Allow-Origin", "https://app.example.com")
			return next(c)
		}
	})
	routes(e)
	web := httptest.NewServer(e)
	t.Cleanup(web.Close)
	return web
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type reply struct {
	StatusCode int
	Header     http.Header
}

// ask sends a request with headers and returns the answer and its body.
func ask(t *testing.T, method, target, body string, header ...string) (reply, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	must(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(r)
	must(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	return reply{answer.StatusCode, answer.Header}, string(text)
}

func TestAPrefixIsForwardedAsItIs(t *testing.T) {
	t.Parallel()
	b := newBehind(t)
	web := newGateway(t, b.URL, "/auth/v1", "/functions/v1/my-own")
	answer, text := ask(t, http.MethodPatch, web.URL+"/auth/v1/user/a%2Fb%20c?x=1&y=%26", `{"a":1}`, "Authorization", "Bearer "+userToken, "Apikey", "sb_publishable_x",
		"X-Client-Info", "supabase-js/2", "Connection", "X-Hop", "X-Hop", "1", "X-Forwarded-For", "198.51.100.9", "X-Forwarded-Host", "evil.example", "Prefer", "return=minimal")
	var got asked
	must(t, json.Unmarshal([]byte(text), &got))
	host := strings.TrimPrefix(b.URL, "http://")
	if got.Method != http.MethodPatch || got.URI != "/auth/v1/user/a%2Fb%20c?x=1&y=%26" || got.Body != `{"a":1}` || got.Host != host {
		t.Errorf("asked %+v", got)
	}
	for name, want := range map[string]string{
		"Authorization": "Bearer " + userToken, "Apikey": "sb_publishable_x", "X-Client-Info": "supabase-js/2", "Prefer": "return=minimal",
		"X-Request-Id": "ours-1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": strings.TrimPrefix(web.URL, "http://"), "X-Forwarded-Proto": "http", "X-Hop": "",
	} {
		if got.Header.Get(name) != want {
			t.Errorf("the server behind was sent %s: %q, want %q", name, got.Header.Get(name), want)
		}
	}
	if answer.StatusCode != http.StatusMultiStatus {
		t.Errorf("status %d", answer.StatusCode)
	}
	for name, want := range map[string]string{
		"X-Request-Id": "ours-1", "Access-Control-Allow-Origin": "https://app.example.com", "Cache-Control": "max-age=60", "Content-Range": "0-1/2",
		"X-Content-Type-Options": "nosniff",
	} {
		if values := answer.Header.Values(name); len(values) != 1 || values[0] != want {
			t.Errorf("%s: %q, want %q once", name, values, want)
		}
	}

	for path, forwarded := range map[string]bool{
		"/auth/v1": true, "/auth/v1/": true, "/auth/v1x": false, "/auth": false, "/rest/v1/tasks": false, "/functions/v1/my-own": true, "/functions/v1/my-own/x": true,
		"/functions/v1/my-own-2": false, "/functions/v1/create_task": false, "/auth%2Fv1/user": false,
	} {
		if answer, _ := ask(t, http.MethodGet, web.URL+path, ""); (answer.StatusCode == http.StatusMultiStatus) != forwarded {
			t.Errorf("%s: %d, want it forwarded: %v", path, answer.StatusCode, forwarded)
		}
	}
}

func TestOurKeysNeverGoOut(t *testing.T) {
	t.Parallel()
	b := newBehind(t)
	web := newGateway(t, b.URL, "/realtime/v1")
	for _, header := range [][]string{
		{"Authorization", "Bearer " + serviceKey},
		{"Authorization", "bearer  " + serviceKey},
		{"Apikey", serviceKey},
		{"Apikey", serviceKey, "Authorization", "Bearer " + userToken},
		{"Authorization", "Bearer " + pat},
		{"Apikey", "dr_user_" + pat[10:]},
		{"X-Custom", "token=" + pat},
		{"Cookie", "token=" + pat},
	} {
		answer, text := ask(t, http.MethodGet, web.URL+"/realtime/v1/x", "", header...)
		if answer.StatusCode != http.StatusUnauthorized || !strings.Contains(text, "GW003") || strings.Contains(text, "dr_") {
			t.Errorf("%v: %d %s", header, answer.StatusCode, text)
		}
	}
	for _, query := range []string{"apikey=" + pat, "apikey=" + url.QueryEscape(serviceKey), "x=%64r_worker_" + pat[10:]} {
		if answer, text := ask(t, http.MethodGet, web.URL+"/realtime/v1/x?"+query, ""); answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", query, answer.StatusCode, text)
		}
	}
	if answer, _ := ask(t, http.MethodGet, web.URL+"/realtime/v1/"+pat, ""); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("in the path: %d", answer.StatusCode)
	}
}

func TestWebSocketsAndStreamsPassThrough(t *testing.T) {
	t.Parallel()
	b := newBehind(t)
	web := newGateway(t, b.URL, "/realtime/v1")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(web.URL, "http")+"/realtime/v1/websocket?apikey=sb_publishable_x&vsn=2.0.0", nil) //nolint:bodyclose // websocket leaves nothing to close
	must(t, err)
	defer conn.CloseNow()
	for _, text := range []string{"one", strings.Repeat("long", 5000)} {
		must(t, conn.Write(ctx, websocket.MessageText, []byte(text)))
		_, got, err := conn.Read(ctx)
		if want := "apikey=sb_publishable_x&vsn=2.0.0 " + text; err != nil || string(got) != want {
			t.Fatalf("%.60s, %v; want %.60s", got, err, want)
		}
	}

	r, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL+"/realtime/v1/stream", nil)
	must(t, err)
	answer, err := http.DefaultClient.Do(r)
	must(t, err)
	defer answer.Body.Close()
	first := make([]byte, len("data: 0\n\n"))
	if _, err := io.ReadFull(answer.Body, first); err != nil || string(first) != "data: 0\n\n" {
		t.Errorf("the begin of a stream: %q, %v", first, err)
	}
}

func TestAServerBehindThatDoesNotAnswerIsABadGateway(t *testing.T) {
	t.Parallel()
	b := newBehind(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	gone := "http://" + listener.Addr().String()
	listener.Close()
	for address, path := range map[string]string{gone: "/realtime/v1/x", b.URL: "/realtime/v1/broken"} {
		answer, text := ask(t, http.MethodPost, newGateway(t, address, "/realtime/v1").URL+path, "{}")
		if answer.StatusCode != http.StatusBadGateway || !strings.Contains(text, "GW013") || strings.Contains(text, "127.0.0.1") {
			t.Errorf("%s%s: %d %s", address, path, answer.StatusCode, text)
		}
	}
	answer, _ := ask(t, http.MethodGet, newGateway(t, b.URL, "/realtime/v1").URL+"/realtime/v1/moved", "")
	if answer.StatusCode != http.StatusFound {
		t.Errorf("a redirect was followed: %d", answer.StatusCode)
	}
}

func TestAddressesOfServersBehind(t *testing.T) {
	t.Parallel()
	signer, err := identity.NewSigner(identity.Settings{JWTSecret: jwtSecret})
	must(t, err)
	for address, want := range map[string][2]bool{ // of a project, of a PostgREST
		"https://abcdefgh.supabase.co":         {true, true},
		"https://abcdefgh.supabase.co/prefix/": {true, true},
		"http://127.0.0.1:54321":               {true, true},
		"http://localhost:54321":               {true, true},
		"http://[::1]:54321":                   {true, true},
		"http://10.0.0.5:3000":                 {false, true},
		"http://postgrest:3000":                {false, true},
		"http://abcdefgh.supabase.co":          {false, false},
		"http://192.0.2.1:3000":                {false, false},
		"https://user:pass@example.com":        {false, false},
		"https://example.com?x=1":              {false, false},
		"https://example.com#x":                {false, false},
		"https://example.com/a/../b":           {false, false},
		"https://":                             {false, false},
		"ftp://example.com":                    {false, false},
		"file:///etc/passwd":                   {false, false},
		"example.com":                          {false, false},
		"http://localhost.evil.example:80":     {false, false},
		"":                                     {false, false},
	} {
		_, project := upstream.NewProject(address, upstream.DefaultPrefixes(), serviceKey, slog.New(slog.DiscardHandler))
		_, rest := upstream.NewPostgREST(address, signer, slog.New(slog.DiscardHandler))
		if (project == nil) != want[0] || (rest == nil) != want[1] {
			t.Errorf("%q: %v, %v; want %v", address, project, rest, want)
		}
	}
	for _, prefix := range []string{"", "/", "auth/v1", "/auth/v1/", "/auth/../rest", "/auth%2Fv1", "/auth?x", "https://example.com/x"} {
		if _, err := upstream.NewProject("https://example.com", []string{prefix}, serviceKey, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("the prefix %q was taken", prefix)
		}
	}
}
