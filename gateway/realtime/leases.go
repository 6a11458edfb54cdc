package realtime

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/realtime/hub"
)

const (
	flushEvery = time.Second
	flushMost  = 5 * time.Second  // that one may take
	keptPage   = 30 * time.Minute // for which a browser keeps a page that was left, at most
	refsAhead  = 8                // how far a client's message numbers may run ahead of what is written; see auth.take_lease
)

// leases keeps in the database how far the subscriptions of this gateway have come, each second and at the end.
type leases struct {
	id   uuid.UUID // of this gateway, while it runs
	pool *pgxpool.Pool
	hub  *hub.Hub
	log  *slog.Logger
	kick chan struct{}

	mu    sync.Mutex
	held  map[*lease]struct{}
	lost  []entry
	ended []uuid.UUID
	left  []departure
}

// departure is a page that said that it goes away. Mostly nobody comes back for its lease, but a browser may bring a page back that it has kept.
type departure struct {
	id uuid.UUID
	at time.Time
}

// lease is that of one subscription.
type lease struct {
	id      uuid.UUID
	sub     *hub.Sub
	ref     func() int64 // the last message number of its client
	written entry
}

// entry is what is written of one.
type entry struct {
	id    uuid.UUID
	ref   int64
	place *hub.Place // nil: as far as the gateway
	lost  bool
}

func newLeases(pool *pgxpool.Pool, h *hub.Hub, log *slog.Logger) *leases {
	return &leases{id: uuid.New(), pool: pool, hub: h, log: log, kick: make(chan struct{}, 1), held: map[*lease]struct{}{}}
}

// take begins a lease, or goes on with one: then it says from where.
// ref 0: the client did not number its message.
func (l *leases) take(ctx context.Context, key []byte, owner uuid.UUID, ref int64) (id uuid.UUID, from *string, err error) {
	var whose *uuid.UUID
	if owner != uuid.Nil {
		whose = &owner
	}
	err = l.pool.QueryRow(ctx, "select lease_id, resume_from from auth.take_lease($1, $2, $3, nullif($4, 0))", l.id, key, whose, ref).Scan(&id, &from)
	if err != nil {
		return uuid.Nil, nil, fmt.Errorf("taking a lease: %w", err)
	}
	return id, from, nil
}

// hold keeps a lease up to date from now on.
func (l *leases) hold(id uuid.UUID, sub *hub.Sub, from *hub.Place, ref func() int64) *lease {
	held := &lease{id: id, sub: sub, ref: ref, written: entry{id: id, ref: ref(), place: from}}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[held] = struct{}{}
	return held
}

// lose notes that the connection of a lease broke at a place: somebody may come back for it.
func (l *leases) lose(held *lease, place *hub.Place) {
	l.drop(held, func() { l.lost = append(l.lost, entry{held.id, held.ref(), place, true}) })
}

// leave is lose for a page that said that it goes away.
func (l *leases) leave(held *lease, place *hub.Place) {
	l.drop(held, func() {
		l.lost = append(l.lost, entry{held.id, held.ref(), place, true})
		l.left = append(l.left, departure{held.id, time.Now()})
	})
}

// forgetLeft ends the leases of pages that were left long ago. Called with the lock held.
func (l *leases) forgetLeft(now time.Time) {
	n := 0
	for ; n < len(l.left) && now.Sub(l.left[n].at) > keptPage; n++ {
		id, back := l.left[n].id, false
		for held := range l.held {
			back = back || held.id == id
		}
		if !back {
			l.ended = append(l.ended, id)
		}
	}
	l.left = l.left[n:]
}

// pass gives a lease up that the same connection goes on with.
func (l *leases) pass(held *lease) { l.drop(held, func() {}) }

// end gives a lease up.
func (l *leases) end(held *lease) {
	l.drop(held, func() { l.ended = append(l.ended, held.id) })
}

// give ends a lease that is not held.
func (l *leases) give(id uuid.UUID) {
	l.mu.Lock()
	l.ended = append(l.ended, id)
	l.mu.Unlock()
	l.wake()
}

func (l *leases) drop(held *lease, do func()) {
	l.mu.Lock()
	if _, found := l.held[held]; found {
		delete(l.held, held)
		do()
	}
	l.mu.Unlock()
	l.wake()
}

func (l *leases) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, and once more.
func (l *leases) run(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-l.kick:
		}
		_ = l.write(ctx) // it is in the log
	}
	<-l.hub.Done()
	_ = l.write(ctx)
}

// write writes what has changed. What cannot be written is tried again.
func (l *leases) write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushMost)
	defer cancel()
	l.mu.Lock()
	l.forgetLeft(time.Now())
	lost, over := l.lost, l.ended
	l.lost, l.ended = nil, nil
	held := make([]*lease, 0, len(l.held))
	subs := make([]*hub.Sub, 0, len(l.held))
	for one := range l.held {
		held = append(held, one)
		subs = append(subs, one.sub)
	}
	l.mu.Unlock()
	end, places := l.hub.Places(subs)
	changed := make([]entry, 0, len(lost))
	of := make([]*lease, 0, len(lost))
	for i, one := range held {
		if places[i] == hub.Gone {
			continue // and is noted as lost or ended
		}
		if now := (entry{one.id, one.ref(), places[i], false}); now.place != one.written.place || now.ref >= one.written.ref+refsAhead {
			changed = append(changed, now)
			of = append(of, one)
		}
	}
	err := l.keep(ctx, end, append(changed, lost...))
	if err == nil {
		for i, one := range of {
			one.written = changed[i]
		}
		lost = nil
		if len(over) > 0 {
			_, err = l.pool.Exec(ctx, "select auth.end_leases($1, $2)", l.id, over)
		}
	}
	if err != nil {
		l.log.Warn("realtime: how far subscriptions have come cannot be written", "error", err)
		l.mu.Lock()
		l.lost, l.ended = append(lost, l.lost...), append(over, l.ended...)
		l.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("writing leases: %w", err)
	}
	return nil
}

func (l *leases) keep(ctx context.Context, end *hub.Place, entries []entry) error {
	n := len(entries)
	ids, refs, positions, lost := make([]uuid.UUID, n), make([]int64, n), make([]*string, n), make([]bool, n)
	for i, e := range entries {
		ids[i], refs[i], lost[i] = e.id, e.ref, e.lost
		if e.place != nil {
			text := e.place.String()
			positions[i] = &text
		}
	}
	_, err := l.pool.Exec(ctx, "select auth.keep_leases($1, $2, $3, $4, $5, $6)", l.id, end.String(), ids, refs, positions, lost)
	if err != nil {
		return fmt.Errorf("keeping leases: %w", err)
	}
	return nil
}
