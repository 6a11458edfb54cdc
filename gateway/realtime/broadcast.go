package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/lxzan/gws"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
	"darkroom/gateway/realtime/phoenix"
)

const (
	castsPerSecond = 100
	castsBurst     = 200
	maxCasts       = 100 // of one request
)

// broadcast relays what a client says on a channel.
func (s *socket) broadcast(m phoenix.Message, cast phoenix.Cast) {
	ch := s.channels[m.Topic]
	switch {
	case ch == nil || ch.over.Load():
		s.refuse(m, "Join the channel before you broadcast on it.")
		return
	case !mayBroadcast(ch.who, ch.name):
		s.refuse(m, "On "+TaskUpdates+" the gateway alone broadcasts.")
		return
	case !s.casts.take(time.Now(), castsPerSecond, castsBurst):
		s.refuse(m, "Too many broadcasts: at most 100 a second.")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), messageMost)
	defer cancel()
	s.door.relay(ctx, ch.who, ch.name, cast, ch)
	if ch.request.Ack {
		s.say(s.version.Answer(m, "ok", struct{}{}))
	}
}

// mayBroadcast tells whether somebody may broadcast on a channel: nobody but the service can seem to be the gateway.
func mayBroadcast(who identity.Identity, name string) bool {
	return who.Role == identity.Service || who.Role == identity.Authenticated && !strings.HasPrefix(name, TaskUpdates)
}

// relay hands a broadcast to who may hear it. What a user says is heard by that user's own pages. What the service says on <something>:<uuid> is heard
// by who may see the project, or is the user, of that id; on other channels by everybody who joined them. from is the channel it comes from, or nil.
func (d *Door) relay(ctx context.Context, who identity.Identity, name string, cast phoenix.Cast, from *channel) {
	d.mu.Lock()
	heard := make([]*channel, 0, len(d.topics[name]))
	for ch := range d.topics[name] {
		if ch == from && !ch.request.Self {
			continue
		}
		if who.Role == identity.Service || ch.who.Role == identity.Service || ch.who.Subject == who.Subject {
			heard = append(heard, ch)
		}
	}
	d.mu.Unlock()
	subject := subjectOf(name)
	for _, ch := range heard {
		of := ch.who.Subject
		if who.Role == identity.Service && subject != uuid.Nil {
			of = subject
		}
		if ch.who.Role != identity.Service && !d.hub.May(ctx, ch.sub, of) {
			continue
		}
		frame, binary := ch.socket.version.Relay(ch.topic, cast)
		switch {
		case frame == nil:
		case binary:
			ch.socket.put(message{opcode: gws.OpcodeBinary, frame: frame})
		default:
			ch.socket.say(frame)
		}
	}
}

// postBroadcasts is POST /realtime/v1/api/broadcast.
func (d *Door) postBroadcasts(c echo.Context) error {
	var body struct {
		Messages []struct {
			Topic   string          `json:"topic"`
			Event   string          `json:"event"`
			Payload json.RawMessage `json:"payload"`
		} `json:"messages"`
	}
	if err := json.NewDecoder(c.Request().Body).Decode(&body); err != nil {
		return unreadable(err)
	}
	if len(body.Messages) > maxCasts {
		return problem.Refuse(problem.Malformed, "A request has at most 100 messages.")
	}
	for _, m := range body.Messages {
		if err := checkCast(c, m.Topic, m.Event); err != nil {
			return err
		}
	}
	for _, m := range body.Messages {
		if m.Payload == nil {
			m.Payload = json.RawMessage("{}")
		}
		d.relay(c.Request().Context(), identity.Of(c), m.Topic, phoenix.Cast{Event: m.Event, Payload: m.Payload}, nil)
	}
	return c.NoContent(http.StatusAccepted)
}

// postBroadcast is POST /realtime/v1/api/broadcast/{topic}/events/{event}: the body is the payload, JSON or bytes.
func (d *Door) postBroadcast(c echo.Context) error {
	topic, event := c.Param("topic"), c.Param("event")
	if err := checkCast(c, topic, event); err != nil {
		return err
	}
	payload, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return unreadable(err)
	}
	raw := !strings.HasPrefix(c.Request().Header.Get(echo.HeaderContentType), echo.MIMEApplicationJSON)
	if !raw && !json.Valid(payload) {
		return problem.Refuse(problem.Malformed, "The payload is no JSON.")
	}
	d.relay(c.Request().Context(), identity.Of(c), topic, phoenix.Cast{Event: event, Payload: payload, Raw: raw}, nil)
	return c.NoContent(http.StatusAccepted)
}

func checkCast(c echo.Context, topic, event string) error {
	switch {
	case topic == "" || event == "" || len(topic) > maxTopic-len(phoenix.TopicPrefix) || len(event) > maxTopic:
		return problem.Refuse(problem.Malformed, "A message has a topic and an event, of at most 245 and 255 bytes.")
	case !mayBroadcast(identity.Of(c), topic):
		return problem.New("TD041", "Not allowed", "Users broadcast to their own pages, and not on "+TaskUpdates+"; others not at all.", "")
	}
	return nil
}

func unreadable(err error) error {
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return problem.Refuse(problem.TooLarge, "")
	}
	return problem.Refuse(problem.Malformed, "The body is not JSON.")
}
