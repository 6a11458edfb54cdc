package hub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"darkroom/gateway/identity"
)

// checksTogether is how many callers are asked about in one transaction.
const checksTogether = 100

// question is what is asked for one caller: whether they are still let in, and what they may see.
type question struct {
	caller *Caller
	ids    map[uuid.UUID]struct{}
	viewer *viewer

	seen map[uuid.UUID]sight
	err  error
}

// checker answers what viewers want to know, for many of them at a time, until ctx ends. What comes up while it asks waits for the next time.
func (h *Hub) checker(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.kick:
		}
		for ctx.Err() == nil {
			h.mu.Lock()
			asked := time.Now()
			n := min(len(h.due), checksTogether)
			batch := make([]*question, n)
			for i, v := range h.due[:n] {
				batch[i] = &question{caller: v.caller, ids: v.questions(asked), viewer: v}
			}
			if h.due = h.due[n:]; len(h.due) == 0 {
				h.due = nil
			}
			h.mu.Unlock()
			if n == 0 {
				break
			}
			h.check(ctx, batch, asked)
		}
	}
}

// check asks for a batch and hands out the answers. When that fails, each is asked for alone and beside the others, so that a caller for whom row
// security raises keeps nobody waiting.
func (h *Hub) check(ctx context.Context, batch []*question, asked time.Time) {
	h.ask(ctx, batch)
	h.mu.Lock()
	defer h.mu.Unlock()
	alone := len(batch) > 1
	for _, q := range batch {
		switch {
		case q.err != nil && alone && !isOutage(q.err) && !isRefusal(q.err):
			h.wait.Go(func() {
				h.slots <- struct{}{}
				defer func() { <-h.slots }()
				again := time.Now()
				h.ask(ctx, []*question{q})
				h.mu.Lock()
				defer h.mu.Unlock()
				q.viewer.answered(q, again)
			})
		default:
			q.viewer.answered(q, asked)
		}
	}
}

// answered learns what was asked, and asks again for what is missing: after an outage a moment later.
func (v *viewer) answered(q *question, asked time.Time) {
	again := v.learn(q.ids, q.seen, q.err, asked)
	v.checking = false
	switch {
	case !again:
	case q.err == nil:
		v.check()
	default:
		v.checking = true
		time.AfterFunc(replayPause, func() {
			v.hub.mu.Lock()
			defer v.hub.mu.Unlock()
			v.checking = false
			v.check()
		})
	}
}

// askOne asks for one caller at once.
func (h *Hub) askOne(ctx context.Context, c *Caller, ids map[uuid.UUID]struct{}) (map[uuid.UUID]sight, error) {
	q := &question{caller: c, ids: ids}
	h.ask(ctx, []*question{q})
	return q.seen, q.err
}

// ask verifies credentials and sessions, and asks row security.
func (h *Hub) ask(ctx context.Context, batch []*question) {
	ctx, cancel := context.WithTimeout(ctx, checkMost)
	defer cancel()
	left := make([]*question, 0, len(batch))
	for _, q := range batch {
		q.err, q.seen = h.verify(ctx, q.caller), map[uuid.UUID]sight{}
		if q.err == nil {
			left = append(left, q)
		}
	}
	for _, step := range []func(context.Context, []*question) error{h.askSessions, h.askRowSecurity, h.findVanished} {
		if err := step(ctx, left); err != nil {
			for _, q := range left {
				if q.err == nil {
					q.err = err
				}
			}
			return
		}
	}
}

// verify asks whether a credential is still good, for whom it was.
func (h *Hub) verify(ctx context.Context, c *Caller) error {
	if !c.Expires.IsZero() && time.Now().After(c.Expires) {
		return ErrExpired
	}
	who, err := h.verifier.Verify(ctx, c.credential)
	switch {
	case errors.Is(err, identity.ErrExpired):
		return ErrExpired
	case errors.Is(err, identity.ErrInvalid):
		return ErrRevoked
	case err != nil:
		return err
	case who.Role != c.Who.Role || who.Subject != c.Who.Subject:
		return ErrRevoked
	}
	return nil
}

// askSessions finds the callers whose sessions have ended.
func (h *Hub) askSessions(ctx context.Context, batch []*question) error {
	var sessions, users []uuid.UUID
	for _, q := range batch {
		if q.caller.session != uuid.Nil {
			sessions, users = append(sessions, q.caller.session), append(users, q.caller.Who.Subject)
		}
	}
	if len(sessions) == 0 {
		return nil
	}
	rows, err := h.pool.Query(ctx, "select auth.ended_sessions($1, $2)", sessions, users)
	if err != nil {
		return fmt.Errorf("asking for sessions: %w", err)
	}
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		for _, q := range batch {
			if q.caller.session == id {
				q.err = ErrSignedOut
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("asking for sessions: %w", err)
	}
	return nil
}

// askRowSecurity asks what the callers may see, as each of them, in one transaction.
func (h *Hub) askRowSecurity(ctx context.Context, batch []*question) error {
	var roles, claims []string
	var askers []int32
	var subjects []uuid.UUID
	for i, q := range batch {
		roles, claims = append(roles, string(q.caller.Who.Role)), append(claims, string(q.caller.Who.Claims))
		for id := range q.ids {
			askers, subjects = append(askers, int32(i+1)), append(subjects, id)
		}
	}
	if len(subjects) == 0 {
		return nil
	}
	rows, err := h.pool.Query(ctx, "select asker, subject from auth.readable_by($1, $2, $3, $4)", roles, claims, askers, subjects)
	if err != nil {
		return fmt.Errorf("asking row security: %w", err)
	}
	var asker int32
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&asker, &id}, func() error {
		batch[asker-1].seen[id] = visible
		return nil
	})
	if err != nil {
		return fmt.Errorf("asking row security: %w", err)
	}
	return nil
}

// findVanished notes which of the ids that nobody may see are there no more.
func (h *Hub) findVanished(ctx context.Context, batch []*question) error {
	var list []uuid.UUID
	for _, q := range batch {
		for id := range q.ids {
			if q.seen[id] == hidden {
				list = append(list, id)
			}
		}
	}
	if len(list) == 0 {
		return nil
	}
	rows, err := h.pool.Query(ctx, "select auth.vanished($1)", list)
	if err != nil {
		return fmt.Errorf("asking what is there no more: %w", err)
	}
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		for _, q := range batch {
			if _, asked := q.ids[id]; asked {
				q.seen[id] = vanished
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("asking what is there no more: %w", err)
	}
	return nil
}
