package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
	"darkroom/gateway/realtime/eventlog"
	"darkroom/gateway/realtime/hub"
)

const (
	heartbeat      = 15 * time.Second
	maxStreamQueue = maxQueue
	reconnectAfter = time.Second
)

// stream is one answer of server-sent events.
type stream struct {
	mu     sync.Mutex
	queue  [][]byte
	ended  error
	news   chan struct{} // has one when there is something to write
	room   chan struct{} // and when there is room again
	closed <-chan struct{}
}

// Change implements [hub.Receiver].
func (s *stream) Change(c *hub.Change, _ []int) bool {
	data := c.Bytes(hub.FormStream, streamOf)
	const rest = 16
	place := c.Place.String()
	text := make([]byte, 0, rest+len(place)+len(data))
	text = append(append(append(text, "id: "...), place...), "\ndata: "...)
	text = append(append(text, data...), "\n\n"...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= maxStreamQueue {
		return false
	}
	s.queue = append(s.queue, text)
	signal(s.news)
	return true
}

// Counts implements [hub.Receiver]: the client itself keeps its place.
func (*stream) Counts() (taken, arrived uint64) { return 0, 0 }

// Wait implements [hub.Receiver].
func (s *stream) Wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		room := len(s.queue) < maxStreamQueue/4
		s.mu.Unlock()
		if room {
			return nil
		}
		select {
		case <-s.room:
		case <-s.closed:
			return errClosed
		case <-ctx.Done():
			return errClosed
		}
	}
}

// Ended implements [hub.Receiver].
func (s *stream) Ended(why error, _ *hub.Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = why
	signal(s.news)
}

func (s *stream) take() (list [][]byte, ended error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, s.queue = s.queue, nil
	signal(s.room)
	return list, s.ended
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// stream is GET /projects/{id}/events: the changes in a project, after Last-Event-ID or from now on.
func (d *Door) stream(c echo.Context) error {
	ctx := c.Request().Context()
	project, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return problem.Refuse(problem.MalformedID, "The project's id is not a UUID.")
	}
	caller, err := d.reader(c, project)
	if err != nil {
		return err
	}
	if err := d.followable(""); err != nil {
		return problem.Refuse(problem.NotOffered, err.Error())
	}
	from, err := lastEvent(c.Request())
	if err != nil {
		return err
	}
	if who := countOf(caller.Who.Subject) + " stream"; caller.Who.Subject != uuid.Nil {
		if !d.count(who, d.config.Limits.StreamsOfUser) {
			c.Response().Header().Set(echo.HeaderRetryAfter, "5")
			return problem.Refuse(problem.TooMany, fmt.Sprintf("This user has %d streams open.", d.config.Limits.StreamsOfUser))
		}
		defer d.uncount(who)
	}
	s := &stream{news: make(chan struct{}, 1), room: make(chan struct{}, 1), closed: ctx.Done()}
	bindings := make([]hub.Binding, 0, len(d.names))
	for _, table := range d.names {
		bindings = append(bindings, hub.Binding{Table: table, Project: project})
	}
	sub, err := d.hub.Subscribe(caller, bindings, s)
	if err != nil {
		return problem.Refuse(problem.Unavailable, "The gateway is stopping.")
	}
	defer sub.End()
	reset := ""
	if from != nil {
		switch err := d.probe(ctx, *from, sub.From()); {
		case errors.Is(err, eventlog.ErrGone):
			reset, from = "id: "+sub.From().String()+"\n"+eventText("reset", reasonOf(eventlog.ErrGone)), nil
		case err != nil:
			return err
		}
	} else {
		reset = "id: " + sub.From().String() + "\n\n"
	}
	out, err := d.begin(c, reset)
	if err != nil {
		return nil
	}
	sub.Start(from)
	d.copyOut(ctx, s, sub, out)
	return nil
}

// reader finds out who asks for a project's events, and that they may see it.
func (d *Door) reader(c echo.Context, project uuid.UUID) (*hub.Caller, error) {
	ctx := c.Request().Context()
	if role := identity.Of(c).Role; role != identity.Authenticated && role != identity.Service {
		return nil, problem.New("TD041", "Not allowed", "Sign in: a project's events are shown to its owner.", "")
	}
	credential, err := identity.Credential(c.Request())
	if err != nil {
		return nil, err
	}
	caller, err := d.hub.Caller(ctx, credential)
	var seen map[uuid.UUID]bool
	if err == nil {
		seen, err = d.hub.Check(ctx, caller, map[uuid.UUID]struct{}{project: {}})
	}
	switch {
	case errors.Is(err, hub.ErrExpired), errors.Is(err, hub.ErrRevoked), errors.Is(err, hub.ErrSignedOut):
		return nil, problem.Refuse(problem.Unauthorized, reasonOf(err))
	case err != nil:
		return nil, err
	case !seen[project]:
		return nil, problem.New("TD020", "Project not found", "There is no such project, or it is not yours.", "")
	}
	return caller, nil
}

// lastEvent reads where the client was, from the header or the query.
func lastEvent(r *http.Request) (*eventlog.Position, error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("lastEventId")
	}
	if text == "" {
		return nil, nil //nolint:nilnil // from now on
	}
	at, err := eventlog.ParsePosition(text)
	if err != nil {
		return nil, problem.Refuse(problem.Malformed, "Last-Event-ID is none that this address has sent.")
	}
	return &at, nil
}

// probe asks whether events after a position are still there.
func (d *Door) probe(ctx context.Context, from, upto eventlog.Position) error {
	return d.events.Probe(ctx, from, upto)
}

// begin sends the head of the answer and a first text, and returns what writes more.
func (d *Door) begin(c echo.Context, first string) (func(texts ...[]byte) error, error) {
	control := http.NewResponseController(c.Response())
	if err := control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) { // or the server would end it
		return nil, fmt.Errorf("setting a deadline: %w", err)
	}
	write := func(texts ...[]byte) error {
		_ = control.SetWriteDeadline(time.Now().Add(writeMost)) // of a test's recorder there is none
		for _, text := range texts {
			if _, err := c.Response().Write(text); err != nil {
				return fmt.Errorf("writing events: %w", err)
			}
		}
		if err := control.Flush(); err != nil {
			return fmt.Errorf("writing events: %w", err)
		}
		return nil
	}
	header := c.Response().Header()
	header.Set(echo.HeaderContentType, "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // proxies hold nothing back
	c.Response().WriteHeader(http.StatusOK)
	return write, write([]byte("retry: "+strconv.FormatInt(reconnectAfter.Milliseconds(), 10)+"\n"), []byte(first))
}

// copyOut writes what comes until the client goes, or the subscription ends.
func (d *Door) copyOut(ctx context.Context, s *stream, sub *hub.Sub, out func(...[]byte) error) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.news:
		case <-tick.C:
			// A client that has all takes the place of now with it, so that it can be away for as long as events are kept.
			beat := ":\n\n"
			if end, places := d.hub.Places([]*hub.Sub{sub}); places[0] == nil && s.empty() {
				beat = "id: " + end.String() + "\n:\n\n"
			}
			if out([]byte(beat)) != nil {
				return
			}
			continue
		}
		list, ended := s.take()
		if len(list) > 0 && out(list...) != nil {
			return
		}
		if ended == nil {
			continue
		}
		event := "end" // the client comes back, with another token where that is the reason
		if errors.Is(ended, hub.ErrReset) || errors.Is(ended, eventlog.ErrGone) {
			event = "reset"
		}
		_ = out([]byte(eventText(event, reasonOf(ended))))
		return
	}
}

func (s *stream) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) == 0
}

// eventText is an event of the stream's own.
func eventText(event, reason string) string {
	data, err := json.Marshal(map[string]string{"reason": reason})
	if err != nil {
		panic(err) // a text is always JSON
	}
	return "event: " + event + "\ndata: " + string(data) + "\n\n"
}
