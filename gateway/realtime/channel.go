package realtime

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/lxzan/gws"

	"darkroom/gateway/identity"
	"darkroom/gateway/realtime/eventlog"
	"darkroom/gateway/realtime/hub"
	"darkroom/gateway/realtime/phoenix"
)

const (
	// TaskUpdates begins the names of the channels on which the gateway itself broadcasts: task-updates:<project>.
	TaskUpdates = "task-updates:"
	// TaskUpdate is the event that it broadcasts there.
	TaskUpdate = "task-update"

	castID = 0 // the binding of those broadcasts; those of the client begin at 1
)

// channel is a topic that a socket has joined.
type channel struct {
	socket  *socket
	topic   string // realtime:<name>
	name    string
	joinRef phoenix.Ref
	request phoenix.JoinRequest
	who     identity.Identity
	frame   phoenix.Frame // of changes
	casts   phoenix.Frame // of task updates
	sub     *hub.Sub
	over    atomic.Bool
	key     [sha256.Size]byte // of its lease

	mu    sync.Mutex
	lease *lease
}

// holdLease gives it its lease. It says so when it has ended meanwhile, and where.
func (ch *channel) holdLease(id uuid.UUID, from *hub.Place) (place *hub.Place, ended bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.lease = ch.socket.door.leases.hold(id, ch.sub, from, ch.socket.lastRef.Load)
	if from == nil {
		from = ch.sub.At()
	}
	return from, ch.over.Load()
}

// Change implements [hub.Receiver].
func (ch *channel) Change(c *hub.Change, ids []int) bool {
	if at := slices.Index(ids, castID); at >= 0 {
		ids = slices.Delete(slices.Clone(ids), at, at+1)
		if !ch.put(c.Bytes(hub.FormBroadcast, castOf), &ch.casts, nil) {
			return false
		}
	}
	return len(ids) == 0 || ch.put(c.Bytes(hub.FormChange, ch.socket.door.changeOf), &ch.frame, ids)
}

func (ch *channel) put(data []byte, around *phoenix.Frame, ids []int) bool {
	return ch.socket.put(message{opcode: gws.OpcodeText, frame: data, around: around, ids: ids})
}

// Counts implements [hub.Receiver].
func (ch *channel) Counts() (taken, arrived uint64) { return ch.socket.counts() }

// Wait implements [hub.Receiver].
func (ch *channel) Wait(ctx context.Context) error { return ch.socket.wait(ctx) }

// Ended implements [hub.Receiver]: the client joins again by itself, and goes on where it was unless that is not possible.
func (ch *channel) Ended(why error, place *hub.Place) {
	ch.mu.Lock()
	ch.over.Store(true)
	held := ch.lease
	ch.mu.Unlock()
	ch.socket.door.leaveTopic(ch)
	if held != nil {
		if errors.Is(why, hub.ErrReset) || errors.Is(why, eventlog.ErrGone) {
			ch.socket.door.leases.end(held)
		} else {
			ch.socket.door.leases.lose(held, place)
		}
	}
	if errors.Is(why, hub.ErrStopping) || errors.Is(why, hub.ErrSlow) {
		return // so does the socket
	}
	ch.tell("error", reasonOf(why))
	ch.push(phoenix.Error, map[string]string{"reason": reasonOf(why)})
}

// lose ends it because its connection broke, or its page went away.
func (ch *channel) lose(left bool) {
	place := ch.sub.Lose()
	if place == nil {
		return
	}
	ch.over.Store(true)
	ch.socket.door.leaveTopic(ch)
	if left {
		ch.socket.door.leases.leave(ch.lease, place)
	} else {
		ch.socket.door.leases.lose(ch.lease, place)
	}
}

// leave ends it because its client wants to.
func (ch *channel) leave() {
	ch.over.Store(true)
	ch.sub.End()
	ch.socket.door.leaveTopic(ch)
	ch.socket.door.leases.end(ch.lease)
	delete(ch.socket.channels, ch.topic)
}

func (ch *channel) push(event string, payload any) {
	ch.socket.say(ch.socket.version.Push(ch.joinRef, ch.topic, event, payload))
}

// tell sends a message of the system.
func (ch *channel) tell(status, text string) { ch.socket.tell(ch.joinRef, ch.topic, status, text) }

func (s *socket) tell(joinRef phoenix.Ref, topic, status, text string) {
	name := strings.TrimPrefix(topic, phoenix.TopicPrefix)
	s.say(s.version.Push(joinRef, topic, phoenix.System, map[string]string{"extension": phoenix.Changes, "status": status, "message": text, "channel": name}))
}

// reasonOf says why something was refused or has ended, to the app.
func reasonOf(err error) string {
	known := []struct {
		err  error
		text string
	}{
		{hub.ErrExpired, "The access token has expired: refresh it."},
		{hub.ErrRevoked, "The access token is not valid any more."},
		{hub.ErrSignedOut, "The session has ended: sign in again."},
		{hub.ErrReset, "The database was restored or moved: read anew what you show. The next join begins from now."},
		{eventlog.ErrGone, "What happened since the connection broke is no longer kept: read anew what you show. The next join begins from now."},
		{hub.ErrFilter, "A filter of this channel cannot be applied to a row."},
		{hub.ErrCheck, "Row security cannot be asked; the gateway's log has the reason."},
		{hub.ErrSlow, "What happens is not read fast enough: go on from the last event."},
		{hub.ErrStopping, "The gateway is stopping: go on at another."},
		{identity.ErrMissing, "No access token was sent."},
		{identity.ErrInvalid, "The key or token is not valid."},
		{identity.ErrExpired, "The access token has expired: refresh it."},
		{errTooMany, ""},
		{errRefused, ""},
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			if k.text == "" {
				return err.Error()
			}
			return k.text
		}
	}
	return "The database does not answer just now."
}

// subjectOf is the project or user that the name of a channel ends in, as <something>:<uuid>.
func subjectOf(name string) uuid.UUID {
	at := strings.LastIndexByte(name, ':')
	if at < 0 || len(name)-at-1 != len(uuid.Nil.String()) {
		return uuid.Nil
	}
	id, err := uuid.Parse(name[at+1:])
	if err != nil {
		return uuid.Nil
	}
	return id
}

func (d *Door) joinTopic(ch *channel) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.topics[ch.name] == nil {
		d.topics[ch.name] = map[*channel]struct{}{}
	}
	d.topics[ch.name][ch] = struct{}{}
}

func (d *Door) leaveTopic(ch *channel) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.topics[ch.name], ch)
	if len(d.topics[ch.name]) == 0 {
		delete(d.topics, ch.name)
	}
}
