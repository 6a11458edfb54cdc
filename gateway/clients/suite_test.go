package clients_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/server"
)

// environment is what the suites of testdata are told.
type environment struct {
	URL         string           `json:"url"`
	Breaker     string           `json:"breaker"` // cuts all connections to the gateway when asked by POST
	JWTSecret   string           `json:"jwtSecret"`
	Newest      bool             `json:"newest"` // which version of the client
	AnonKey     string           `json:"anonKey"`
	WorkerToken string           `json:"workerToken"` // runs everybody's tasks
	Unknown     string           `json:"unknown"`     // an id of nothing
	Users       map[string]login `json:"users"`       // ada and bob have 100 credits, cleo none
}

type login struct {
	ID       string `json:"id"`
	Email    string `json:"email"`
	Password string `json:"password"`
	Project  string `json:"project"`
	Shot     string `json:"shot"`
}

// result is what the suite reports of a step.
type result struct {
	Name  string  `json:"name"`
	Fault *string `json:"fault"`
	End   bool    `json:"end"` // all steps were made
}

// Keys of the tests.
const (
	serviceKey = "service key of the tests, long enough"
	anonKey    = "public key of the tests, long enough"
	jwtSecret  = "secret of the tests, at least 32 bytes long"
)

// gateway starts a gateway over the world's database and a folder, and returns its address.
func (w *world) gateway() string {
	w.t.Helper()
	must(w.t, server.Migrate(w.t.Context(), w.pg.URL))
	log := &bytes.Buffer{}
	gateway, err := server.Open(w.t.Context(), server.Config{
		DatabaseURL: w.pg.Login(w.t, "authenticator"), StorageURL: "file://" + w.t.TempDir(), ServiceKey: serviceKey, AnonKey: anonKey, JWTSecret: jwtSecret, SignUp: true, Guard: server.Guard{Origins: []string{"localhost"}},
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	must(w.t, err)
	for _, route := range gateway.Routes() {
		w.routes = append(w.routes, route.Path)
	}
	web := httptest.NewServer(gateway)
	w.t.Cleanup(func() {
		web.Close()
		must(w.t, gateway.Close())
		if w.t.Failed() {
			w.t.Logf("the gateway's log:\n%s", log)
		}
	})
	return web.URL
}

// serves reports whether the gateway that was started has a route of that path.
func (w *world) serves(path string) bool { return slices.Contains(w.routes, path) }

// environment starts a gateway and signs the users up.
func (w *world) environment(newest bool) environment {
	w.t.Helper()
	between := newProxy(w.t, strings.TrimPrefix(w.gateway(), "http://"))
	breaker := httptest.NewServer(between)
	w.t.Cleanup(breaker.Close)
	env := environment{
		URL: "http://" + between.address(), Breaker: breaker.URL, JWTSecret: jwtSecret, Newest: newest, AnonKey: anonKey, Unknown: unknown, Users: map[string]login{},
	}
	env.WorkerToken = w.tokenOf("gpu", "worker", "").bearer
	for name, credits := range map[string]int64{"ada": 100, "bob": 100, "cleo": 0} {
		user := login{Email: name + "@app.example.com", Password: uuid.NewString()}
		request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, env.URL+"/auth/v1/signup", bytes.NewReader(mustJSON(args{"email": user.Email, "password": user.Password})))
		must(w.t, err)
		request.Header.Set("Apikey", anonKey)
		response, err := http.DefaultClient.Do(request)
		must(w.t, err)
		var answer struct {
			User struct{ ID string }
		}
		err = json.NewDecoder(response.Body).Decode(&answer)
		response.Body.Close()
		if err != nil || answer.User.ID == "" {
			w.t.Fatalf("sign-up: %s: %v", response.Status, err)
		}
		p := w.personWith(answer.User.ID, name, credits)
		user.ID, user.Project, user.Shot = p.id, p.project, p.shot
		env.Users[name] = user
	}
	return env
}

// tell makes a subtest of a step.
func tell(t *testing.T, r result) {
	t.Helper()
	t.Run(r.Name, func(t *testing.T) {
		if r.Fault != nil {
			t.Error(*r.Fault)
		}
	})
}

// versions are the folders of testdata with a client.
var versions = []string{"old", "new"}

func TestUnmodifiedClientsInNode(t *testing.T) { inNode(t, "suite.mjs") }

// inNode runs a suite of testdata in Node with both clients.
func inNode(t *testing.T, suite string) {
	t.Helper()
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			folder := packages(t, version)
			w := newWorld(t)
			node := exec.CommandContext(t.Context(), "node", "testdata/node.mjs", folder, suite)
			node.Stdin = bytes.NewReader(mustJSON(w.environment(version == "new")))
			node.WaitDelay = time.Second
			var stderr bytes.Buffer
			node.Stderr = &stderr
			stdout, err := node.StdoutPipe()
			must(t, err)
			must(t, node.Start())
			ended := false
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				var r result
				if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
					t.Errorf("node says %q", lines.Text())
				} else if ended = r.End; !ended {
					tell(t, r)
				}
			}
			if err := node.Wait(); err != nil || !ended {
				t.Errorf("node ended early: %v\n%s", err, strings.TrimSpace(stderr.String()))
			}
			w.healthy()
		})
	}
}
