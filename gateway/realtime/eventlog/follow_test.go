package eventlog_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"darkroom/gateway/realtime/eventlog"
)

// A transaction that began first and commits last: its events come when it commits, and nobody waits for it.
func TestEventsComeInTheOrderOfCommits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.follow(b.events, b.now())
	first, second := b.begin(), b.begin()
	b.shot(first, "first")
	b.shot(second, "second")
	b.must(second.Commit(t.Context()))
	if got := f.name("second"); !slices.Equal(got, []string{"second"}) {
		t.Errorf("while the first is open: %q", got)
	}
	b.must(first.Commit(t.Context()))
	if got := f.name("first"); !slices.Equal(got, []string{"second", "first"}) {
		t.Errorf("then: %q", got)
	}
}

// What a transaction writes that is open when numbers are looked at is found when it commits, from every position meanwhile: it has a greater number than
// all that have ended, and gave its event the last number.
func TestTheSearchBeginsBelowAllThatIsOpen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	open := b.begin()
	b.shot(open, "late")
	f := b.follow(b.events, b.now())
	b.shot(b.pg.Pool, "early")
	f.name("early")
	at := b.now()
	b.must(open.Commit(t.Context()))
	f.name("late")
	b.shot(b.pg.Pool, "last")
	f.name("last")
	f.stop()
	<-f.done
	b.rest(at, f, []string{"late", "last"})
}

// Writers on many connections whose transactions end in any order, some never, while one stays open all along: everything that was committed comes
// once, each row's changes in order, and from every position on the way the rest can be read, by its text.
func TestNothingIsLostAndNothingComesTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	start := b.now()
	f := b.follow(b.events, start)
	long := b.begin()
	b.shot(long, "long")

	const writers, each = 12, 30
	want := []string{"long", "end"}
	var mu sync.Mutex
	var writing sync.WaitGroup
	for w := range writers {
		conn := b.pg.Conn(t)
		writing.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			var open pgx.Tx
			var held []string
			for i := range each {
				if open == nil {
					var err error
					if open, err = conn.Begin(t.Context()); err != nil {
						t.Error(err)
						return
					}
				}
				name := fmt.Sprintf("%d.%d", w, i)
				b.shot(open, name)
				held = append(held, name)
				switch random.IntN(4) {
				case 0:
					_ = open.Rollback(t.Context())
					open, held = nil, nil
				case 1, 2:
					if err := open.Commit(t.Context()); err != nil {
						t.Error(err)
					}
					mu.Lock()
					want = append(want, held...)
					mu.Unlock()
					open, held = nil, nil
				}
			}
			if open != nil {
				_ = open.Rollback(t.Context())
			}
		})
	}
	writing.Wait()
	b.must(long.Commit(t.Context()))
	b.shot(b.pg.Pool, "end")
	f.name("long")
	got := f.name("end")
	slices.Sort(want)
	if sorted := slices.Sorted(slices.Values(got)); !slices.Equal(sorted, want) {
		t.Errorf("got %d events, want %d:\n%q\n%q", len(got), len(want), sorted, want)
	}

	f.stop()
	<-f.done
	seen, before := 0, start
	for _, batch := range f.batches {
		for i, e := range batch.Events {
			if i%9 == 0 {
				b.rest(before.Within(batch.End, e), f, got[seen+i+1:])
			}
		}
		seen += len(batch.Events)
		b.rest(batch.End, f, got[seen:])
		before = batch.End
	}
	b.rest(start, f, got)
}

// rest reads what comes after a position, by its text, and compares it with what Follow handed over after it.
func (b *bundle) rest(at eventlog.Position, f *follower, want []string) {
	b.t.Helper()
	parsed, err := eventlog.ParsePosition(at.String())
	if err != nil || parsed != at {
		b.t.Fatalf("%s is read as %v, %v", at, parsed, err)
	}
	upto := f.batches[len(f.batches)-1].End
	var got []string
	for done := false; !done; {
		var events []*eventlog.Event
		events, at, done, err = b.events.Missed(b.t.Context(), at, upto, eventlog.Scope{Owner: b.owner, Project: b.project}, 50)
		b.must(err)
		got = append(got, names(events)...)
	}
	// Within one reading the order is that of the numbers; readings that were several are one here.
	if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		b.t.Errorf("after %s: %d events\n%q, not\n%q", parsed, len(got), got, want)
	}
}

// A large transaction comes in several batches, and from the middle of it the rest can be read, up to the middle too.
func TestALargeTransactionComesInParts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	start := b.now()
	_, err := b.pg.Pool.Exec(t.Context(), "insert into shots (project_id, name) select $1, n::text from generate_series(1, 2500) n", b.project)
	b.must(err)
	f := b.follow(b.events, start)
	f.name("2500")
	f.stop()
	<-f.done
	var halves []eventlog.Position
	for _, batch := range f.batches {
		if batch.End.Upto != "" {
			halves = append(halves, batch.End)
		}
	}
	if len(halves) != 2 {
		t.Fatalf("%d of %d batches end in the middle", len(halves), len(f.batches))
	}
	count := func(from, upto eventlog.Position) (n int) {
		for done := false; !done; {
			var events []*eventlog.Event
			events, from, done, err = b.events.Missed(t.Context(), from, upto, eventlog.Scope{}, 600)
			b.must(err)
			n += len(events)
		}
		if from != upto {
			t.Errorf("it ends at %v, not %v", from, upto)
		}
		return n
	}
	whole := f.batches[len(f.batches)-1].End
	for _, c := range []struct {
		from, upto eventlog.Position
		want       int
	}{
		{start, halves[0], 1000},
		{start, halves[1], 2000},
		{halves[0], halves[1], 1000},
		{halves[0], whole, 1500},
		{halves[1], whole, 500},
		{halves[1], halves[0], 0},
		{whole, halves[0], 0},
		{whole, whole, 0},
		{start, start, 0},
	} {
		if got := count(c.from, c.upto); got != c.want {
			t.Errorf("from %v to %v: %d events, want %d", c.from, c.upto, got, c.want)
		}
	}
}

// The connection that listens is killed, again and again, while events are written.
func TestFollowingSurvivesKilledConnections(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.follow(b.events, b.now())
	var want []string
	for i := range 5 {
		for j := range 20 {
			want = append(want, fmt.Sprintf("%d.%d", i, j))
			b.shot(b.pg.Pool, want[len(want)-1])
		}
		var pid uint32
		for deadline := time.Now().Add(awhile); pid == 0 && time.Now().Before(deadline); { // it may be connecting
			_ = b.pg.Pool.QueryRow(t.Context(), `select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
				and query like '%auth.read_events%'`).Scan(&pid)
		}
		b.pg.Kill(t, pid)
	}
	if got := f.name(want[len(want)-1]); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if !strings.Contains(b.log.String(), "trying again") {
		t.Error("the log does not say that the connection broke")
	}
}

// What was removed since cannot be gone on from, nor can a position of another database; the reader itself begins anew and says so.
func TestBeyondRetentionAndInAnotherHistoryItBeginsAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	start := b.now()
	b.shot(b.pg.Pool, "early")
	b.settled()
	kept := b.now()
	_, err := b.pg.Pool.Exec(t.Context(), "update darkroom.event_log set keep = '1 minute'")
	b.must(err)
	for range 8 { // all partitions in turn, until that of the events is emptied
		_, err := b.pg.Pool.Exec(t.Context(), "update darkroom.event_log set slot_since = '-infinity'")
		b.must(err)
		var went bool
		if b.must(b.pg.Pool.QueryRow(t.Context(), "select darkroom.rotate_events()").Scan(&went)); !went {
			t.Fatal("the log does not go on to the next partition")
		}
	}
	upto := b.now()
	other := upto
	other.Epoch = "another-1-1"
	for what, at := range map[string]eventlog.Position{"before what was removed": start, "of another database": other} {
		if _, _, _, err := b.events.Missed(t.Context(), at, upto, eventlog.Scope{Owner: b.owner}, 10); err == nil || !strings.Contains(err.Error(), eventlog.ErrGone.Error()) {
			t.Errorf("%s: %v", what, err)
		}
		f := b.follow(b.events, at)
		f.until("a reset", func(_ []*eventlog.Event, resets int) bool { return resets == 1 })
		b.shot(b.pg.Pool, what)
		if got := f.name(what); len(got) != 1 {
			t.Errorf("%s: after the reset %q", what, got)
		}
	}
	if _, _, _, err := b.events.Missed(t.Context(), kept, upto, eventlog.Scope{Owner: b.owner}, 10); err != nil {
		t.Errorf("after what was removed: %v", err)
	}
}

// settled waits until no transaction of the server is open that is older than the last event: with one, a position is taken for older than it is.
func (b *bundle) settled() {
	b.t.Helper()
	for settled := false; !settled; {
		b.must(b.pg.Pool.QueryRow(b.t.Context(), "select pg_snapshot_xmin(pg_current_snapshot()) > max(e.xid) from darkroom.task_events e").Scan(&settled))
	}
}

func TestNonsenseIsNoPosition(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "~", "a~1~", "a~x~1:1:", "~1~1:1:", "a~1~0:1:", "a~1~2:1:", "a~1~1:2:3", "a~1~1:5:3,2", "a~1~1:2:~1:2:", "a~1~1:2:~1:2:~x", "a~1~1:2:~x~1",
		"a~1~1:2:3:4", "a~1~-1:2:", strings.Repeat("a", 100_000) + "~1~1:1:",
	} {
		if p, err := eventlog.ParsePosition(text); err == nil {
			t.Errorf("%.40q is read as %v", text, p)
		}
	}
}
