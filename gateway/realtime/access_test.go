package realtime_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"darkroom/gateway/server"
)

// revokedWithin is how long something may still be shown after it was taken away.
const revokedWithin = 5 * time.Second

// TestS06RevokedAccessShowsNothingAfter5s: "Realtime: a subscriber gets no event of a project it cannot read, also after its access is revoked on a live
// connection (within a stated number of seconds)." Events come all the time, so that what was allowed is asked again and again.
func TestS06RevokedAccessShowsNothingAfter5s(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		token  func(w *world) string
		revoke func(w *world)
		ends   bool // and the channel says so
	}{
		"the project is another user's now": {
			func(w *world) string { return w.a.token },
			func(w *world) {
				w.exec("alter table projects disable trigger user")
				w.exec("update projects set owner_id = $1 where id = $2", w.b.id, w.a.project)
			}, false,
		},
		"the access token has expired": {
			func(w *world) string { return w.sign(w.a.id, 3*time.Second) },
			func(*world) { time.Sleep(3 * time.Second) }, true,
		},
		"the session has ended": {
			func(w *world) string { return w.signIn(w.a.id) },
			func(w *world) { w.exec("delete from darkroom.sessions") }, true,
		},
		"the personal token is revoked": {
			func(w *world) string {
				token, err := w.db.CreateAccessToken(t.Context(), "user", "x", 0, w.a.id)
				must(t, err)
				return token.Token
			},
			func(w *world) { w.exec("update darkroom.access_tokens set revoked_at = now()") }, true,
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			token := c.token(w)
			p := w.page("2.0.0")
			p.join("x", token, generations(w.a), binding{"event": "*", "schema": "public", "table": "generations"})
			s := w.stream(w.a, token, "")
			w.generation(w.a, "before")
			p.locations("before")
			if e := s.next(); e.data.Record["location"] != "before" {
				t.Errorf("the stream shows %v", e)
			}
			stop := make(chan struct{})
			var last time.Time // that something was shown
			ended := false
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					f, err := p.tryRead(time.Second)
					if err != nil {
						return
					}
					switch f.Event {
					case "postgres_changes":
						last = time.Now()
					case "phx_error":
						ended = true
					case "phx_close":
						t.Error("the channel is closed for good")
					}
				}
			}()
			go func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(50 * time.Millisecond):
						_, _ = w.pg.Pool.Exec(t.Context(), "insert into generations (project_id, type, location) values ($1, 'image', 'x')", w.a.project)
					}
				}
			}()
			c.revoke(w)
			revoked := time.Now()
			<-done // nothing for a second, though events go on
			close(stop)
			if after := last.Sub(revoked); after > revokedWithin {
				t.Errorf("the last event was shown %s after", after)
			}
			if ended != c.ends {
				t.Errorf("the channel has ended: %v", ended)
			}
			if !c.ends {
				return
			}
			for {
				if e := s.next(); e.event == "end" {
					if e.reason == "" {
						t.Error("the stream ends without a reason")
					}
					return
				}
			}
		})
	}
}

// signIn makes a session of a user and an access token for it.
func (w *world) signIn(id uuid.UUID) string {
	w.t.Helper()
	w.exec("insert into darkroom.credentials (user_id, email, password_hash) values ($1, 'a@example.com', 'x')", id)
	var session uuid.UUID
	must(w.t, w.pg.Pool.QueryRow(w.t.Context(), "insert into darkroom.sessions (user_id) values ($1) returning id", id).Scan(&session))
	token, err := w.signer.Sign(map[string]any{"sub": id, "role": "authenticated", "session_id": session}, time.Now(), time.Hour)
	must(w.t, err)
	return token
}

// A page whose token was renewed in time sees no break; one whose token has expired joins again with another and misses nothing.
func TestAccessTokensAreRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.page("2.0.0")
	p.join("x", w.sign(w.a.id, 3*time.Second), generations(w.a))
	p.send("realtime:x", "access_token", map[string]any{"access_token": w.sign(w.a.id, 6*time.Second)})
	f := p.until("the end of the second token", func(f frame) bool { return f.Event == "system" && f.Payload.Status == "error" })
	if !strings.Contains(f.Payload.Message, "expired") {
		t.Errorf("the reason: %s", f.raw)
	}
	p.until("phx_error", func(f frame) bool { return f.Event == "phx_error" })
	w.generation(w.a, "meanwhile")
	w.dispatched()
	p.join("x", w.a.token, generations(w.a))
	if got := p.change(); got.Record["location"] != "meanwhile" {
		t.Errorf("after the new token: %v", got)
	}
	p.send("realtime:x", "access_token", map[string]any{"access_token": nil}) // says nothing
	p.send("realtime:x", "access_token", map[string]any{"access_token": "sb_publishable_x"})
	w.generation(w.a, "still")
	p.locations("still")
	for what, token := range map[string]string{"of another user": w.b.token, "of nobody": anonKey, "that is none": "x.y.z"} {
		p.send("realtime:x", "access_token", map[string]any{"access_token": token})
		p.until("the end by a token "+what, func(f frame) bool { return f.Event == "phx_error" })
		p.join("x", w.a.token, generations(w.a))
	}
}

func TestJoinsAreRefusedWithAReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	worker, err := w.db.CreateAccessToken(t.Context(), "worker", "w", 0, w.a.id)
	must(t, err)
	w.exec("create policy shared on shots for select to authenticated using (true)")
	web, _ := w.gateway() // which sees it
	p := w.pageAt(web, "2.0.0")
	project := "project_id=eq." + w.a.project.String()
	for reason, f := range map[string]frame{
		"Nobody is signed in":         p.tryJoin("x", "", generations(w.a)), // trap 4
		"Nobody is signed in:":        p.tryJoin("x", anonKey),
		"Workers have nothing":        p.tryJoin("x", worker.Token),
		"not valid":                   p.tryJoin("x", "a.b.c"),
		"has expired":                 p.tryJoin("x", w.sign(w.a.id, -time.Second)),
		"or it is not yours":          p.tryJoin("task-updates:"+w.b.project.String(), w.a.token),
		"named by the id":             p.tryJoin("task-updates:x", w.a.token),
		"no schema":                   p.tryJoin("x", w.a.token, binding{"event": "*", "schema": "darkroom"}),
		`"nope" cannot be subscribed`: p.tryJoin("x", w.a.token, binding{"event": "*", "schema": "public", "table": "nope"}),
		"table shots has rules":       p.tryJoin("x", w.a.token, binding{"event": "*", "schema": "public", "table": "shots", "filter": project}),
		"no event":                    p.tryJoin("x", w.a.token, binding{"event": "TRUNCATE", "schema": "public", "table": "tasks"}),
		"no such column":              p.tryJoin("x", w.a.token, binding{"event": "*", "schema": "public", "table": "tasks", "filter": "nope=eq.1"}),
		"no uuid":                     p.tryJoin("x", w.a.token, binding{"event": "*", "schema": "public", "table": "tasks", "filter": "project_id=eq.1"}),
		"needs a table":               p.tryJoin("x", w.a.token, binding{"event": "*", "schema": "public", "filter": project}),
		"rows come whole":             p.tryJoin("x", w.a.token, binding{"event": "*", "schema": "public", "table": "tasks", "select": []string{"id"}}),
	} {
		if f.Payload.Status != "error" || !strings.Contains(f.Payload.Response.Reason, strings.TrimSuffix(reason, ":")) {
			t.Errorf("%s: %s", reason, f.raw)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+"/projects/"+w.a.project.String()+"/events", nil)
	must(t, err)
	r.Header.Set("Authorization", "Bearer "+w.a.token)
	answer, err := http.DefaultClient.Do(r)
	must(t, err)
	if must(t, answer.Body.Close()); answer.StatusCode != http.StatusNotImplemented {
		t.Errorf("a stream with such a table: %d", answer.StatusCode)
	}
	if f := p.reply(p.send("realtime:x", "phx_join", map[string]any{"config": map[string]any{"presence": map[string]any{"enabled": true}}, "access_token": w.a.token})); !strings.Contains(f.Payload.Response.Reason, "Presence") {
		t.Errorf("presence: %s", f.raw)
	}
	p.join("x", w.a.token, binding{"event": "*", "schema": "public", "table": "tasks", "filter": project})
	if f := p.reply(p.send("realtime:x", "presence", map[string]any{"type": "presence", "event": "track"})); !strings.Contains(f.Payload.Response.Reason, "presence") {
		t.Errorf("presence: %s", f.raw)
	}
}

// Sockets that are not opened: the answer is JSON, with the reason as `error`.
func TestUpgradesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.Guard.Origins = []string{"https://app.example.com"} })
	worker, err := w.db.CreateAccessToken(t.Context(), "worker", "w", 0, w.a.id)
	must(t, err)
	key := "apikey=" + strings.ReplaceAll(anonKey, " ", "+")
	dial := func(query, origin string, header ...string) answer {
		head := http.Header{}
		if origin != "" {
			head.Set("Origin", origin)
		}
		if len(header) > 0 {
			head.Set("Authorization", "Bearer "+header[0])
		}
		conn, response, err := websocket.Dial(t.Context(), address(w.web, query), &websocket.DialOptions{HTTPHeader: head})
		if err == nil {
			_ = conn.CloseNow()
			return answer{status: http.StatusSwitchingProtocols}
		}
		defer response.Body.Close()
		return read(t, response)
	}
	for what, c := range map[string]struct {
		got    answer
		status int
	}{
		"no key":                    {dial("vsn=2.0.0", ""), 401},
		"a wrong key":               {dial("apikey=x", ""), 401},
		"an expired token":          {dial("apikey="+w.sign(w.a.id, -time.Hour), ""), 401},
		"a worker's in the address": {dial("apikey="+worker.Token, ""), 401},
		"a worker":                  {dial("", "", worker.Token), 403},
		"another version":           {dial(key+"&vsn=3.0.0", ""), 400},
		"another origin":            {dial(key, "https://evil.example.com"), 403},
		"no WebSocket":              {w.get("/realtime/v1/websocket?"+key, anonKey), 426},
		"nothing there":             {w.get("/realtime/v1/nothing", anonKey), 404},
		"an origin that may":        {dial(key, "https://app.example.com"), 101},
		"our own origin":            {dial(key, w.web.URL), 101},
		"a user's token":            {dial("apikey="+w.a.token+"&vsn=1.0.0", ""), 101},
	} {
		if c.got.status != c.status || c.status != 101 && c.got.Error == "" {
			t.Errorf("%s: %v, want %d", what, c.got, c.status)
		}
	}
	for _, secret := range []string{worker.Token, w.a.token, strings.ReplaceAll(anonKey, " ", "+"), anonKey} { // S29
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log has the secret %s", secret)
		}
	}
}

// Who broadcasts to whom: users to their own pages, the service to whom a channel is about, nobody as the gateway.
func TestBroadcastsReachWhoMayHearThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type listener struct {
		*page
		name string
	}
	about := "notes:" + w.a.project.String()
	var pages []listener
	for _, name := range []string{"room", about} {
		for user, token := range map[string]string{"a": w.a.token, "b": w.b.token, "service": serviceKey} {
			for _, vsn := range []string{"1.0.0", "2.0.0"} {
				p := w.page(vsn)
				p.join(name, token)
				pages = append(pages, listener{p, name + " " + user})
			}
		}
	}
	post := func(topic, event, key string) int {
		body, err := json.Marshal(map[string]any{"messages": []any{map[string]any{"topic": topic, "event": event, "payload": map[string]any{"n": 1}, "private": true}}})
		must(t, err)
		return w.post("/realtime/v1/api/broadcast", key, body)
	}
	heard := map[string]string{} // who, what
	for _, topic := range []string{"room", about} {
		for user, key := range map[string]string{"a": w.a.token, "b": w.b.token, "service": serviceKey} {
			if status := post(topic, "from "+user, key); status != http.StatusAccepted {
				t.Errorf("%s broadcasts on %s: %d", user, topic, status)
			}
		}
		if status := w.post("/realtime/v1/api/broadcast/"+topic+"/events/last", serviceKey, []byte(`{"n":2}`)); status != http.StatusAccepted {
			t.Errorf("the other form: %d", status)
		}
	}
	for _, p := range pages {
		if p.name == about+" b" { // never hears the service there: asks for an answer instead
			p.send("phoenix", "heartbeat", map[string]any{})
		}
		for {
			f := p.read()
			if f.Event == "broadcast" {
				if string(f.Payload.Payload) != `{"n":1}` && f.Payload.Event != "last" {
					t.Errorf("%s: %s", p.name, f.raw)
				}
				if f.Payload.Event != "last" {
					heard[p.name] += f.Payload.Event + "," // in any order
				}
			}
			if f.Payload.Event == "last" || f.Topic == "phoenix" {
				break
			}
		}
	}
	for name, want := range map[string][]string{
		"room a": {"from a", "from service"}, "room b": {"from b", "from service"}, "room service": {"from a", "from b", "from service"},
		about + " a": {"from a", "from service"}, about + " b": {"from b"}, about + " service": {"from a", "from b", "from service"},
	} {
		for _, event := range []string{"from a", "from b", "from service"} {
			n := strings.Count(heard[name], event+",")
			if should := strings.Contains(strings.Join(want, ","), event); should && n != 2 || !should && n != 0 { // two pages each
				t.Errorf("%s heard %q %d times", name, event, n)
			}
		}
	}
	for what, c := range map[string]struct {
		topic, key string
		status     int
	}{
		"as the gateway":     {"task-updates:" + w.a.project.String(), w.a.token, http.StatusForbidden},
		"the public":         {"room", anonKey, http.StatusForbidden},
		"without a topic":    {"", w.a.token, http.StatusBadRequest},
		"without a key":      {"room", "", http.StatusUnauthorized},
		"the gateway itself": {"task-updates:" + w.a.project.String(), serviceKey, http.StatusAccepted},
	} {
		if status := post(c.topic, "x", c.key); status != c.status {
			t.Errorf("%s: %d, want %d", what, status, c.status)
		}
	}
}

func (w *world) post(path, key string, body []byte) int {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.web.URL+path, bytes.NewReader(body))
	must(w.t, err)
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	answer, err := http.DefaultClient.Do(r)
	must(w.t, err)
	must(w.t, answer.Body.Close())
	return answer.StatusCode
}

// The gateway broadcasts each change of a task on task-updates:<project>.
func TestTaskUpdatesAreBroadcast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, vsn := range []string{"1.0.0", "2.0.0"} {
		p := w.page(vsn)
		p.join("task-updates:"+w.a.project.String(), w.a.token)
		task := w.task(w.a)
		f := p.until("a task-update", func(f frame) bool { return f.Event == "broadcast" && f.Payload.Event == "task-update" })
		var said struct {
			Change string
			Task   struct{ ID, Status string }
		}
		must(t, json.Unmarshal(f.Payload.Payload, &said))
		if said.Change != "INSERT" || said.Task.ID != task.ID.String() || said.Task.Status != "Queued" {
			t.Errorf("%s: %s", vsn, f.raw)
		}
	}
}
