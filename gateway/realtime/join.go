package realtime

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/identity"
	"darkroom/gateway/realtime/eventlog"
	"darkroom/gateway/realtime/filter"
	"darkroom/gateway/realtime/hub"
	"darkroom/gateway/realtime/phoenix"
)

const (
	maxChannels    = 100 // of a socket
	joinsPerSecond = 10
	joinsBurst     = 100
	maxTopic       = 255
)

// errNobody refuses a join without a user: it would be shown nothing.
var errNobody error = joinError("Nobody is signed in: nothing would be shown. Join with an access token.")

// errRefused is what a client is told as it is.
var errRefused = errors.New("this cannot be joined")

func refused(text string, args ...any) error {
	return joinError(fmt.Sprintf(text, args...))
}

type joinError string

func (r joinError) Error() string { return string(r) }

func (r joinError) Is(target error) bool { return target == errRefused }

// join answers a phx_join.
func (s *socket) join(ctx context.Context, m phoenix.Message) {
	ch, from, err := s.tryJoin(ctx, m, "")
	if errors.Is(err, errNobody) && s.version == phoenix.V1 {
		err = s.await(m)
		if err == nil {
			return
		}
	}
	if err != nil {
		reason := reasonOf(err)
		if !errors.Is(err, errRefused) {
			s.door.log.DebugContext(ctx, "realtime: a join was refused", "reason", reason, "error", err)
		}
		s.refuse(m, reason)
		if s.version == phoenix.V1 { // after a refusal alone these clients leave the channel for good instead of joining again
			s.say(s.version.Push(joinRefOf(m), m.Topic, phoenix.Error, map[string]string{"reason": reason}))
		}
		return
	}
	s.welcome(m, ch.request)
	ch.sub.Start(from)
	if s.version == phoenix.V1 && m.Ref.Number() == 0 {
		// A client that numbers its joins no more cannot know the answer, and would leave its channel at the next try, since it finds itself still joining.
		// A channel that broke is tried again instead, and its events are heard meanwhile.
		ch.push(phoenix.Error, map[string]string{"reason": "The answer to this join cannot be known: load the page anew when it suits."})
	}
}

// welcome says that a join is good.
func (s *socket) welcome(m phoenix.Message, request phoenix.JoinRequest) {
	bindings := request.Bindings
	if bindings == nil {
		bindings = []phoenix.Binding{}
	}
	s.say(s.version.Answer(m, "ok", map[string]any{"postgres_changes": bindings}))
	if len(bindings) > 0 {
		s.tell(joinRefOf(m), m.Topic, "ok", "Subscribed to PostgreSQL")
	}
}

// joinRefOf is the number of a join, which later messages of its channel carry.
func joinRefOf(m phoenix.Message) phoenix.Ref {
	if m.JoinRef == nil {
		return m.Ref
	}
	return m.JoinRef
}

// tryJoin makes a channel whose events wait to be started, after a position when the client comes back to it. token is for when the message has none.
func (s *socket) tryJoin(ctx context.Context, m phoenix.Message, token string) (*channel, *eventlog.Position, error) {
	name, is := strings.CutPrefix(m.Topic, phoenix.TopicPrefix)
	if !is || name == "" || len(m.Topic) > maxTopic {
		return nil, nil, refused("A topic is realtime:<name>, of at most %d bytes.", maxTopic)
	}
	request, err := phoenix.ParseJoin(m.Payload)
	if err != nil {
		return nil, nil, refused("%s", sentence(err))
	}
	if token != "" {
		request.Token = token
	}
	old := s.replace(m.Topic)
	defer old.giveUp()
	switch {
	case !s.joins.take(time.Now(), joinsPerSecond, joinsBurst):
		return nil, nil, refused("Too many joins: at most %d a second.", joinsPerSecond)
	case len(s.channels) >= maxChannels:
		return nil, nil, refused("A connection has at most %d channels.", maxChannels)
	}
	caller, err := s.caller(ctx, request.Token)
	if err != nil {
		return nil, nil, err
	}
	if !s.door.mayJoin(caller.Who.Subject) {
		return nil, nil, refused("Too many joins: at most %d a second of a user.", userJoinsPerSecond)
	}
	ch := &channel{
		socket: s, topic: m.Topic, name: name, joinRef: joinRefOf(m), request: request,
		who:   identity.Identity{Role: caller.Who.Role, Subject: caller.Who.Subject},
		frame: s.version.ChangeFrame(m.Topic), casts: s.version.BroadcastFrame(m.Topic, TaskUpdate),
	}
	ch.request.Token = "" // it is not kept twice
	bindings, err := s.door.bindingsOf(request.Bindings)
	if err != nil {
		return nil, nil, err
	}
	project := uuid.Nil
	if strings.HasPrefix(name, TaskUpdates) {
		if project = subjectOf(name); project == uuid.Nil {
			return nil, nil, refused("The channels %s<project> are named by the id of a project.", TaskUpdates)
		}
		if err := s.door.followable("tasks"); err != nil {
			return nil, nil, err
		}
		bindings = append(bindings, hub.Binding{ID: castID, Table: "tasks", Project: project})
	}
	if err := s.check(ctx, caller, bindings, project); err != nil {
		return nil, nil, err
	}
	if err := s.countUser(caller.Who.Subject); err != nil {
		return nil, nil, err
	}
	if ch.sub, err = s.door.hub.Subscribe(caller, bindings, ch); err != nil {
		return nil, nil, err
	}
	from, err := ch.takeLease(ctx, m.Ref.Number(), old)
	if err != nil {
		ch.sub.End()
		return nil, nil, err
	}
	s.channels[m.Topic] = ch
	s.door.joinTopic(ch)
	return ch, from, nil
}

// former is a channel that its client joins anew on the same connection.
type former struct {
	ch    *channel
	place *hub.Place // how far it had certainly come; what came later is still under way to the client
	taken bool       // its lease is gone on with
}

// giveUp leaves the lease to whoever comes back for it.
func (f *former) giveUp() {
	if f != nil && !f.taken {
		f.ch.socket.door.leases.lose(f.ch.lease, f.place)
	}
}

// replace ends the channel of a topic that its client joins anew, as after a join that it gave up, and returns where it was.
func (s *socket) replace(topic string) *former {
	var old *former
	if ch := s.channels[topic]; ch != nil {
		if place := ch.sub.Lose(); place != nil {
			ch.over.Store(true)
			s.door.leaveTopic(ch)
			old = &former{ch: ch, place: place}
		}
		delete(s.channels, topic)
	}
	s.forgetAwaited(topic)
	for topic, ch := range s.channels {
		if ch.over.Load() {
			delete(s.channels, topic)
		}
	}
	return old
}

// caller finds out who joins: by the token of the join, else by the key of the connection.
func (s *socket) caller(ctx context.Context, token string) (*hub.Caller, error) {
	if token == "" || strings.HasPrefix(token, "sb_") { // keys of Supabase say nothing of the caller
		token = s.apikey
	}
	caller, err := s.door.hub.Caller(ctx, token)
	switch {
	case err != nil:
		return nil, err
	case caller.Who.Role == identity.Anon:
		return nil, errNobody
	case caller.Who.Role == identity.Worker:
		return nil, refused("Workers have nothing to subscribe to.")
	}
	return caller, nil
}

// check asks whether the caller is let in, and beforehand for what the bindings need. A project whose updates are broadcast must be the caller's.
func (s *socket) check(ctx context.Context, caller *hub.Caller, bindings []hub.Binding, project uuid.UUID) error {
	ids := map[uuid.UUID]struct{}{}
	for _, b := range bindings {
		if b.Project != uuid.Nil {
			ids[b.Project] = struct{}{}
		}
	}
	if caller.Who.Subject != uuid.Nil {
		ids[caller.Who.Subject] = struct{}{}
	}
	seen, err := s.door.hub.Check(ctx, caller, ids)
	switch {
	case err != nil:
		return err
	case project != uuid.Nil && !seen[project]:
		return refused("There is no such project, or it is not yours.")
	}
	return nil
}

// takeLease begins the lease of a channel, or goes on with the one that the same page had; old is that of the same connection, if there was one.
func (ch *channel) takeLease(ctx context.Context, ref int64, old *former) (*eventlog.Position, error) {
	d := ch.socket.door
	said, err := json.Marshal(ch.request.Bindings)
	if err != nil {
		panic(err) // we made it
	}
	hash := sha256.New()
	_, _ = fmt.Fprintf(hash, "%s\n%s\n%q\n%s", ch.who.Role, ch.who.Subject, ch.topic, said)
	ch.key = [sha256.Size]byte(hash.Sum(nil))
	if old != nil && old.ch.key == ch.key {
		old.taken = true
		d.leases.pass(old.ch.lease)
		from := old.place.Position
		place, ended := ch.holdLease(old.ch.lease.id, old.place)
		if ended {
			d.leases.lose(ch.lease, place)
			return nil, hub.ErrStopping
		}
		return &from, nil
	}
	id, text, err := d.leases.take(ctx, ch.key[:], ch.who.Subject, ref)
	if err != nil {
		return nil, err
	}
	var from *eventlog.Position
	if text != nil {
		at, err := eventlog.ParsePosition(*text)
		if err == nil {
			err = d.probe(ctx, at, ch.sub.From())
		}
		if err != nil {
			if !errors.Is(err, eventlog.ErrGone) {
				return nil, err
			}
			d.leases.give(id)
			return nil, eventlog.ErrGone
		}
		from = &at
	}
	var place *hub.Place
	if from != nil {
		place = &hub.Place{Position: *from}
	}
	if place, ended := ch.holdLease(id, place); ended { // before it had a lease
		d.leases.lose(ch.lease, place)
		return nil, hub.ErrStopping
	}
	return from, nil
}

// bindingsOf makes of what a client asks what the hub looks for.
func (d *Door) bindingsOf(asked []phoenix.Binding) ([]hub.Binding, error) {
	bindings := make([]hub.Binding, 0, len(asked)+1)
	for _, a := range asked {
		b, err := d.bindingOf(a)
		if err != nil {
			return nil, err
		}
		bindings = append(bindings, b)
	}
	return bindings, nil
}

// followable refuses a table whose rules of row security realtime does not know; "" is all tables.
func (d *Door) followable(table string) error {
	for name, t := range d.tables {
		if t.ownRules && (table == "" || table == name) {
			return refused("The table %s has rules of row security that do not come with it: what they would show, realtime cannot know.", name)
		}
	}
	return nil
}

func (d *Door) bindingOf(a phoenix.Binding) (hub.Binding, error) {
	b := hub.Binding{ID: a.ID, Tables: d.names}
	if kind := strings.ToUpper(a.Event); kind != "*" {
		b.Kind = eventlog.Kind(kind)
	}
	if a.Schema != nil && *a.Schema != "public" && *a.Schema != "*" {
		return b, refused("There is no schema %q here, but public.", *a.Schema)
	}
	if a.Table != nil && *a.Table != "" && *a.Table != "*" {
		b.Table = *a.Table
	}
	filtered := a.Filter != nil && *a.Filter != ""
	if filtered && b.Table == "" {
		return b, refused("A filter needs a table.")
	}
	if err := d.followable(b.Table); err != nil {
		return b, err
	}
	t, known := d.tables[b.Table]
	switch {
	case b.Table != "" && !known:
		return b, refused("Changes of the table %q cannot be subscribed to; those of %s can.", b.Table, strings.Join(d.names, ", "))
	case !filtered:
		return b, nil
	}
	f, err := filter.Parse(*a.Filter, t.columns)
	if err != nil {
		return b, refused("%s", sentence(err))
	}
	column := "project_id"
	if b.Table == "projects" {
		column = "id"
	}
	value, alone := f.Equal(column)
	b.Project, _ = value.(uuid.UUID)
	if b.Project == uuid.Nil || !alone {
		b.Filter = &f
	}
	return b, nil
}

// sentence makes an error one.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// renew goes on with another access token.
func (s *socket) renew(ctx context.Context, m phoenix.Message) {
	ch := s.channels[m.Topic]
	var said struct {
		Token *string `json:"access_token"`
	}
	if err := json.Unmarshal(m.Payload, &said); err == nil && said.Token != nil && s.awaits(m.Topic) {
		s.admitAwaited(ctx, m.Topic, *said.Token)
		return
	} else if err != nil || ch == nil || ch.over.Load() || said.Token == nil || strings.HasPrefix(*said.Token, "sb_") {
		return
	}
	caller, err := s.caller(ctx, *said.Token)
	if err == nil && (caller.Who.Subject != ch.who.Subject || caller.Who.Role != ch.who.Role) {
		err = refused("The access token is of another user: join again.")
	}
	switch {
	case err == nil:
		ch.sub.Renew(caller)
	case errors.Is(err, identity.ErrInvalid), errors.Is(err, identity.ErrExpired), errors.Is(err, identity.ErrMissing), errors.Is(err, hub.ErrExpired), errors.Is(err, errRefused):
		ch.sub.Fail(err)
	default: // the database: what the channel has is good as long as it is
		s.door.log.DebugContext(ctx, "realtime: an access token cannot be looked up", "error", err)
	}
}
