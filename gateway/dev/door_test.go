package dev

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
)

// newDoor returns a door with one worker, a script that has started another process, whose id it has written into the file child.
func newDoor(t *testing.T) (d *door, w *worker, child string) {
	t.Helper()
	folder := t.TempDir()
	child = filepath.Join(folder, "child")
	script := filepath.Join(folder, "worker")
	text := "#!/bin/sh\nsleep 600 &\necho $! >child.new\nmv child.new child\nwait\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(folder)
	w = &worker{id: "local-1", path: script, log: filepath.Join(folder, "log")}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.kill() })
	d = &door{}
	d.crew.add(w)
	d.lines.Store(&lines{PSQL: "psql …", Curl: "curl …"})
	return d, w, child
}

// ask sends a request that the Verifier has found to be of that role.
func ask(d *door, role identity.Role, method, target string, header http.Header) *httptest.ResponseRecorder {
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		p := problem.From(err)
		_ = c.JSON(problem.Status(p.Code), p)
	}
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			identity.Set(c, identity.Identity{Role: role})
			return next(c)
		}
	})
	d.Routes(e)
	request := httptest.NewRequest(method, target, nil)
	maps.Copy(request.Header, header)
	recorder := httptest.NewRecorder()
	e.ServeHTTP(recorder, request)
	return recorder
}

func TestTheDoorIsForSignedInPeopleOnPagesOfThisMachine(t *testing.T) {
	d, w, _ := newDoor(t)
	const kill, own = "/dev/workers/local-1/kill", "http://127.0.0.1:8484"
	for name, c := range map[string]struct {
		role   identity.Role
		target string
		header http.Header
	}{
		"nobody":                          {"", own + kill, nil},
		"the public key":                  {identity.Anon, own + kill, nil},
		"a worker's token":                {identity.Worker, own + kill, nil},
		"another site":                    {identity.Authenticated, own + kill, http.Header{"Origin": {"https://evil.example"}}},
		"another page of this machine":    {identity.Authenticated, own + kill, http.Header{"Origin": {"http://127.0.0.1:3000"}}},
		"the same name by another scheme": {identity.Authenticated, own + kill, http.Header{"Origin": {"https://127.0.0.1:8484"}}},
		"a page without an origin":        {identity.Authenticated, own + kill, http.Header{"Origin": {"null"}}},
		"two origins":                     {identity.Authenticated, own + kill, http.Header{"Origin": {own, "https://evil.example"}}},
		"a name that leads here":          {identity.Authenticated, "http://evil.example:8484" + kill, http.Header{"Origin": {"http://evil.example:8484"}}},
		"a name like ours":                {identity.Service, "http://127.0.0.1.evil.example" + kill, nil},
		"an address of the network":       {identity.Service, "http://192.0.2.7:8484" + kill, nil},
	} {
		for method, target := range map[string]string{http.MethodPost: c.target, http.MethodGet: strings.Replace(c.target, kill, "/dev/info", 1)} {
			if got := ask(d, c.role, method, target, c.header); got.Code != http.StatusForbidden || !strings.Contains(got.Body.String(), "TD041") {
				t.Errorf("%s: %s answers %d %s", name, method, got.Code, got.Body)
			}
		}
	}
	if !w.state().Alive {
		t.Error("somebody has killed the worker")
	}
	if got := ask(d, identity.Service, http.MethodPost, own+"/dev/workers/local-2/kill", nil); got.Code != http.StatusNotFound {
		t.Errorf("an unknown worker: %d %s", got.Code, got.Body)
	}
	for _, host := range []string{"localhost", "localhost:8484", "127.0.0.1:8484", "[::1]:8484"} {
		got := ask(d, identity.Authenticated, http.MethodGet, "http://"+host+"/dev/info", http.Header{"Origin": {"http://" + host}})
		if got.Code != http.StatusOK {
			t.Errorf("%s: %d %s", host, got.Code, got.Body)
		}
	}
}

func TestTheDoorKillsAWorkerWithWhatItStarted(t *testing.T) {
	d, w, file := newDoor(t)
	var text []byte
	for deadline := time.Now().Add(time.Minute); len(text) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the worker has started nothing")
		}
		text, _ = os.ReadFile(file)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	before := w.state()
	info := func() (seen struct {
		PSQL, Curl string
		Workers    []workerState
	},
	) {
		got := ask(d, identity.Authenticated, http.MethodGet, "http://localhost/dev/info", nil)
		if err := json.Unmarshal(got.Body.Bytes(), &seen); err != nil {
			t.Fatal(err)
		}
		return seen
	}
	if got := info(); got.PSQL != "psql …" || got.Curl != "curl …" || !reflect.DeepEqual(got.Workers, []workerState{{"local-1", before.PID, true}}) {
		t.Errorf("before: %+v", got)
	}

	got := ask(d, identity.Authenticated, http.MethodPost, "http://localhost/dev/workers/local-1/kill", nil)
	var killed workerState
	if err := json.Unmarshal(got.Body.Bytes(), &killed); err != nil || got.Code != http.StatusAccepted || killed.ID != "local-1" || killed.PID != before.PID {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if !wasKilled(w.err) {
		t.Errorf("it ended by %v", w.err)
	}
	for deadline := time.Now().Add(time.Minute); syscall.Kill(child, 0) == nil && !isZombie(child); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what the worker started is still there")
		}
	}
	if got := info(); got.Workers[0].Alive {
		t.Errorf("after: %+v", got)
	}
	if got := ask(d, identity.Authenticated, http.MethodPost, "http://localhost/dev/workers/local-1/kill", nil); got.Code != http.StatusServiceUnavailable {
		t.Errorf("killed twice: %d %s", got.Code, got.Body)
	}
}

// isZombie reports whether a process has ended, and nobody has asked how: its new parent may be one that does not ask.
func isZombie(pid int) bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && regexp.MustCompile(`\) Z `).Match(text)
}

// TestTheRoutesAreDocumentedAsOurs holds gateway/openapi.yaml to what only `gateway dev` has; TestS40 of gateway/security does so for the rest.
func TestTheRoutesAreDocumentedAsOurs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var described, served []string
	for path, operations := range file.Paths {
		if operations["x-only-in"] != "gateway dev" {
			continue
		}
		for _, method := range []string{"get", "post", "put", "patch", "delete"} {
			if operations[method] != nil {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	e := echo.New()
	(&door{}).Routes(e)
	for _, route := range e.Routes() {
		if route.Method != echo.RouteNotFound {
			served = append(served, route.Method+" "+regexp.MustCompile(`:(\w+)`).ReplaceAllString(route.Path, "{$1}"))
		}
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) || len(served) != 2 {
		t.Errorf("described are %q, served %q", described, served)
	}
}
