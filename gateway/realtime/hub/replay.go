package hub

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/realtime/eventlog"
)

const (
	replayPage   = 500 // events
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
	h := s.hub
	h.replays <- struct{}{}
	defer func() { <-h.replays }()
	events, next, done, err := h.log.Missed(ctx, from, upto, s.scope, replayPage)
	if err != nil {
		return from, false, err //nolint:wrapcheck // says it
	}
	list := make([]pending, 0, len(events))
	subjects := map[uuid.UUID]struct{}{}
	for _, e := range events {
		c := &Change{Event: e, Place: from.Within(next, e)}
		ids, err := s.mine(c)
		if err != nil {
			return from, false, err
		}
		if len(ids) > 0 {
			list = append(list, pending{change: c, ids: ids})
			subjects[c.subject()] = struct{}{}
		}
	}
	seen := map[uuid.UUID]sight{}
	if len(list) > 0 {
		h.mu.Lock()
		caller := s.viewer.caller
		h.mu.Unlock()
		if seen, err = h.ask(ctx, caller, subjects); err != nil {
			return from, false, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.state == ended {
		return next, true, nil
	}
	for _, p := range list {
		if s.viewer.sees(seen[p.change.subject()], p.change.Owner) && !s.to.Change(p.change, p.ids) {
			return from, false, ErrSlow
		}
	}
	s.note(&Place{next})
	return next, done, nil
}
