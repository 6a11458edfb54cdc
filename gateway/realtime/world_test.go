package realtime_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"darkroom/gateway/identity"
	"darkroom/gateway/realtime"
	"darkroom/gateway/server"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

const (
	serviceKey = "a service key for tests of realtime"
	anonKey    = "a public key for tests of realtime"
	jwtSecret  = "a secret for tests of realtime, long enough"
	awhile     = 15 * time.Second // in which a busy machine does anything
)

// user is somebody with a project.
type user struct {
	id, project, shot uuid.UUID
	token             string
}

// world is a database with two users, and a gateway.
type world struct {
	t      testing.TB
	pg     *taskdbtest.DB
	db     *taskdb.DB
	login  string
	signer *identity.Signer
	log    *logged
	web    *httptest.Server
	stop   func() // the gateway
	a, b   user
	seer   *page // of the service, which sees everything

	written sync.WaitGroup
}

func newWorld(t testing.TB, change ...func(*server.Config)) *world {
	t.Helper()
	w := &world{t: t, pg: taskdbtest.New(t), log: &logged{}}
	must(t, server.Migrate(t.Context(), w.pg.URL))
	w.db = taskdb.New(w.pg.Pool)
	w.login = w.pg.Login(t, "authenticator")
	var err error
	w.signer, err = identity.NewSigner(identity.Settings{JWTSecret: jwtSecret})
	must(t, err)
	w.a, w.b = w.user(), w.user() // before the gateway, which begins with what comes then
	_, err = w.db.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: anyWorker})
	must(t, err)
	w.web, w.stop = w.gateway(change...)
	return w
}

// gateway starts a gateway over the database, and returns what stops it.
func (w *world) gateway(change ...func(*server.Config)) (web *httptest.Server, stop func()) {
	w.t.Helper()
	config := server.Config{
		DatabaseURL: w.login, StorageURL: "file://" + w.t.TempDir(), ServiceKey: serviceKey, AnonKey: anonKey, JWTSecret: jwtSecret,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, do := range change {
		do(&config)
	}
	gateway, err := server.Open(w.t.Context(), config)
	must(w.t, err)
	web = httptest.NewServer(gateway)
	stop = sync.OnceFunc(func() {
		must(w.t, gateway.Close())
		web.CloseClientConnections()
		web.Close()
	})
	w.t.Cleanup(stop)
	return web, stop
}

// dispatched waits until the gateway has handed out what happened so far.
func (w *world) dispatched() {
	w.t.Helper()
	if w.seer == nil {
		w.seer = w.page("2.0.0")
		w.seer.join("seer", serviceKey, binding{"event": "INSERT", "schema": "public", "table": "generations"})
	}
	name := uuid.NewString()
	w.generation(w.b, name)
	w.seer.locations(name)
}

func (w *world) user() user {
	w.t.Helper()
	u := user{id: uuid.New()}
	_, err := w.db.CreateUser(w.t.Context(), u.id, "")
	must(w.t, err)
	_, err = w.db.GrantCredits(w.t.Context(), u.id, taskdb.WholeCredits(1000), "", "")
	must(w.t, err)
	project, err := w.db.CreateProject(w.t.Context(), u.id, "test")
	must(w.t, err)
	shot, err := w.db.CreateShot(w.t.Context(), project.ID, "test")
	must(w.t, err)
	u.project, u.shot, u.token = project.ID, shot.ID, w.sign(u.id, time.Hour)
	return u
}

func (w *world) sign(id uuid.UUID, life time.Duration) string {
	w.t.Helper()
	token, err := w.signer.Sign(map[string]any{"sub": id, "role": identity.Authenticated}, time.Now(), life)
	must(w.t, err)
	return token
}

// generation makes an event of a user's: a generation with a name.
func (w *world) generation(u user, name string) {
	w.t.Helper()
	w.exec("insert into generations (project_id, type, location, params) values ($1, 'image', $2, '{}')", u.project, name)
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.pg.Pool.Exec(w.t.Context(), sql, args...)
	must(w.t, err)
}

// forget makes the events so far as if they had been removed from the log.
func (w *world) forget() {
	w.t.Helper()
	w.dispatched()
	var last string
	must(w.t, w.pg.Pool.QueryRow(w.t.Context(), "select max(xid::text::bigint)::text from darkroom.task_events").Scan(&last))
	eventually(w.t, "no transaction on this server is older", func() bool {
		return w.count("select (pg_snapshot_xmin(pg_current_snapshot()) > $1::text::xid8)::int", last) == 1
	})
	w.dispatched()
	w.exec("update darkroom.event_log set trimmed_xid = $1::text::xid8", last)
}

// page is a client of the framings, as a browser's page is one: its numbers go on when it connects anew.
type page struct {
	t    testing.TB
	vsn  string
	ref  int
	conn *websocket.Conn
	seen int // changes
}

// frame is a message of the server.
type frame struct {
	Topic, Event string
	Ref          *string
	Payload      struct {
		Status   string
		Message  string
		Response struct {
			Reason  string
			Changes json.RawMessage `json:"postgres_changes"`
		}
		IDs     []int `json:"ids"`
		Data    change
		Event   string
		Payload json.RawMessage
	}
	raw []byte
}

type change struct {
	Table, Type string
	Record      map[string]any
	Old         map[string]any `json:"old_record"`
	Columns     []struct{ Name, Type string }
	Errors      any
}

func (w *world) page(vsn string) *page { return w.pageAt(w.web, vsn) }

func (w *world) pageAt(web *httptest.Server, vsn string) *page {
	w.t.Helper()
	p := &page{t: w.t, vsn: vsn}
	p.connect(web)
	return p
}

func (p *page) connect(web *httptest.Server) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), awhile)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, address(web, "apikey="+strings.ReplaceAll(anonKey, " ", "+")+"&vsn="+p.vsn), nil) //nolint:bodyclose // websocket leaves nothing to close
	must(p.t, err)
	conn.SetReadLimit(1 << 30)
	p.conn = conn
	p.t.Cleanup(func() { _ = conn.CloseNow() })
}

func address(web *httptest.Server, query string) string {
	return "ws" + strings.TrimPrefix(web.URL, "http") + realtime.PathSocket + "?" + query
}

// send sends a message and returns its number.
func (p *page) send(topic, event string, payload any) string {
	p.t.Helper()
	p.ref++
	ref := strconv.Itoa(p.ref)
	var text any = []any{ref, ref, topic, event, payload}
	if p.vsn == "1.0.0" {
		text = map[string]any{"topic": topic, "event": event, "payload": payload, "ref": ref, "join_ref": ref}
	}
	data, err := json.Marshal(text)
	must(p.t, err)
	must(p.t, p.conn.Write(p.t.Context(), websocket.MessageText, data))
	return ref
}

// read returns the next message.
func (p *page) read() frame {
	p.t.Helper()
	f, err := p.tryRead(awhile)
	must(p.t, err)
	return f
}

func (p *page) tryRead(most time.Duration) (frame, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), most)
	defer cancel()
	_, data, err := p.conn.Read(ctx)
	if err != nil {
		return frame{}, err
	}
	f := frame{raw: data}
	if p.vsn == "1.0.0" {
		must(p.t, json.Unmarshal(data, &f))
		return f, nil
	}
	var parts []json.RawMessage
	must(p.t, json.Unmarshal(data, &parts))
	for i, part := range []any{nil, &f.Ref, &f.Topic, &f.Event, &f.Payload} {
		if part != nil {
			must(p.t, json.Unmarshal(parts[i], part))
		}
	}
	return f, nil
}

// until reads on to a message that fits.
func (p *page) until(what string, fits func(frame) bool) frame {
	p.t.Helper()
	for {
		f, err := p.tryRead(awhile)
		if err != nil {
			p.t.Fatalf("waiting for %s: %v", what, err)
		}
		if fits(f) {
			return f
		}
	}
}

func (p *page) reply(ref string) frame {
	p.t.Helper()
	return p.until("the reply to "+ref, func(f frame) bool { return f.Event == "phx_reply" && f.Ref != nil && *f.Ref == ref })
}

type binding map[string]any

// join joins a channel and wants it to be live.
func (p *page) join(name, token string, bindings ...binding) frame {
	p.t.Helper()
	f := p.tryJoin(name, token, bindings...)
	if f.Payload.Status != "ok" {
		p.t.Fatalf("joining %s: %s", name, f.raw)
	}
	return f
}

func (p *page) tryJoin(name, token string, bindings ...binding) frame {
	p.t.Helper()
	if bindings == nil {
		bindings = []binding{}
	}
	payload := map[string]any{"config": map[string]any{
		"broadcast": map[string]any{"ack": false, "self": false}, "presence": map[string]any{"key": "", "enabled": false}, "postgres_changes": bindings, "private": false,
	}}
	if token != "" {
		payload["access_token"] = token
	}
	return p.reply(p.send("realtime:"+name, "phx_join", payload))
}

// change reads the next change.
func (p *page) change() change {
	p.t.Helper()
	c := p.until("a change", func(f frame) bool { return f.Event == "postgres_changes" }).Payload.Data
	p.seen++
	return c
}

// locations reads changes of generations up to the one with that location, and returns all their locations.
func (p *page) locations(last string) []string {
	p.t.Helper()
	var list []string
	for {
		c := p.change()
		row := c.Record
		if c.Type == "DELETE" {
			row = c.Old
		}
		location, _ := row["location"].(string)
		if list = append(list, location); location == last {
			return list
		}
	}
}

func generations(u user) binding {
	return binding{"event": "*", "schema": "public", "table": "generations", "filter": "project_id=eq." + u.project.String()}
}

// get asks, and reads what is no stream.
func (w *world) get(path, key string) answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.web.URL+path, nil)
	must(w.t, err)
	r.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(r)
	must(w.t, err)
	defer response.Body.Close()
	return read(w.t, response)
}

// answer is an answer that was read.
type answer struct {
	status      int
	header      http.Header
	Code, Error string
}

func read(t testing.TB, response *http.Response) answer {
	t.Helper()
	a := answer{status: response.StatusCode, header: response.Header}
	if response.StatusCode >= http.StatusBadRequest {
		must(t, json.NewDecoder(response.Body).Decode(&a))
	}
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until a condition that others bring about holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(awhile)
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: not in %s", what, awhile)
		}
	}
}

type logged struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.data.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.data.String()
}

const anyWorker = "gpu-1"

// task creates a task of a user.
func (w *world) task(u user) taskdb.Task {
	w.t.Helper()
	task, err := w.db.CreateTask(w.t.Context(), taskdb.NewTask{ProjectID: u.project, ToolID: "image-generation", Input: json.RawMessage(`{"prompt":"a"}`)})
	must(w.t, err)
	return task
}
