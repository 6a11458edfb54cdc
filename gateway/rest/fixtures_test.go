package rest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/rest"
	"darkroom/sql/taskdbtest"
)

// owner is a user with something of each kind.
type owner struct {
	id, project, shot, task, generation uuid.UUID
}

// door is a REST door over a database of its own, through a login that may do what the gateway's may.
type door struct {
	t    testing.TB
	pg   *taskdbtest.DB
	pool *pgxpool.Pool // of the gateway's login
	as   *identity.DB
	web  *echo.Echo
	who  map[string]identity.Identity // by what a test calls them
	a, b owner
}

// setup makes a door with the owners a and b.
func setup(t testing.TB) *door {
	t.Helper()
	pg := taskdbtest.New(t)
	d := &door{t: t, pg: pg, web: echo.New()}
	d.pool = loginPool(t, pg)
	var err error
	if d.as, err = identity.New(t.Context(), d.pool); err != nil {
		t.Fatal(err)
	}
	d.a, d.b = d.owner(), d.owner()
	d.who = map[string]identity.Identity{
		"anon": {Role: identity.Anon}, "service": {Role: identity.Service, Claims: json.RawMessage(`{"role":"service_role"}`)},
		"a": user(d.a.id), "b": user(d.b.id), "worker": d.worker(d.a.id), "worker of b": d.worker(d.b.id),
	}
	r, err := rest.New(t.Context(), d.as, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	d.web.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			identity.Set(c, d.who[c.Request().Header.Get("Test-As")])
			return next(c)
		}
	})
	r.Routes(d.web)
	return d
}

func user(id uuid.UUID) identity.Identity {
	return identity.Identity{Role: identity.Authenticated, Subject: id, Claims: json.RawMessage(`{"role":"authenticated","sub":"` + id.String() + `"}`)}
}

// loginPool connects as a member of authenticator, as the gateway does.
func loginPool(t testing.TB, pg *taskdbtest.DB) *pgxpool.Pool {
	t.Helper()
	random := make([]byte, 8)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	name, password := "rest_"+hex.EncodeToString(random), hex.EncodeToString(random)
	if _, err := pg.Pool.Exec(t.Context(), "create role "+name+" login inherit password '"+password+"' in role authenticator"); err != nil {
		t.Fatal(err)
	}
	config, err := pgxpool.ParseConfig(pg.URL)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.User, config.ConnConfig.Password = name, password
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pool.Close()
		if _, err := pg.Pool.Exec(context.Background(), "drop role "+name); err != nil {
			t.Error(err)
		}
	})
	return pool
}

// sql runs a query of the superuser's that gives one value.
func value[T any](d *door, query string, args ...any) T {
	d.t.Helper()
	rows, err := d.pg.Pool.Query(d.t.Context(), query, args...)
	if err != nil {
		d.t.Fatal(err)
	}
	got, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		d.t.Fatalf("%s: %v", query, err)
	}
	return got
}

func (d *door) exec(query string, args ...any) {
	d.t.Helper()
	if _, err := d.pg.Pool.Exec(d.t.Context(), query, args...); err != nil {
		d.t.Fatalf("%s: %v", query, err)
	}
}

func (d *door) owner() owner {
	d.t.Helper()
	o := owner{id: uuid.New()}
	d.exec("insert into users (id, email) values ($1, $2)", o.id, o.id.String()+"@example.com")
	d.exec("select grant_credits(user_id => $1, amount => 100)", o.id)
	o.project = value[uuid.UUID](d, "insert into projects (owner_id, name) values ($1, 'project') returning id", o.id)
	o.shot = value[uuid.UUID](d, "insert into shots (project_id, name) values ($1, 'shot') returning id", o.project)
	o.task = d.image(o, "a lighthouse")
	o.generation = value[uuid.UUID](d, "insert into generations (project_id, type, location, params) values ($1, 'image', 'https://x.test/1', $2) returning id",
		o.project, map[string]any{"secret": "of " + o.id.String()})
	return o
}

func (d *door) image(o owner, prompt string) uuid.UUID {
	d.t.Helper()
	return value[uuid.UUID](d, "select id from create_task(project_id => $1, task_type => 'single_image', params => $2)", o.project, map[string]any{"prompt": prompt})
}

// worker is a worker's token of that user.
func (d *door) worker(of uuid.UUID) identity.Identity {
	d.t.Helper()
	token := value[string](d, "select token from create_access_token(scope => 'worker', label => 'gpu', user_id => $1)", of)
	claims := value[json.RawMessage](d, "select auth.identify_token(sha256($1::text::bytea))", token)
	var said struct {
		TokenID uuid.UUID `json:"token_id"`
	}
	if err := json.Unmarshal(claims, &said); err != nil || said.TokenID == uuid.Nil {
		d.t.Fatalf("claims %s: %v", claims, err)
	}
	return identity.Identity{Role: identity.Worker, Subject: of, Token: said.TokenID, Claims: claims}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// call makes a request as somebody. headers are names and values in turn.
func (d *door) call(as, method, path, body string, headers ...string) answer {
	d.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = bytes.NewBufferString(body)
	}
	r := httptest.NewRequestWithContext(d.t.Context(), method, encoded(path), reader)
	r.Header.Set("Test-As", as)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	d.web.ServeHTTP(w, r)
	return answer{status: w.Code, header: w.Header(), body: w.Body.String()}
}

// encoded escapes the values of a query string that a test writes as it means them.
func encoded(path string) string {
	base, query, found := strings.Cut(path, "?")
	if !found {
		return "/rest/v1/" + base
	}
	items := strings.Split(query, "&")
	for i, item := range items {
		name, val, _ := strings.Cut(item, "=")
		items[i] = url.QueryEscape(name) + "=" + url.QueryEscape(val)
	}
	return "/rest/v1/" + base + "?" + strings.Join(items, "&")
}

// want checks a status and the JSON of a body, whatever its blanks and the order of its keys.
func (d *door) want(got answer, status int, body string) {
	d.t.Helper()
	if got.status != status || !sameJSON(got.body, body) {
		d.t.Errorf("got %d %s\nwant %d %s", got.status, got.body, status, body)
	}
}

func sameJSON(one, other string) bool {
	if one == other {
		return true
	}
	var x, y any
	if json.Unmarshal([]byte(one), &x) != nil || json.Unmarshal([]byte(other), &y) != nil {
		return false
	}
	a, errA := json.Marshal(x)
	b, errB := json.Marshal(y)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// wantError checks the status and code of an error, that all four keys are there, and that its text names something.
func (d *door) wantError(got answer, status int, code, names string) {
	d.t.Helper()
	var body map[string]*string
	if err := json.Unmarshal([]byte(got.body), &body); err != nil {
		d.t.Errorf("%d %q is no error: %v", got.status, got.body, err)
		return
	}
	for _, key := range []string{"code", "message", "details", "hint"} {
		if _, there := body[key]; !there {
			d.t.Errorf("%s lacks %s", got.body, key)
		}
	}
	if got.status != status || body["code"] == nil || *body["code"] != code || !strings.Contains(got.body, names) {
		d.t.Errorf("got %d %s\nwant %d %s, naming %q", got.status, got.body, status, code, names)
	}
}

// callTyped is call with a content type of its own.
func (d *door) callTyped(as, method, path, body, contentType string) answer {
	d.t.Helper()
	r := httptest.NewRequestWithContext(d.t.Context(), method, encoded(path), strings.NewReader(body))
	r.Header.Set("Test-As", as)
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	d.web.ServeHTTP(w, r)
	return answer{status: w.Code, header: w.Header(), body: w.Body.String()}
}

// await waits until something is so: the schema is read anew once a second at most.
func (d *door) await(so func() bool) {
	d.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !so() {
		if time.Now().After(deadline) {
			d.t.Fatal("it did not come to be so")
		}
		time.Sleep(20 * time.Millisecond)
	}
}
