package realtime

import (
	"context"
	"errors"
	"strings"
	"time"

	"darkroom/gateway/realtime/eventlog"
	"darkroom/gateway/realtime/phoenix"
)

const (
	tokenMost  = 10 * time.Second // that a client may take to send the access token of a join that had none
	maxAwaited = 64               // broadcasts that wait for it
)

// awaited is a join that has no user yet. Clients that speak vsn 1.0.0 join with the public key, send the user's token when they hear that they are in,
// and never come back from a refusal. So they are let in; from is where the channel then begins, so that it misses nothing.
type awaited struct {
	join    phoenix.Message
	from    eventlog.Position
	timeout *time.Timer
	said    []phoenix.Message // broadcasts meanwhile; touched by what reads from the socket alone
}

// await lets a client in whose token is to come. What is wrong with the join is said at once.
func (s *socket) await(m phoenix.Message) error {
	request, err := phoenix.ParseJoin(m.Payload)
	if err != nil {
		return refused("%s", sentence(err))
	}
	if _, err := s.door.bindingsOf(request.Bindings); err != nil {
		return err
	}
	s.mu.Lock()
	if len(s.channels)+len(s.awaited) >= maxChannels {
		s.mu.Unlock()
		return refused("A connection has at most %d channels.", maxChannels)
	}
	if s.awaited == nil {
		s.awaited = map[string]*awaited{}
	}
	a := &awaited{join: m, from: s.door.hub.End().Position}
	a.timeout = time.AfterFunc(tokenMost, func() {
		s.mu.Lock()
		late := s.awaited[m.Topic] == a
		if late {
			delete(s.awaited, m.Topic)
		}
		s.mu.Unlock()
		if late {
			s.turnAway(m, errNobody)
		}
	})
	s.awaited[m.Topic] = a
	s.mu.Unlock()
	s.welcome(m, request)
	return nil
}

func (s *socket) awaits(topic string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.awaited[topic] != nil
}

// forgetAwaited takes a join that has no user yet, if there is one.
func (s *socket) forgetAwaited(topic string) *awaited {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.awaited[topic]
	if a != nil {
		a.timeout.Stop()
		delete(s.awaited, topic)
	}
	return a
}

// admitAwaited makes of it a channel, now that its token is here.
func (s *socket) admitAwaited(ctx context.Context, topic, token string) {
	if strings.HasPrefix(token, "sb_") { // keys of Supabase say nothing of the caller
		return
	}
	a := s.forgetAwaited(topic)
	if a == nil { // too late
		return
	}
	ch, from, err := s.tryJoin(ctx, a.join, token)
	if err != nil {
		s.turnAway(a.join, err)
		return
	}
	if from == nil {
		from = &a.from
	}
	ch.sub.Start(from)
	for _, m := range a.said {
		s.handle(ctx, m)
	}
}

// keepAwaited keeps a broadcast of a client that believes to have the channel. False: there is none that waits for its user.
func (s *socket) keepAwaited(m phoenix.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.awaited[m.Topic]
	if a == nil || len(a.said) == maxAwaited {
		return false
	}
	a.said = append(a.said, m)
	return true
}

// turnAway ends a channel that its client believes to have: it joins again by itself.
func (s *socket) turnAway(m phoenix.Message, why error) {
	reason := reasonOf(why)
	if !errors.Is(why, errRefused) {
		s.door.log.Debug("realtime: a join was refused", "reason", reason, "error", why)
	}
	s.tell(joinRefOf(m), m.Topic, "error", reason)
	s.say(s.version.Push(joinRefOf(m), m.Topic, phoenix.Error, struct{}{}))
}
