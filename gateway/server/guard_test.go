package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/limits"
	"darkroom/gateway/server"
)

// open opens one more gateway over the database.
func (b *testBundle) open(set func(config *server.Config)) (*server.Server, error) {
	b.t.Helper()
	config := server.Config{
		DatabaseURL: b.pg.Login(b.t, "authenticator"), StorageURL: "file://" + b.t.TempDir(), ServiceKey: testKey, AnonKey: "a public key",
		JWTSecret: strings.Repeat("s", 32), Log: slog.New(slog.NewTextHandler(b.log, nil)),
	}
	set(&config)
	gateway, err := server.Open(b.t.Context(), config)
	if err == nil {
		b.t.Cleanup(func() { must(b.t, gateway.Close()) })
	}
	return gateway, err
}

// also serves one more gateway over the database.
func (b *testBundle) also(set func(config *server.Config)) *httptest.Server {
	b.t.Helper()
	gateway, err := b.open(set)
	must(b.t, err)
	web := httptest.NewServer(gateway)
	b.t.Cleanup(web.Close)
	return web
}

// userToken is a personal access token of the user.
func (b *testBundle) userToken() string {
	b.t.Helper()
	token, err := b.db.CreateAccessToken(b.t.Context(), "user", "test", 0, b.user)
	must(b.t, err)
	return token.Token
}

// S24. Through two gateways a key gets as many answers as through one, and 429 for the rest.
func TestS24TheLimitsHoldWithTwoGateways(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rate := limits.Rate{PerSecond: 40, Burst: 40}
	limited := func(config *server.Config) { config.Guard.Limits.Key = rate }
	gateways := []*httptest.Server{b.also(limited), b.also(limited)}
	token := b.userToken()
	const callers = 80 // more than may wait at two gateways
	var admitted, refused atomic.Int32
	var group sync.WaitGroup
	began := time.Now()
	for i := range callers {
		group.Go(func() {
			for time.Since(began) < 3*time.Second {
				got := do(t, http.MethodGet, gateways[i%2].URL+"/tasks/"+uuid.NewString(), "", "Authorization", "Bearer "+token)
				switch got.status {
				case http.StatusNotFound: // it was looked for
					admitted.Add(1)
				case http.StatusTooManyRequests:
					refused.Add(1)
					if got.header.Get("Retry-After") != "1" || got.json(t)["code"] != "GW012" {
						t.Errorf("%s, Retry-After %q", got.body, got.header.Get("Retry-After"))
					}
					time.Sleep(10 * time.Millisecond)
				default:
					t.Errorf("%d %s", got.status, got.body)
				}
			}
		})
	}
	group.Wait()
	most := rate.PerSecond*time.Since(began).Seconds() + float64(rate.Burst)
	t.Logf("admitted %d of at most %.0f, refused %d", admitted.Load(), most, refused.Load())
	if got := float64(admitted.Load()); got > most || got < most/3 || refused.Load() == 0 {
		t.Errorf("admitted %.0f, refused %d; at most %.0f were allowed", got, refused.Load(), most)
	}

	// What finishes a task comes through all the same, and so does the service.
	for range 20 {
		got := do(t, http.MethodPost, gateways[0].URL+"/functions/v1/complete-task", `{"task_id":"`+uuid.NewString()+`","output_location":"https://example.com/x.png"}`,
			"Authorization", "Bearer "+token)
		if got.status == http.StatusTooManyRequests {
			t.Fatal("a completion was refused")
		}
		if got := do(t, http.MethodGet, gateways[1].URL+"/tasks/"+uuid.NewString(), "", "Apikey", testKey); got.status != http.StatusNotFound {
			t.Fatalf("the service: %d %s", got.status, got.body)
		}
	}
}

// The limit of an address holds before it is known who calls, and so for those whom nobody knows, too.
func TestS24WrongKeysAreLimitedByAddress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	web := b.also(func(config *server.Config) { config.Guard.Limits.Address = limits.Rate{PerSecond: 0.01, Burst: 3} })
	for i := range 5 {
		want := http.StatusUnauthorized
		if i >= 3 {
			want = http.StatusTooManyRequests
		}
		if got := do(t, http.MethodGet, web.URL+"/tasks/x", "", "Apikey", fmt.Sprint("guess ", i)); got.status != want {
			t.Errorf("guess %d: %d %s", i, got.status, got.body)
		}
	}
	if got := do(t, http.MethodGet, web.URL+"/storage/v1/object/public/image_uploads/x.png", ""); got.status != 429 || got.json(t)["statusCode"] != "429" {
		t.Errorf("storage: %d %s", got.status, got.body)
	}
	if got := do(t, http.MethodGet, web.URL+"/healthz", ""); got.status != http.StatusOK {
		t.Errorf("health: %d", got.status)
	}
	if got := do(t, http.MethodGet, web.URL+"/tasks/"+uuid.NewString(), "", "Apikey", testKey); got.status != http.StatusNotFound {
		t.Errorf("the service: %d %s", got.status, got.body)
	}
}

// S25. The refusal of a COMMIT reaches the caller as it is.
func TestS25TooManyQueuedTasksIsA429(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.db.SetQueueLimit(t.Context(), b.user, 1)
	must(t, err)
	body := `{"project_id":"` + b.project.String() + `","tool_id":"image-generation","input":{"prompt":"x"}}`
	for _, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
		got := do(t, http.MethodPost, b.web.URL+"/functions/v1/create_task", body, "Authorization", "Bearer "+b.userToken())
		if got.status != want {
			t.Errorf("%d %s, want %d", got.status, got.body, want)
		}
		if want == http.StatusTooManyRequests {
			b.wantError(got, want, "TD011")
		}
	}
}

// S34. Pages of other origins get nothing unless theirs is named; and then errors too say that they may be read.
func TestS34OtherOriginsAreDeniedUnlessNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const app = "https://app.example.com"
	for _, test := range []struct {
		origins []string
		origin  string
		want    string
	}{
		{nil, app, ""},
		{[]string{app}, app, app},
		{[]string{"https://other.example.com", app}, app, app},
		{[]string{app}, "https://app.example.com.evil.example", ""},
		{[]string{app}, "https://evil.example/https://app.example.com", ""},
		{[]string{app}, "http://app.example.com", ""},
		{[]string{app}, "https://app.example.com:8443", ""},
		{[]string{app}, "https://sub.app.example.com", ""},
		{[]string{app}, "null", ""},
		{[]string{"*"}, "https://any.example", "*"},
		{[]string{"localhost"}, "http://localhost:5173", "http://localhost:5173"},
		{[]string{"localhost"}, "http://127.0.0.1:3000", "http://127.0.0.1:3000"},
		{[]string{"localhost"}, "http://localhost.evil.example", ""},
		{[]string{"localhost"}, "http://localhost:5173@evil.example", ""},
		{[]string{"localhost"}, app, ""},
	} {
		web := b.also(func(config *server.Config) { config.Guard.Origins = test.origins })
		preflight := do(t, http.MethodOptions, web.URL+"/rest/v1/tasks", "", "Origin", test.origin, "Access-Control-Request-Method", "PATCH",
			"Access-Control-Request-Headers", "apikey,authorization,content-type,x-client-info")
		refused := do(t, http.MethodGet, web.URL+"/tasks/x", "", "Origin", test.origin)
		for what, got := range map[string]answer{"a preflight": preflight, "an error": refused} {
			if allowed := got.header.Get("Access-Control-Allow-Origin"); allowed != test.want || got.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%v, %s from %s: allowed %q, want %q", test.origins, what, test.origin, allowed, test.want)
			}
			if !strings.Contains(strings.Join(got.header.Values("Vary"), ","), "Origin") {
				t.Errorf("%s does not vary by origin: %v", what, got.header)
			}
		}
		if preflight.status != http.StatusNoContent || refused.status != http.StatusUnauthorized {
			t.Errorf("%d, %d", preflight.status, refused.status)
		}
		if test.want == "" {
			continue
		}
		for _, name := range []string{ // supabase-surface, section 1, and what auth-js and functions send besides
			"authorization", "apikey", "content-type", "x-client-info", "prefer", "accept-profile", "content-profile", "range", "x-upsert", "x-metadata",
			"cache-control", "x-region", "x-retry-count", "traceparent", "x-supabase-api-version", "idempotency-key",
		} {
			if !strings.Contains(","+preflight.header.Get("Access-Control-Allow-Headers")+",", ","+name+",") {
				t.Errorf("%s may not be sent", name)
			}
		}
		for _, method := range []string{"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"} {
			if !strings.Contains(preflight.header.Get("Access-Control-Allow-Methods"), method) {
				t.Errorf("%s may not be sent", method)
			}
		}
		if exposed := refused.header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, "content-range") || !strings.Contains(exposed, "x-request-id") {
			t.Errorf("pages may read %q", exposed)
		}
	}
	for _, wrong := range []string{"app.example.com", "https://app.example.com/", "https://*.example.com", "ftp://x", "https://"} {
		if _, err := b.open(func(config *server.Config) { config.Guard.Origins = []string{wrong} }); err == nil || !strings.Contains(err.Error(), "DARKROOM_CORS_ORIGINS") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

// A preflight and a refusal of an address that is forwarded are the gateway's own.
func TestWhatIsNotServedHereIsForwarded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://old.example.com")
		body, _ := io.ReadAll(r.Body)
		json.NewEncoder(w).Encode(map[string]any{"uri": r.RequestURI, "key": r.Header.Get("Apikey"), "id": r.Header.Get("X-Request-ID"), "bytes": len(body)})
	}))
	t.Cleanup(behind.Close)
	const app = "https://app.example.com"
	web := b.also(func(config *server.Config) {
		config.Guard.Origins = []string{app}
		config.Guard.Limits.Address = limits.Rate{PerSecond: 0.01, Burst: 3}
		config.Upstream = server.Upstream{Project: behind.URL, Prefixes: []string{"/realtime/v1", "/graphql/v1"}}
	})
	large := strings.Repeat("x", 3<<20) // bodies of ours are smaller
	got := do(t, http.MethodPost, web.URL+"/graphql/v1?x=1", large, "Apikey", "their key", "Origin", app, "X-Request-Id", "mine")
	object := got.json(t)
	if got.status != http.StatusOK || object["uri"] != "/graphql/v1?x=1" || object["key"] != "their key" || object["id"] != "mine" || object["bytes"] != float64(len(large)) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if values := got.header.Values("Access-Control-Allow-Origin"); len(values) != 1 || values[0] != app {
		t.Errorf("allowed %q", values)
	}
	if got := do(t, http.MethodOptions, web.URL+"/graphql/v1", "", "Origin", app, "Access-Control-Request-Method", "POST"); got.status != http.StatusNoContent {
		t.Errorf("a preflight: %d %s", got.status, got.body)
	}
	b.wantError(do(t, http.MethodPost, web.URL+"/graphql/v1", "{}", "Apikey", testKey), http.StatusUnauthorized, "GW003")
	if got := do(t, http.MethodGet, web.URL+"/tasks/x", "", "Apikey", "their key"); got.status != http.StatusUnauthorized {
		t.Errorf("what is not forwarded: %d %s", got.status, got.body)
	}
	do(t, http.MethodGet, web.URL+"/graphql/v1", "")
	b.wantError(do(t, http.MethodGet, web.URL+"/graphql/v1", ""), http.StatusTooManyRequests, "GW012")

	for _, wrong := range []server.Upstream{{Project: "http://example.com"}, {Project: "https://example.com", Prefixes: []string{"x"}}, {REST: "http://example.com"}} {
		if _, err := b.open(func(config *server.Config) { config.Upstream = wrong }); err == nil {
			t.Errorf("%+v was taken", wrong)
		}
	}
}

// impatient serves a gateway that waits a second for headers and two for all of a request.
func (b *testBundle) impatient() (address string) {
	b.t.Helper()
	gateway, err := b.open(func(*server.Config) {})
	must(b.t, err)
	gateway.SetPatience(time.Second, 2*time.Second)
	ctx, cancel := context.WithCancel(b.t.Context())
	listener, err := server.Listen(ctx, "127.0.0.1:0")
	must(b.t, err)
	ended := make(chan error, 1)
	go func() { ended <- gateway.Serve(ctx, listener) }()
	b.t.Cleanup(func() {
		cancel()
		<-ended
	})
	return listener.Addr().String()
}

// S28. Whoever sends a request byte by byte is cut off, and others are served meanwhile.
func TestS28SlowRequestsAreCutOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	address := b.impatient()
	const soon = 10 * time.Second
	trickle := func(begin string) (answer string, took time.Duration) {
		conn, err := net.Dial("tcp", address)
		must(t, err)
		defer conn.Close()
		began := time.Now()
		_, err = io.WriteString(conn, begin)
		must(t, err)
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					if _, err := conn.Write([]byte("x")); err != nil {
						return
					}
				}
			}
		}()
		must(t, conn.SetReadDeadline(began.Add(soon)))
		text, err := io.ReadAll(conn)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			t.Errorf("%.30q was still heard after %s", begin, soon)
		}
		return string(text), time.Since(began)
	}
	var group sync.WaitGroup
	for range 30 {
		group.Go(func() {
			if answer, took := trickle("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "); strings.Contains(answer, "200") {
				t.Errorf("half a header: %q after %s", answer, took)
			}
		})
	}
	group.Go(func() {
		answer, _ := trickle("POST /functions/v1/create_task HTTP/1.1\r\nHost: x\r\nApikey: " + testKey + "\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n{")
		if strings.Contains(answer, " 200 ") {
			t.Errorf("half a body: %q", answer)
		}
	})
	time.Sleep(200 * time.Millisecond)
	began := time.Now()
	if got := do(t, http.MethodGet, "http://"+address+"/healthz", ""); got.status != http.StatusOK || time.Since(began) > soon/4 {
		t.Errorf("others: %d after %s", got.status, time.Since(began))
	}
	group.Wait()
}

// S28. Headers, the address among them, have 64 KiB.
func TestS28LargeHeadersAndAddressesAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	address := b.impatient()
	const size = 70 << 10
	for what, head := range map[string]string{
		"one header":   "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: " + strings.Repeat("x", size) + "\r\n\r\n",
		"many headers": "GET /healthz HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", size/6) + "\r\n",
		"the address":  "GET /healthz?" + strings.Repeat("x", size) + " HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", address)
		must(t, err)
		go io.WriteString(conn, head)
		must(t, conn.SetReadDeadline(time.Now().Add(patience)))
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // it goes with the connection
		if err != nil || answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %v, %v", what, answer, err)
		}
		conn.Close()
	}
}

// A password can be tried ten times, by whomever: S24, and what guessing needs. The service signs in for others and has no limit.
func TestS24PasswordsCannotBeGuessed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	web := b.also(func(*server.Config) {})
	try := func(pairs ...string) answer {
		return do(t, http.MethodPost, web.URL+"/auth/v1/token?grant_type=password", `{"email":"alice@example.com","password":"a guess, no more"}`, pairs...)
	}
	for range 10 {
		if got := try(); got.status != http.StatusBadRequest || got.json(t)["error_code"] != "invalid_credentials" {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	got := try("Apikey", "a public key")
	if got.status != http.StatusTooManyRequests || got.json(t)["error_code"] != "over_request_rate_limit" || got.header.Get("Retry-After") == "" {
		t.Errorf("the eleventh: %d %s, Retry-After %q", got.status, got.body, got.header.Get("Retry-After"))
	}
	if got := try("Apikey", testKey); got.status != http.StatusBadRequest {
		t.Errorf("the service: %d %s", got.status, got.body)
	}
}

func TestAllOfRestCanBeHandedToAPostgREST(t *testing.T) {
	t.Parallel()
	b := setup(t)
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, token, _ := strings.Cut(r.Header.Get("Authorization"), "Bearer ")
		json.NewEncoder(w).Encode(map[string]any{"uri": r.RequestURI, "jwt": strings.Count(token, ".") == 2, "apikey": r.Header.Get("Apikey")})
	}))
	t.Cleanup(behind.Close)
	web := b.also(func(config *server.Config) { config.Upstream.REST = behind.URL })
	for path, want := range map[string]string{
		"/rest/v1/tasks?select=id,generations(*)": "/tasks?select=id,generations(*)", "/rest/v1/rpc/get_task": "/rpc/get_task", "/rest/v1/": "/",
	} {
		got := do(t, http.MethodGet, web.URL+path, "", "Apikey", b.userToken())
		object := got.json(t)
		if got.status != http.StatusOK || object["uri"] != want || object["jwt"] != true || object["apikey"] != "" {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := do(t, http.MethodGet, web.URL+"/rest/v1/tasks", ""); got.status != http.StatusUnauthorized {
		t.Errorf("nobody: %d %s", got.status, got.body)
	}
	if got := do(t, http.MethodGet, web.URL+"/healthz", ""); got.status != http.StatusOK {
		t.Errorf("health: %d", got.status)
	}
}
