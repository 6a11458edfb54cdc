package hub

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/identity"
	"darkroom/gateway/realtime/eventlog"
)

// receiver counts what it is given; what has arrived, the test says.
type receiver struct {
	handed  []*Change
	arrived int
}

func (r *receiver) Change(c *Change, _ []int) bool {
	r.handed = append(r.handed, c)
	return true
}
func (*receiver) Ended(error, *Place)               {}
func (r *receiver) Counts() (taken, arrived uint64) { return uint64(len(r.handed)), uint64(r.arrived) }
func (*receiver) Wait(context.Context) error        { return nil }

// Whatever is allowed, asked, and received in whatever order: the place that a subscription would be gone on from is never after something that it should
// have and that has not certainly arrived; and once everything has arrived it is up with the hub.
func TestAPlaceIsNeverAfterWhatHasNotArrived(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		tryPlaces(t, rand.New(rand.NewPCG(seed, 0)))
	}
}

func tryPlaces(t *testing.T, random *rand.Rand) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	h := &Hub{
		ctx: ctx, kick: make(chan struct{}, 1), logger: slog.New(slog.DiscardHandler), end: &Place{}, index: map[key][]entry{}, viewers: map[viewerKey]*viewer{},
	}
	owner := uuid.New()
	projects := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()} // the last is not the caller's to see
	caller := &Caller{Who: identity.Identity{Role: identity.Authenticated, Subject: owner}}
	r := &receiver{}
	s, err := h.Subscribe(caller, []Binding{{ID: 1, Table: "tasks"}}, r)
	if err != nil {
		t.Fatal(err)
	}
	s.Start(nil)
	batchOf := map[*Place]int{h.end: 0}
	eventBatch := map[*eventlog.Event]int{}
	should := map[*eventlog.Event]bool{}
	answer := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.due = nil
		ids := s.viewer.questions(time.Now())
		seen := map[uuid.UUID]sight{projects[0]: visible, projects[1]: visible}
		s.viewer.learn(ids, seen, nil, time.Now())
		s.viewer.checking = false
	}
	check := func(when string) {
		_, places := h.Places([]*Sub{s})
		place := places[0]
		if place == nil {
			place = h.end
		}
		at, known := batchOf[place]
		if !known {
			t.Fatalf("%s: a place that is none", when)
		}
		arrived := map[*eventlog.Event]bool{}
		for _, c := range r.handed[:r.arrived] {
			arrived[c.Event] = true
		}
		for e, b := range eventBatch {
			if should[e] && !arrived[e] && b <= at {
				t.Fatalf("%s: it would go on after batch %d, and an event of batch %d has not arrived", when, at, b)
			}
		}
	}
	for n := 1; n < 60; n++ {
		switch random.IntN(4) {
		case 0, 1:
			batch := eventlog.Batch{End: eventlog.Position{Epoch: strconv.Itoa(n)}}
			for range random.IntN(4) {
				project := projects[random.IntN(len(projects))]
				e := &eventlog.Event{Owner: owner, Project: project, Table: "tasks", Kind: eventlog.Insert}
				eventBatch[e], should[e] = n, project != projects[2]
				batch.Events = append(batch.Events, e)
			}
			h.dispatch(batch)
			batchOf[h.end] = n
			check("after a batch")
		case 2:
			if random.IntN(3) == 0 { // what was allowed is too old to be believed
				h.mu.Lock()
				clear(s.viewer.answers)
				h.mu.Unlock()
			}
			answer()
			check("after an answer")
		default:
			r.arrived += random.IntN(len(r.handed) - r.arrived + 1)
			check("after an arrival")
		}
	}
	answer()
	h.dispatch(eventlog.Batch{End: eventlog.Position{Epoch: "last"}})
	batchOf[h.end] = len(batchOf) + 1000
	r.arrived = len(r.handed)
	check("at the end")
	if _, places := h.Places([]*Sub{s}); places[0] != nil {
		t.Fatal("all has arrived, and it is not up with the hub")
	}
	got := map[*eventlog.Event]int{}
	for _, c := range r.handed {
		got[c.Event]++
	}
	for e, wanted := range should {
		if (got[e] == 1) != wanted || got[e] > 1 {
			t.Fatalf("an event came %d times, wanted: %v", got[e], wanted)
		}
	}
}
