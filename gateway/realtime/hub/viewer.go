package hub

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"darkroom/gateway/identity"
)

// Caller is somebody who subscribes, by a credential that is verified anew as long as they do.
type Caller struct {
	Who     identity.Identity
	Expires time.Time // the zero time: never

	credential string
	session    uuid.UUID // that the access token belongs to; uuid.Nil: none of ours
	answers    map[uuid.UUID]answer
}

// sight is what row security says of a project or user.
type sight int

const (
	hidden   sight = iota
	visible        // the caller may see what is of it
	vanished       // it is there no more: what was of it is shown to whom it belonged
)

// answer is what row security said of a project or user.
type answer struct {
	sight sight
	asked time.Time
	used  time.Time
}

type viewerKey [sha256.Size]byte

// viewer is a caller with all their subscriptions.
type viewer struct {
	hub      *Hub
	key      viewerKey
	caller   *Caller
	subs     map[*Sub]struct{}
	answers  map[uuid.UUID]answer
	wanted   map[uuid.UUID]struct{}
	checking bool
	checked  time.Time
}

// Caller finds out who has a credential. Its errors are those of [identity.Verifier], and [ErrExpired] without the leeway that single requests have.
func (h *Hub) Caller(ctx context.Context, credential string) (*Caller, error) {
	who, err := h.verifier.Verify(ctx, credential)
	if err != nil {
		return nil, err
	}
	c := &Caller{Who: who, credential: credential}
	var claims struct {
		Issuer  string      `json:"iss"`
		Expires json.Number `json:"exp"`
		Session string      `json:"session_id"`
	}
	if err := json.Unmarshal(who.Claims, &claims); err != nil {
		return nil, fmt.Errorf("reading claims: %w", err)
	}
	if seconds, err := claims.Expires.Float64(); err == nil {
		if c.Expires = time.Unix(int64(seconds), 0); time.Now().After(c.Expires) {
			return nil, ErrExpired
		}
	}
	if h.issuer != "" && claims.Issuer == h.issuer {
		c.session, _ = uuid.Parse(claims.Session)
	}
	return c, nil
}

// Check asks whether the caller is still let in, and which of the projects and users they may see.
func (h *Hub) Check(ctx context.Context, c *Caller, ids map[uuid.UUID]struct{}) (map[uuid.UUID]bool, error) {
	asked := time.Now()
	sights, err := h.askOne(ctx, c, ids)
	if err != nil {
		return nil, err
	}
	c.answers = map[uuid.UUID]answer{}
	seen := map[uuid.UUID]bool{}
	for id := range ids {
		c.answers[id] = answer{sights[id], asked, asked}
		seen[id] = sights[id] == visible
	}
	return seen, nil
}

// May tells whether a subscriber may see what belongs to a project or user, now or a moment ago. It ends the subscriptions of a caller who is not let
// in any more.
func (h *Hub) May(ctx context.Context, sub *Sub, id uuid.UUID) bool {
	h.mu.Lock()
	v := sub.viewer
	s, known := v.sight(id, time.Now())
	h.mu.Unlock()
	if known {
		return s == visible
	}
	asked, ids := time.Now(), map[uuid.UUID]struct{}{id: {}}
	answers, err := h.askOne(ctx, v.caller, ids)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil || isRefusal(err) {
		v.learn(ids, answers, err, asked)
	}
	return err == nil && answers[id] == visible
}

func (h *Hub) viewerOf(c *Caller) *viewer {
	key := viewerKey(sha256.Sum256([]byte(c.credential)))
	v := h.viewers[key]
	if v == nil {
		v = &viewer{hub: h, key: key, caller: c, subs: map[*Sub]struct{}{}, answers: map[uuid.UUID]answer{}, wanted: map[uuid.UUID]struct{}{}, checked: time.Now()}
		h.viewers[key] = v
	}
	maps.Copy(v.answers, c.answers)
	c.answers = nil
	return v
}

// drop forgets a viewer without subscriptions.
func (h *Hub) drop(v *viewer) {
	if len(v.subs) == 0 && h.viewers[v.key] == v {
		delete(h.viewers, v.key)
	}
}

// may tells whether the caller may see what is of a project or user and belongs to owner, as far as that is known.
func (v *viewer) may(id, owner uuid.UUID, now time.Time) (seen, known bool) {
	s, known := v.sight(id, now)
	return known && v.sees(s, owner), known
}

// sight is the answer of row security, as far as there is one that counts.
func (v *viewer) sight(id uuid.UUID, now time.Time) (s sight, known bool) {
	if v.caller.Who.Role == identity.Service {
		return visible, true
	}
	a, found := v.answers[id]
	if !found || now.Sub(a.asked) > Believed {
		return hidden, false
	}
	if a.used != now {
		a.used = now
		v.answers[id] = a
	}
	return a.sight, true
}

// sees tells whether the caller sees an event. Row security must say so, and the event be of the caller's own: somebody may have made a project with the
// id of another's that was deleted.
func (v *viewer) sees(s sight, owner uuid.UUID) bool {
	who := v.caller.Who
	return who.Role == identity.Service || s != hidden && owner == who.Subject
}

// want asks for an answer.
func (v *viewer) want(id uuid.UUID) {
	v.wanted[id] = struct{}{}
	v.check()
}

// check lets the hub ask row security, unless it is about to.
func (v *viewer) check() {
	if !v.checking {
		v.checking = true
		v.hub.due = append(v.hub.due, v)
		select {
		case v.hub.kick <- struct{}{}:
		default:
		}
	}
}

// questions are the ids whose answers are wanted, and those that are in use too.
func (v *viewer) questions(now time.Time) map[uuid.UUID]struct{} {
	ids := v.wanted
	v.wanted = map[uuid.UUID]struct{}{}
	for id, a := range v.answers {
		switch unused := now.Sub(a.used); {
		case unused < Believed:
			ids[id] = struct{}{}
		case unused > forgetAfter:
			delete(v.answers, id)
		}
	}
	return ids
}

// learn takes the answers, and tells whether there is more to ask.
func (v *viewer) learn(ids map[uuid.UUID]struct{}, seen map[uuid.UUID]sight, err error, asked time.Time) (again bool) {
	switch {
	case v.hub.ctx.Err() != nil || len(v.subs) == 0:
		return false
	case err == nil:
	case isOutage(err): // all wait until it is over
		maps.Copy(v.wanted, ids)
		return true
	default:
		if !isRefusal(err) {
			v.hub.logger.Warn("realtime: row security cannot be asked", "key", v.caller.Who.Key, "error", err)
			err = errors.Join(ErrCheck, err)
		}
		for s := range v.subs {
			s.fail(err)
		}
		return false
	}
	now := time.Now()
	v.checked = now
	for id := range ids {
		used := now
		if a, found := v.answers[id]; found {
			used = a.used
		}
		v.answers[id] = answer{seen[id], asked, used}
	}
	for s := range v.subs {
		if s.state == waiting {
			s.flush(now)
		}
	}
	return len(v.wanted) > 0
}

// isRefusal tells whether an error is that the caller is not let in any more.
func isRefusal(err error) bool {
	return errors.Is(err, ErrExpired) || errors.Is(err, ErrRevoked) || errors.Is(err, ErrSignedOut)
}

// isOutage tells whether an error is the database's and passes. One that its rules raise does not.
func isOutage(err error) bool {
	pg, raised := errors.AsType[*pgconn.PgError](err)
	if !raised {
		return !isRefusal(err)
	}
	switch pg.Code[:2] {
	case "08", "53", "57", "58":
		return pg.Code != queryCanceled
	}
	return false
}

// queryCanceled is a statement that took longer than its role may.
const queryCanceled = "57014"

// sweep ends what has expired, and keeps fresh what is in use, until ctx ends.
func (h *Hub) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			h.mu.Lock()
			for _, v := range h.viewers {
				v.sweep(now)
			}
			h.mu.Unlock()
		}
	}
}

func (v *viewer) sweep(now time.Time) {
	if expires := v.caller.Expires; !expires.IsZero() && now.After(expires) {
		for s := range v.subs {
			s.fail(ErrExpired)
		}
		return
	}
	if v.checking {
		return
	}
	if now.Sub(v.checked) > idleCheck {
		v.check()
		return
	}
	for _, a := range v.answers {
		if now.Sub(a.used) < Believed && now.Sub(a.asked) > refreshAfter {
			v.check()
			return
		}
	}
}
