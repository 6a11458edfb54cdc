package realtime_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// sse reads a stream.
type sse struct {
	t     testing.TB
	lines *bufio.Scanner
	stop  context.CancelFunc
	id    string
}

// sseEvent is one event of it.
type sseEvent struct {
	event, id string
	data      change
	reason    string
}

func (w *world) stream(u user, key, last string) *sse {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	w.t.Cleanup(stop)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.web.URL+"/projects/"+u.project.String()+"/events", nil)
	must(w.t, err)
	r.Header.Set("Authorization", "Bearer "+key)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	answer, err := http.DefaultClient.Do(r) //nolint:bodyclose // with the context
	must(w.t, err)
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("a stream answers %d, %v", answer.StatusCode, answer.Header)
	}
	s := &sse{t: w.t, lines: bufio.NewScanner(answer.Body), stop: stop}
	s.lines.Buffer(nil, 1<<30)
	return s
}

// next reads the next event that has data.
func (s *sse) next() sseEvent {
	s.t.Helper()
	var e sseEvent
	for s.lines.Scan() {
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch name {
		case "id":
			s.id = value
		case "event":
			e.event = value
		case "data":
			must(s.t, json.Unmarshal([]byte(value), &e.data))
			var said struct{ Reason string }
			must(s.t, json.Unmarshal([]byte(value), &said))
			e.reason = said.Reason
			e.id = s.id
		case "":
			if e.id != "" || e.event != "" {
				return e
			}
		}
	}
	s.t.Fatalf("the stream has ended: %v", s.lines.Err())
	return e
}

func TestAStreamShowsAProjectAndGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.stream(w.a, w.a.token, "")
	w.generation(w.b, "not yours")
	w.generation(w.a, "1")
	w.exec("insert into generations (project_id, type, location) select $1, 'image', 'batch ' || n from generate_series(1, 3) n", w.a.project)
	first := s.next()
	if first.data.Record["location"] != "1" || first.data.Type != "INSERT" || first.data.Table != "generations" {
		t.Errorf("first: %v", first)
	}
	middle := s.next() // within a transaction
	if middle.data.Record["location"] != "batch 1" {
		t.Errorf("then: %v", middle)
	}
	s.stop()
	w.generation(w.a, "away")
	again := w.stream(w.a, w.a.token, middle.id)
	w.generation(w.a, "back")
	var got []any
	for range 4 {
		got = append(got, again.next().data.Record["location"])
	}
	if want := []any{"batch 2", "batch 3", "away", "back"}; !slices.Equal(got, want) {
		t.Errorf("after %s: %v, want %v", middle.id, got, want)
	}
}

func TestAStreamIsResetPastRetention(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.stream(w.a, w.a.token, "")
	w.generation(w.a, "1")
	last := s.next().id
	w.forget()
	for _, id := range []string{last, "another" + last} {
		s := w.stream(w.a, w.a.token, id)
		if e := s.next(); e.event != "reset" || e.reason == "" || e.id == id {
			t.Errorf("after %s: %v", id, e)
		}
		w.generation(w.a, "2")
		if e := s.next(); e.data.Record["location"] != "2" {
			t.Errorf("then: %v", e)
		}
	}
}

func TestStreamsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	worker, err := w.db.CreateAccessToken(t.Context(), "worker", "w", 0, w.a.id)
	must(t, err)
	path := func(u user) string { return "/projects/" + u.project.String() + "/events" }
	for what, r := range map[string]struct {
		path, key string
		status    int
		code      string
	}{
		"of somebody else":  {path(w.a), w.b.token, http.StatusNotFound, "TD020"},
		"of nobody":         {"/projects/" + uuid.NewString() + "/events", w.a.token, http.StatusNotFound, "TD020"},
		"to the public":     {path(w.a), anonKey, http.StatusForbidden, "TD041"},
		"to a worker":       {path(w.a), worker.Token, http.StatusForbidden, "TD041"},
		"to an expired one": {path(w.a), w.sign(w.a.id, -1), http.StatusUnauthorized, "GW003"},
		"without a key":     {path(w.a), "", http.StatusUnauthorized, "GW003"},
		"by no id":          {"/projects/x/events", w.a.token, http.StatusBadRequest, "GW002"},
		"after nonsense":    {path(w.a) + "?lastEventId=x", w.a.token, http.StatusBadRequest, "GW001"},
	} {
		if got := w.get(r.path, r.key); got.status != r.status || got.Code != r.code {
			t.Errorf("%s: %v, want %d %s", what, got, r.status, r.code)
		}
	}
}
