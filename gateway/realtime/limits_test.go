package realtime_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"darkroom/gateway/realtime"
	"darkroom/gateway/server"
)

// TestS26ConnectionsAreLimited: "SSE and WebSocket caps per owner; slow readers are dropped, not buffered." The second half is
// TestASlowClientIsCutOffAndGoesOn.
func TestS26ConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) {
		c.Connections = realtime.Limits{SocketsOfAddress: 6, SocketsOfUser: 2, StreamsOfUser: 2}
	})
	var pages []*page
	for range 3 {
		pages = append(pages, w.page("2.0.0"))
	}
	for i, p := range pages[:2] {
		p.join(fmt.Sprint("x", i), w.a.token)
		p.join(fmt.Sprint("y", i), w.a.token) // the same socket counts once
	}
	if f := pages[2].tryJoin("x", w.a.token); f.Payload.Status != "error" || !strings.Contains(f.Payload.Response.Reason, "2 connections") {
		t.Errorf("a third socket of the user: %s", f.raw)
	}
	pages[2].join("x", w.b.token) // of another user there is room
	must(t, pages[0].conn.CloseNow())
	eventually(t, "room for another socket of the user", func() bool {
		p := w.page("2.0.0")
		defer func() { _ = p.conn.CloseNow() }()
		return p.tryJoin("x", w.a.token).Payload.Status == "ok"
	})
	var refused *http.Response
	for range 10 {
		conn, answer, err := websocket.Dial(t.Context(), address(w.web, "apikey="+w.a.token), nil) //nolint:bodyclose // of a refusal it is empty enough
		if err != nil {
			refused = answer
			break
		}
		defer func() { _ = conn.CloseNow() }()
	}
	if refused == nil || refused.StatusCode != http.StatusTooManyRequests || refused.Header.Get("Retry-After") == "" {
		t.Errorf("too many sockets of an address: %v", refused)
	}

	first := w.stream(w.a, w.a.token, "")
	w.stream(w.a, w.a.token, "")
	if answer := w.get("/projects/"+w.a.project.String()+"/events", w.a.token); answer.status != http.StatusTooManyRequests {
		t.Errorf("a third stream of the user: %v", answer)
	}
	w.stream(w.b, w.b.token, "")
	first.stop()
	eventually(t, "room for another stream of the user", func() bool {
		return w.get("/projects/"+w.a.project.String()+"/events", w.a.token).status == http.StatusOK
	})
}

func TestASocketIsLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.page("2.0.0")
	refusals := map[string]int{}
	for i := range 105 {
		refusals[p.tryJoin(fmt.Sprint("x", i), w.a.token).Payload.Response.Reason]++
	}
	if refusals[""] != 100 || len(refusals) < 2 {
		t.Errorf("of 105 joins: %v", refusals)
	}
	for reason := range refusals {
		if reason != "" && !strings.Contains(reason, "at most") {
			t.Errorf("a reason: %s", reason)
		}
	}
	must(t, p.conn.Write(t.Context(), websocket.MessageText, []byte(`{"topic":"phoenix"}`)))
	_, err := p.tryRead(awhile)
	if closed := (websocket.CloseError{}); !errors.As(err, &closed) || closed.Code != websocket.StatusProtocolError {
		t.Errorf("what is no message: %v", err)
	}
	p = w.page("2.0.0")
	large := `["1","1","phoenix","heartbeat",{"x":"` + strings.Repeat("x", 300<<10) + `"}]`
	_ = p.conn.Write(t.Context(), websocket.MessageText, []byte(large)) // the end may come before all is written
	if f, err := p.tryRead(awhile); err == nil {
		t.Errorf("a large message is answered: %s", f.raw)
	}
}

// A subscription whose filter or whose check fails ends alone.
func TestAPoisonedSubscriptionHarmsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec("alter table shots add column weight numeric")
	web, _ := w.gateway()
	p, q := w.pageAt(web, "2.0.0"), w.pageAt(web, "2.0.0")
	shots := binding{"event": "INSERT", "schema": "public", "table": "shots"}
	heavy := binding{"event": "INSERT", "schema": "public", "table": "shots", "filter": "weight=gt.1"}
	p.join("poisoned", w.a.token, heavy)
	p.join("sound", w.a.token, shots)
	q.join("sound", w.b.token, shots)
	insert := func(u user, weight string) {
		w.exec("insert into shots (project_id, name, weight) values ($1, 'x', $2::numeric)", u.project, weight)
	}
	insert(w.a, "NaN") // which no filter can be compared with
	f := p.until("the end of the poisoned channel", func(f frame) bool { return f.Event == "system" && f.Payload.Status == "error" })
	if f.Topic != "realtime:poisoned" || !strings.Contains(f.Payload.Message, "filter") {
		t.Errorf("the reason: %s", f.raw)
	}
	insert(w.a, "2")
	for range 2 {
		if f := p.until("a change", func(f frame) bool { return f.Event == "postgres_changes" }); f.Topic != "realtime:sound" {
			t.Errorf("a change on %s", f.raw)
		}
	}

	// Row security that raises for one user. The gateway has read the policies before.
	w.exec(`create policy poison on projects for select to authenticated using (1 / (case when owner_id <> '` + w.a.id.String() + `' or auth.uid() <> owner_id then 1 else 0 end) = 0)`)
	for i := 0; ; i++ {
		insert(w.a, "1")
		insert(w.b, strconv.Itoa(i))
		if got := q.change(); got.Record["weight"] != float64(i) {
			t.Fatalf("the other user sees %v instead of %d", got, i)
		}
		if f := p.read(); f.Event == "phx_error" {
			break
		}
	}
}
