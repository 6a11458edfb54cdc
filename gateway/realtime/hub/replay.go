package hub

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/realtime/eventlog"
)

const (
	replayPage   = 500 // events
	noteEvery    = 50  // of them
	replayTries  = 8   // while the database does not answer
	replayPause  = 250 * time.Millisecond
	replayUnable = "realtime: what a subscription missed cannot be read"
)

// replay hands over what came after from, at the receiver's pace, until the subscription is live.
func (s *Sub) replay(from eventlog.Position) {
	h := s.hub
	for {
		h.mu.Lock()
		if s.overflow {
			s.overflow, s.from = false, h.end
		}
		upto, over := s.from.Position, s.state == ended
		h.mu.Unlock()
		if over {
			return
		}
		if err := s.catchUp(h.ctx, from, upto); err != nil {
			h.mu.Lock()
			s.fail(err)
			h.mu.Unlock()
			return
		}
		h.mu.Lock()
		if done := !s.overflow || s.state == ended; done {
			if s.state == behind {
				s.flush(time.Now())
			}
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		from = upto
	}
}

// catchUp hands over the events between two positions.
func (s *Sub) catchUp(ctx context.Context, from, upto eventlog.Position) error {
	failures := 0
	for done := false; !done; {
		if err := s.to.Wait(ctx); err != nil {
			return ErrSlow
		}
		var next eventlog.Position
		var err error
		next, done, err = s.page(ctx, from, upto)
		switch {
		case err == nil:
			from, failures = next, 0
			continue
		case errors.Is(err, ErrSlow), errors.Is(err, ErrFilter), errors.Is(err, eventlog.ErrGone), isRefusal(err):
			return err
		}
		if failures++; failures == replayTries {
			s.hub.logger.Warn(replayUnable, "error", err)
			return errors.Join(ErrCheck, err)
		}
		done = false
		select {
		case <-ctx.Done():
			return ErrStopping
		case <-time.After(replayPause):
		}
	}
	return nil
}

// page hands over some of them.
func (s *Sub) page(ctx context.Context, from, upto eventlog.Position) (next eventlog.Position, done bool, err error) {
	list, next, done, err := s.readPage(ctx, from, upto)
	if err != nil {
		return from, false, err
	}
	for i, p := range list {
		if err := s.to.Wait(ctx); err != nil {
			return from, false, ErrSlow
		}
		if !s.handMissed(p, i%noteEvery == noteEvery-1) {
			return from, false, ErrSlow
		}
	}
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.state == ended {
		return next, true, nil
	}
	s.note(&Place{next})
	return next, done, nil
}

// handMissed hands over one event of a page, and notes now and then how far that is. False: the receiver took it not.
func (s *Sub) handMissed(p pending, note bool) bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.state == ended {
		return true
	}
	if !s.to.Change(p.change, p.ids) {
		return false
	}
	if note {
		s.note(&Place{p.change.Place})
	}
	return true
}

// readPage reads some of the events that are for the subscription and may be seen. Few do so at once.
func (s *Sub) readPage(ctx context.Context, from, upto eventlog.Position) (list []pending, next eventlog.Position, done bool, err error) {
	h := s.hub
	h.replays <- struct{}{}
	defer func() { <-h.replays }()
	events, next, done, err := h.log.Missed(ctx, from, upto, s.scope, replayPage)
	if err != nil {
		return nil, from, false, err
	}
	subjects := map[uuid.UUID]struct{}{}
	for _, e := range events {
		c := &Change{Event: e, Place: from.Within(next, e)}
		ids, err := s.mine(c)
		if err != nil {
			return nil, from, false, err
		}
		if len(ids) > 0 {
			list = append(list, pending{change: c, ids: ids})
			subjects[c.subject()] = struct{}{}
		}
	}
	if len(list) == 0 {
		return nil, next, done, nil
	}
	h.mu.Lock()
	v := s.viewer
	h.mu.Unlock()
	sights, err := h.askOne(ctx, v.caller, subjects)
	if err != nil {
		return nil, from, false, err
	}
	list = slices.DeleteFunc(list, func(p pending) bool { return !v.sees(sights[p.change.subject()], p.change.Owner) })
	return list, next, done, nil
}
