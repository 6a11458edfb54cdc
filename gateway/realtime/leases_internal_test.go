package realtime

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

// The lease of a page that was left ends when no browser can bring the page back any more, unless it has come back.
func TestTheLeaseOfAPageThatWasLeftEnds(t *testing.T) {
	t.Parallel()
	now := time.Now()
	long, back, lately := uuid.New(), uuid.New(), uuid.New()
	l := newLeases(nil, nil, nil)
	l.held[&lease{id: back}] = struct{}{}
	l.left = []departure{{long, now.Add(-keptPage - time.Second)}, {back, now.Add(-keptPage - time.Second)}, {lately, now.Add(-keptPage + time.Second)}}
	l.forgetLeft(now)
	if !slices.Equal(l.ended, []uuid.UUID{long}) || len(l.left) != 1 || l.left[0].id != lately {
		t.Errorf("ended %v, left %v; long %s, back %s, lately %s", l.ended, l.left, long, back, lately)
	}
}

func TestABucketIsFilledInTime(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var b bucket
	for _, step := range []struct {
		later time.Duration
		want  int // of ten at once
	}{{0, 5}, {0, 0}, {time.Second, 2}, {time.Hour, 5}} {
		now = now.Add(step.later)
		taken := 0
		for range 10 {
			if b.take(now, 2, 5) {
				taken++
			}
		}
		if taken != step.want {
			t.Errorf("%s later: %d, want %d", step.later, taken, step.want)
		}
	}
}
