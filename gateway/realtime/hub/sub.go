package hub

import (
	"context"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/identity"
	"darkroom/gateway/realtime/eventlog"
)

// Receiver is where the events of a subscription go. All its methods but Wait are called under the hub's lock: they neither wait nor call the hub.
type Receiver interface {
	// Change takes an event for these bindings. False: there is no room, and the receiver is lost to the subscription, which ends with [ErrSlow].
	Change(c *Change, ids []int) bool
	// Ended is called once, unless the subscription is ended by [Sub.End]. place is how far the receiver certainly has come.
	Ended(why error, place *Place)
	// Counts are how much was taken, in any unit that grows, and how much of that has certainly arrived.
	Counts() (taken, arrived uint64)
	// Wait returns when there is room for many.
	Wait(ctx context.Context) error
}

type state int

const (
	starting state = iota // until Start
	behind                // reads what it has missed
	waiting               // for an answer of row security
	live
	ended
)

// Sub is a subscription.
type Sub struct {
	hub      *Hub
	viewer   *viewer
	to       Receiver
	bindings []Binding
	scope    eventlog.Scope

	state    state
	from     *Place    // where pending begins
	pending  []pending // came meanwhile
	overflow bool      // and more than are kept
	marks    []mark    // how far it has come, oldest first
	mode     bool      // was handed something that is not noted yet: it is in hub.touched

	// While an event is routed.
	found  bool
	next   *Sub
	ids    []int
	failed error
}

// pending is an event that waits.
type pending struct {
	change *Change
	ids    []int
	before *Place // its batch
}

// mark says that all up to place has arrived when so much has.
type mark struct {
	taken uint64
	place *Place
}

const maxMarks = 8

// Subscribe begins a subscription of whoever has the credential at the present end of the log: from now on nothing is missed. Its events wait for
// Start. The caller is to have been checked by [Hub.Check].
func (h *Hub) Subscribe(caller *Caller, bindings []Binding, to Receiver) (*Sub, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.ctx == nil {
		return nil, ErrStopping
	}
	s := &Sub{hub: h, to: to, bindings: bindings, from: h.end}
	s.scope = scopeOf(caller.Who, bindings)
	s.viewer = h.viewerOf(caller)
	s.viewer.subs[s] = struct{}{}
	h.add(s)
	return s, nil
}

// scopeOf is the least that has all events of the bindings.
func scopeOf(who identity.Identity, bindings []Binding) eventlog.Scope {
	if who.Role == identity.Service {
		return eventlog.Scope{}
	}
	scope := eventlog.Scope{Owner: who.Subject}
	for i, b := range bindings {
		if i == 0 {
			scope.Project = b.Project
		}
		if b.Project != scope.Project {
			scope.Project = uuid.Nil
		}
	}
	return scope
}

// Start lets the events come: first those after from, when that is not nil.
func (s *Sub) Start(from *eventlog.Position) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.state != starting {
		return
	}
	switch {
	case from != nil:
		s.read(*from)
	case s.overflow: // so much came meanwhile
		s.read(s.from.Position)
	default:
		s.flush(time.Now())
	}
}

// read makes it read what comes after from.
func (s *Sub) read(from eventlog.Position) {
	s.state = behind
	if len(s.marks) == 0 {
		s.marks = append(s.marks, mark{0, &Place{from}})
	}
	s.hub.wait.Go(func() { s.replay(from) })
}

// End ends it without a word to the receiver.
func (s *Sub) End() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.close()
}

// Lose ends it because the receiver has gone, and says how far it had come.
func (s *Sub) Lose() *Place {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.state == ended {
		return nil
	}
	place := s.last()
	s.close()
	return place
}

// Fail ends it for a reason, which the receiver is told.
func (s *Sub) Fail(why error) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.fail(why)
}

// From is where it began.
func (s *Sub) From() eventlog.Position { return s.from.Position }

// At is where it began, as a place.
func (s *Sub) At() *Place { return s.from }

// Renew goes on with another credential of the same caller.
func (s *Sub) Renew(caller *Caller) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.state == ended {
		return
	}
	delete(s.viewer.subs, s)
	h.drop(s.viewer)
	s.viewer = h.viewerOf(caller)
	s.viewer.subs[s] = struct{}{}
	if s.state == waiting {
		s.flush(time.Now())
	}
}

func (s *Sub) close() {
	if s.state == ended {
		return
	}
	s.state, s.pending, s.marks = ended, nil, nil
	s.hub.remove(s)
	delete(s.viewer.subs, s)
	s.hub.drop(s.viewer)
}

// fail ends it and tells the receiver.
func (s *Sub) fail(why error) {
	if s.state == ended {
		return
	}
	place := s.last()
	s.close()
	s.to.Ended(why, place)
}

// offer hands it an event, or keeps it for when it can be.
func (s *Sub) offer(c *Change, ids []int, before *Place, now time.Time) {
	if s.state == ended {
		return
	}
	seen, known := s.viewer.may(c.subject(), c.Owner, now)
	if s.state == live {
		switch {
		case known && seen:
			s.hand(c, ids, before)
			return
		case known:
			return
		}
		s.state, s.from = waiting, before
	}
	if s.overflow {
		return
	}
	if len(s.pending) >= maxPending { // read again what cannot be kept
		s.overflow, s.pending = true, nil
		if s.state == waiting {
			s.read(s.from.Position)
		}
		return
	}
	s.pending = append(s.pending, pending{c, ids, before})
	if s.state == waiting && !known {
		s.viewer.want(c.subject())
	}
}

// hand gives the receiver an event.
func (s *Sub) hand(c *Change, ids []int, before *Place) {
	if len(s.marks) == 0 {
		s.marks = append(s.marks, mark{0, before})
	}
	if !s.to.Change(c, ids) {
		s.fail(ErrSlow)
		return
	}
	if !s.mode {
		s.mode = true
		s.hub.touched = append(s.hub.touched, s)
	}
}

// settle notes that all up to place was handed over.
func (s *Sub) settle(place *Place) {
	s.mode = false
	if s.state == live {
		s.note(place)
	}
}

// note notes that all up to place was handed over.
func (s *Sub) note(place *Place) {
	s.trim()
	taken, _ := s.to.Counts()
	if len(s.marks) >= maxMarks {
		s.marks = s.marks[:maxMarks-1]
	}
	s.marks = append(s.marks, mark{taken, place})
}

// trim forgets the marks before the last that has been reached, which stays. It tells whether that is the last of all.
func (s *Sub) trim() (all bool) {
	_, arrived := s.to.Counts()
	n := 0
	for n+1 < len(s.marks) && s.marks[n+1].taken <= arrived {
		n++
	}
	s.marks = s.marks[n:]
	return len(s.marks) == 1 && s.marks[0].taken <= arrived
}

// place is how far the receiver has certainly come; nil: as far as the hub.
func (s *Sub) place() *Place {
	if s.state == ended {
		return nil
	}
	if s.trim() && s.state == live && !s.mode {
		s.marks = nil
	}
	switch {
	case len(s.marks) > 0:
		return s.marks[0].place
	case s.state == live:
		return nil
	}
	return s.from
}

// last is the same when it ends.
func (s *Sub) last() *Place {
	if place := s.place(); place != nil {
		return place
	}
	return s.hub.end
}

// flush hands over what waits, as far as it is known whether it may be seen, and goes live when that is all.
func (s *Sub) flush(now time.Time) {
	list := s.pending
	s.pending = nil
	s.state = live
	for i, p := range list {
		seen, known := s.viewer.may(p.change.subject(), p.change.Owner, now)
		if !known {
			s.state, s.pending, s.from = waiting, list[i:], p.before
			for _, p := range s.pending {
				if _, known := s.viewer.may(p.change.subject(), p.change.Owner, now); !known {
					s.viewer.want(p.change.subject())
				}
			}
			return
		}
		if seen {
			if s.hand(p.change, p.ids, p.before); s.state == ended {
				return
			}
		}
	}
	if len(s.marks) > 0 { // also of what was handed over before it had to wait
		s.note(s.hub.end)
	}
}
