// Package hub hands the events of the log to those who subscribed to them and may see them.
//
// One reader follows the log. An index by table and project, or owner, finds the subscriptions of an event, so that it touches no others. Whether a
// subscriber may see it, row security is asked: once for all subscriptions of a caller, again every second or two while events come, and what was
// allowed longer ago than [Believed] is not believed. A subscription whose check, filter or receiver fails ends alone, and its place in the log is
// known, so that whoever comes back to it misses nothing.
package hub

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/identity"
	"darkroom/gateway/realtime/eventlog"
)

// Believed is how long an answer of row security counts. With up to 2 s for which a personal access token that was revoked still works elsewhere,
// nothing is shown 5 s after it was taken away.
const Believed = 2500 * time.Millisecond

const (
	sweepEvery   = 500 * time.Millisecond
	refreshAfter = 1500 * time.Millisecond // of an answer that is still asked for
	idleCheck    = 5 * time.Minute         // of callers to whom nothing happens
	forgetAfter  = 30 * time.Second        // of answers that nobody asks for
	checkMost    = 5 * time.Second         // that one check may take
	checksAtOnce = 2                       // of the pool's connections, and as many readings of the log
	maxPending   = 1000                    // events that wait for an answer or a replay; with more the log is read again
)

// Why a subscription ended.
var (
	ErrExpired   = errors.New("the access token has expired")
	ErrRevoked   = errors.New("the access token is not valid any more")
	ErrSignedOut = errors.New("the session has ended")
	ErrReset     = errors.New("the history of the database has changed: read anew what you show")
	ErrFilter    = errors.New("the filter cannot be applied to a row")
	ErrCheck     = errors.New("row security cannot be asked")
	ErrSlow      = errors.New("the connection is too slow for what happens")
	ErrStopping  = errors.New("the gateway stops")
)

// Config is what a Hub needs.
type Config struct {
	Log      *eventlog.Log
	Pool     *pgxpool.Pool // of a login that may become its callers
	Verifier *identity.Verifier
	Issuer   string // of the access tokens that are made here and so belong to a session; "" for none
	Logger   *slog.Logger
}

// Hub is the one reader of the event log in a gateway. It is safe for concurrent use.
type Hub struct {
	log      *eventlog.Log
	pool     *pgxpool.Pool
	verifier *identity.Verifier
	issuer   string
	logger   *slog.Logger
	slots    chan struct{} // checks of single callers at once
	kick     chan struct{} // somebody is due
	replays  chan struct{} // readings of the log at once
	done     chan struct{}
	wait     sync.WaitGroup

	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // of Run: what works for subscriptions ends with it
	closed  bool
	end     *Place // of what was dispatched
	index   map[key][]entry
	viewers map[viewerKey]*viewer
	due     []*viewer // to be checked
	touched []*Sub    // by the batch that is dispatched
}

// Place is a position in the log; one is made per batch and shared.
type Place struct{ eventlog.Position }

// New makes a Hub that is at the present end of the log.
func New(ctx context.Context, c Config) (*Hub, error) {
	now, err := c.Log.Now(ctx)
	if err != nil {
		return nil, err
	}
	return &Hub{
		log: c.Log, pool: c.Pool, verifier: c.Verifier, issuer: c.Issuer, logger: c.Logger, slots: make(chan struct{}, checksAtOnce), kick: make(chan struct{}, 1),
		replays: make(chan struct{}, checksAtOnce), done: make(chan struct{}), end: &Place{now}, index: map[key][]entry{}, viewers: map[viewerKey]*viewer{},
	}, nil
}

// Done is closed when Run has ended all subscriptions.
func (h *Hub) Done() <-chan struct{} { return h.done }

// Run follows the log until ctx ends; then all subscriptions have ended. It is called once, and closes ready when Subscribe may be.
func (h *Hub) Run(ctx context.Context, ready chan<- struct{}) {
	h.mu.Lock()
	h.ctx = ctx
	from := h.end.Position
	h.mu.Unlock()
	close(ready)
	defer close(h.done)
	h.wait.Go(func() { h.sweep(ctx) })
	h.wait.Go(func() { h.checker(ctx) })
	h.log.Follow(ctx, from, h.dispatch)
	h.mu.Lock()
	h.closed = true
	h.endAll(ErrStopping)
	h.mu.Unlock()
	h.wait.Wait()
}

// End is how far the log was dispatched.
func (h *Hub) End() *Place {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.end
}

// dispatch hands a batch to its subscriptions. It waits for nobody.
func (h *Hub) dispatch(batch eventlog.Batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if batch.Reset {
		h.end = &Place{batch.End}
		h.endAll(ErrReset)
		return
	}
	now, before, after := time.Now(), h.end, &Place{batch.End}
	for _, e := range batch.Events {
		h.route(&Change{Event: e, Place: before.Within(batch.End, e)}, before, now)
	}
	h.end = after
	for _, s := range h.touched {
		s.settle(after)
	}
	h.touched = h.touched[:0]
}

// endAll ends every subscription.
func (h *Hub) endAll(why error) {
	for _, v := range h.viewers {
		for s := range v.subs {
			s.fail(why)
		}
	}
}

// Gone is the place of a subscription that has ended.
var Gone = &Place{} //nolint:gochecknoglobals // compared by address

// Places says how far the receivers of subscriptions have certainly come; nil is as far as end, and to be kept up with it.
func (h *Hub) Places(subs []*Sub) (end *Place, places []*Place) {
	h.mu.Lock()
	defer h.mu.Unlock()
	places = make([]*Place, len(subs))
	for i, s := range subs {
		if places[i] = Gone; s.state != ended {
			places[i] = s.place()
		}
	}
	return h.end, places
}

// key is what subscriptions are found by: one of owner and project, or neither for everything in a table.
type key struct {
	table          string
	owner, project uuid.UUID
}

// entry is one binding of a subscription.
type entry struct {
	sub *Sub
	nth int // of its bindings
}

// route finds the subscriptions of an event.
func (h *Hub) route(c *Change, before *Place, now time.Time) {
	var first *Sub // of those that were found, linked by next
	find := func(k key) {
		for _, at := range h.index[k] {
			s := at.sub
			fits, err := s.bindings[at.nth].fits(c)
			if err != nil {
				h.logger.Warn("a filter of a realtime subscription failed", "error", err)
				s.failed = err
			}
			if !fits && err == nil {
				continue
			}
			if !s.found {
				s.found, s.next, first = true, first, s
			}
			s.ids = append(s.ids, s.bindings[at.nth].ID)
		}
	}
	if c.Project != uuid.Nil {
		find(key{table: c.Table, project: c.Project})
	}
	find(key{table: c.Table, owner: c.Owner})
	find(key{table: c.Table})
	for s := first; s != nil; {
		next := s.next
		ids, failed := s.ids, s.failed
		s.found, s.next, s.ids, s.failed = false, nil, nil, nil
		if failed != nil {
			s.fail(errors.Join(ErrFilter, failed))
		} else {
			s.offer(c, ids, before, now)
		}
		s = next
	}
}

func (h *Hub) add(s *Sub) {
	for i, b := range s.bindings {
		for _, k := range b.keys(s.viewer.caller.Who) {
			h.index[k] = append(h.index[k], entry{s, i})
		}
	}
}

func (h *Hub) remove(s *Sub) {
	for _, b := range s.bindings {
		for _, k := range b.keys(s.viewer.caller.Who) {
			left := slices.DeleteFunc(h.index[k], func(at entry) bool { return at.sub == s })
			if len(left) == 0 {
				delete(h.index, k)
			} else {
				h.index[k] = left
			}
		}
	}
}
