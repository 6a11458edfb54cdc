package security_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"darkroom/gateway/server"
)

// Secrets of the gateway that the tests start. Each is a canary: it may never be answered, logged or stored.
const (
	serviceKey = "canary-service-key-0123456789"
	jwtSecret  = "canary-jwt-secret-0123456789-0123456789"
	anonKey    = "public-anon-key-0123456789"
	password   = "canary-Password-1!"
)

// site is a gateway over a lab.
type site struct {
	*lab
	gateway *server.Server
	web     *httptest.Server
	log     *lockedBuffer
}

type lockedBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{lab: newLab(t), log: &lockedBuffer{}}
	s.must(server.Migrate(t.Context(), s.pg.URL))
	var err error
	s.gateway, err = server.Open(t.Context(), server.Config{
		DatabaseURL: s.pg.Login(t, "authenticator"), StorageURL: "file://" + t.TempDir(), ServiceKey: serviceKey, JWTSecret: jwtSecret, AnonKey: anonKey,
		SignUp: true, Log: slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	s.must(err)
	s.web = httptest.NewServer(s.gateway)
	t.Cleanup(func() {
		s.web.Close()
		s.must(s.gateway.Close())
	})
	return s
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (s *site) send(method, path, key, body string, headers ...string) reply {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.web.URL+path, strings.NewReader(body))
	s.must(err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	s.must(err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	s.must(err)
	return reply{response.StatusCode, response.Header, string(data)}
}

// accessToken is one as another issuer with the same secret makes it.
func accessToken(claims map[string]any) string {
	part := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	text := part(map[string]string{"alg": "HS256", "typ": "JWT"}) + "." + part(claims)
	mac := hmac.New(sha256.New, []byte(jwtSecret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (s *site) tokenOf(who person) string {
	return accessToken(map[string]any{"role": "authenticated", "aud": "authenticated", "sub": who.id, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()})
}

// documented is what is used of an OpenAPI file.
type documented struct {
	Paths map[string]map[string]any `yaml:"paths"`
}

var (
	parameter = regexp.MustCompile(`:(\w+)`)
	methods   = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
)

// TestS40RoutesAreDocumented: "No unused endpoints: the route list equals the documented OpenAPI list." Routes that take any method to refuse it, with a
// star at the end, are the words in which a surface says that it has nothing there.
func TestS40RoutesAreDocumented(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var file documented
	s.must(yaml.Unmarshal([]byte(read(t, "gateway/openapi.yaml")), &file))
	described := map[string]bool{}
	for path, operations := range file.Paths {
		for method := range operations {
			if name := strings.ToUpper(method); slices.Contains(methods, name) {
				described[name+" "+path] = true
			}
		}
	}
	served, anyMethod := map[string]bool{}, map[string]int{}
	for _, route := range s.gateway.Routes() {
		anyMethod[route.Path]++
	}
	for _, route := range s.gateway.Routes() {
		// A path under which every method is answered is described by the methods that do something; the rest is refused there.
		if route.Method == "echo_route_not_found" || !slices.Contains(methods, route.Method) {
			continue
		}
		path := strings.Replace(parameter.ReplaceAllString(route.Path, "{$1}"), "*", "{key}", 1)
		name := route.Method + " " + path
		if anyMethod[route.Path] >= 6 && !described[name] && (strings.HasSuffix(path, "{key}") || strings.HasPrefix(path, "/rest/v1") || path == "/storage/v1") {
			continue
		}
		served[name] = true
		if !described[name] {
			t.Errorf("not in gateway/openapi.yaml: %s", name)
		}
	}
	for name := range described {
		if !served[name] {
			t.Errorf("in gateway/openapi.yaml, and not served: %s", name)
		}
	}
	if len(served) < 20 {
		t.Errorf("only %d routes were looked at", len(served))
	}
}

// TestS29NoSecretAnywhere: "No token, key, signed URL or DSN password appears in logs, errors, traces or events (canary grep over all outputs of the whole
// suite)." The gateway gets secrets that can be told from all else, and good and bad requests at every surface; then everything that it logged, answered
// and stored is searched. TestS30 is held here as well: no answer has SQL or a stack in it.
func TestS29NoSecretAnywhere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	signed := s.send(http.MethodPost, "/auth/v1/signup", anonKey, fmt.Sprintf(`{"email":"canary@example.com","password":%q}`, password), "apikey", anonKey)
	var session struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	s.must(json.Unmarshal([]byte(signed.body), &session))
	if session.Access == "" || session.Refresh == "" {
		t.Fatalf("sign-up: %d %s", signed.status, signed.body)
	}
	made := s.send(http.MethodPost, "/rest/v1/rpc/create_access_token", session.Access, `{"scope":"worker"}`)
	pat := regexp.MustCompile(`dr_worker_[0-9a-f]{60,}`).FindString(made.body)
	if pat == "" {
		t.Fatalf("create_access_token: %d %s", made.status, made.body)
	}
	a := s.tokenOf(s.a)
	key := s.a.id.String() + "/x.png"
	uploaded := s.send(http.MethodPost, "/storage/v1/object/image_uploads/"+key, a, onePixel, "Content-Type", "image/png")
	link := s.send(http.MethodPost, "/storage/v1/object/sign/image_uploads/"+key, a, `{"expiresIn":60}`)
	urlToken := regexp.MustCompile(`token=([^"&]+)`).FindStringSubmatch(link.body)
	if uploaded.status != http.StatusOK || len(urlToken) != 2 {
		t.Fatalf("upload %d %s, signing %d %s", uploaded.status, uploaded.body, link.status, link.body)
	}
	secrets := map[string]string{
		"service key": serviceKey, "JWT secret": jwtSecret, "password": password, "access token": session.Access, "refresh token": session.Refresh,
		"personal access token": pat, "signed URL": urlToken[1], "A's token": a,
	}
	// What answers these may hold: the secret is made there.
	answers := []string{}
	keys := []string{"", serviceKey, anonKey, session.Access, pat, a, a + "x", "dr_user_" + strings.Repeat("0", 64), "canary-service-key-wrong"}
	requests := 0
	for _, key := range keys {
		for _, route := range s.gateway.Routes() {
			if !slices.Contains(methods, route.Method) || strings.HasPrefix(route.Path, "/auth/v1/token") || strings.HasPrefix(route.Path, "/auth/v1/signup") {
				continue
			}
			path := strings.NewReplacer(":name", "tasks", ":id", s.queued.String(), ":bucket", "image_uploads", "*", s.a.id.String()+"/x.png").Replace(route.Path)
			for _, body := range []string{"", `{"task_id":"x","params":{"\u0000":1}}`, `{"broken`} {
				got := s.send(route.Method, path+"?select=nothing&token="+urlToken[1], key, body, "X-Request-ID", "r")
				requests++
				if strings.Contains(route.Path, "/sign") && got.status == http.StatusOK {
					continue // it signs
				}
				answers = append(answers, fmt.Sprintf("%s %s: %d %v %s", route.Method, path, got.status, got.header, got.body))
			}
		}
	}
	for _, body := range []string{`{"email":"canary@example.com","password":"wrong"}`, fmt.Sprintf(`{"email":"nobody@example.com","password":%q}`, password), `{"refresh_token":"wrong"}`, `{`} {
		for _, grant := range []string{"password", "refresh_token", "none"} {
			got := s.send(http.MethodPost, "/auth/v1/token?grant_type="+grant, "", body, "apikey", anonKey)
			answers = append(answers, got.body)
			requests++
		}
	}
	for _, call := range []string{"create_task", "claim_next_task", "complete_task", "update-task-status", "nothing'; drop table tasks"} {
		for _, key := range keys {
			for _, body := range []string{`{"project_id":"` + s.a.project.String() + `","task_type":"single_image","params":{"prompt":"x"}}`, `{"worker_id":"w"}`, `{"task_id":"` + s.queued.String() + `"}`} {
				got := s.send(http.MethodPost, "/functions/v1/"+strings.ReplaceAll(call, " ", "%20"), key, body)
				answers = append(answers, got.body)
				requests++
			}
		}
	}

	places := map[string]string{"the log": s.log.String(), "an answer": strings.Join(answers, "\n")}
	for _, table := range []string{"darkroom.task_events", "darkroom.audit_log", "public.tasks", "public.workers", "public.users", "darkroom.access_tokens", "darkroom.sessions", "darkroom.uploads", "darkroom.rate_buckets"} {
		places[table] = value[string](s.lab, "select coalesce(string_agg(t::text, E'\\n'), '') from "+table+" t")
	}
	for place, text := range places {
		for name, secret := range secrets {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s holds the %s: %.300s", place, name, text[max(0, at-200):])
			}
		}
	}
	for _, answer := range answers {
		if found := regexp.MustCompile(`(?i)goroutine \d|\.go:\d+|PL/pgSQL function|select \* from|darkroom\.\w+\(|pgx|/work/|panic`).FindString(answer); found != "" {
			t.Errorf("an answer tells %q: %.300s", found, answer)
		}
	}
	if requests < 300 || len(places["the log"]) < 1000 {
		t.Errorf("only %d requests were made, and %d bytes logged", requests, len(places["the log"]))
	}
	t.Logf("%d requests, %d kB of answers, %d kB of log", requests, len(places["an answer"])>>10, len(places["the log"])>>10)
}

// onePixel is a PNG.
var onePixel = string(func() []byte {
	data, err := base64.StdEncoding.DecodeString("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
	if err != nil {
		panic(err)
	}
	return data
}())

// TestS35SecurityHeaders: "Security headers everywhere; cache-control on private media".
func TestS35SecurityHeaders(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.tokenOf(s.a)
	key := s.a.id.String() + "/x.png"
	if got := s.send(http.MethodPost, "/storage/v1/object/image_uploads/"+key, a, onePixel, "Content-Type", "image/png"); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for _, path := range []string{
		"/healthz", "/readyz", "/nothing", "/rest/v1/tasks", "/rest/v1/nothing", "/functions/v1/x", "/auth/v1/user", "/auth/v1/settings", "/storage/v1/bucket",
		"/storage/v1/object/image_uploads/" + key, "/storage/v1/object/authenticated/image_uploads/" + key, "/storage/v1/object/public/image_uploads/" + key, "/tasks/x",
		"/", "/p/x", "/assets/nothing.js", "/config.json",
	} {
		for _, who := range []string{"", a} {
			got := s.send(http.MethodGet, path, who, "")
			// A picture runs nothing: its type is one of an allow-list, told by its bytes, and what is on no list is sent as an attachment.
			picture := got.status == http.StatusOK && strings.HasPrefix(path, "/storage/v1/object/") && got.header.Get("Content-Type") == "image/png"
			if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Content-Security-Policy") == "" && !picture || got.header.Get("X-Request-ID") == "" {
				t.Errorf("%s: %v", path, got.header)
			}
			if got.header.Get("Set-Cookie") != "" {
				t.Errorf("%s sets a cookie", path)
			}
			cache := got.header.Get("Cache-Control")
			page := path == "/" || path == "/p/x"
			if page && (cache != "no-cache" || !strings.Contains(got.header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'; ")) {
				t.Errorf("the page: %v", got.header)
			}
			if public := page || strings.Contains(path, "/object/public/") && got.status == http.StatusOK; !public && !strings.Contains(cache, "no-store") && !strings.Contains(cache, "private") {
				t.Errorf("%s (%d): Cache-Control %q", path, got.status, cache)
			}
		}
	}
}
