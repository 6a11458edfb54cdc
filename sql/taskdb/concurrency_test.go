package taskdb_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// backlog creates n tasks of each of these owners, in turn, so that owners and ages mix, and returns their places in the order of age.
func backlog(t *testing.T, owners []*bench, n int) map[uuid.UUID]int {
	t.Helper()
	const chunk = 25
	for done := 0; done < n; done += chunk {
		for _, owner := range owners {
			tasks := make([]taskdb.NewTask, min(chunk, n-done))
			for i := range tasks {
				tasks[i] = imageTask(owner.project)
				if i%3 == 0 {
					tasks[i] = taskdb.NewTask{ProjectID: owner.project, TaskType: "travel_segment", Params: object()}
				}
			}
			_, err := owner.CreateTasks(t.Context(), tasks)
			owner.noError(err)
		}
	}
	list := value[[]uuid.UUID](owners[0], "select array_agg(id order by created_at, job_no) from tasks")
	places := make(map[uuid.UUID]int, len(list))
	for i, id := range list {
		places[id] = i
	}
	return places
}

// One claimer gets tasks exactly in the order of created_at; sixteen at once get each task once, and each of them the oldest that no
// other was taking at that moment. So when a claim returns, what is older and still there is at most what the others have in hand.
func TestConcurrentClaimsHandEachTaskOutOnceOldestFirst(t *testing.T) {
	t.Parallel()
	const claimers = 16
	for batch, perOwner := range map[int]int{1: 250, 7: 50} {
		t.Run(fmt.Sprintf("batches of %d", batch), func(t *testing.T) {
			t.Parallel()
			b := setup(t, 1_000_000)
			owners := []*bench{b}
			for range 19 {
				owners = append(owners, b.as(1_000_000))
			}
			places := backlog(t, owners, perOwner)
			total := len(places)

			var lock sync.Mutex
			var order []int // places, as the claims returned
			results := inParallel(claimers, func(i int) (int, error) {
				db := taskdb.New(b.pg.Conn(t))
				taken := 0
				for {
					tasks, err := db.ClaimNextTasks(t.Context(), gpuWorker, batch, nil)
					if err != nil {
						return taken, err
					}
					lock.Lock()
					for _, task := range tasks {
						order = append(order, places[task.ID])
					}
					left := total - len(order)
					lock.Unlock()
					taken += len(tasks)
					if len(tasks) == 0 && left <= claimers*batch {
						return taken, nil
					}
				}
			})
			for _, r := range results {
				if r.err != nil {
					t.Fatal(r.err)
				}
			}
			for { // what the others held when a claimer gave up
				tasks, err := b.ClaimNextTasks(t.Context(), gpuWorker, batch, nil)
				b.noError(err)
				if len(tasks) == 0 {
					break
				}
				for _, task := range tasks {
					order = append(order, places[task.ID])
				}
			}

			taken := make([]bool, total)
			for _, place := range order {
				if taken[place] {
					t.Fatalf("task %d was handed out twice", place)
				}
				taken[place] = true
			}
			if len(order) != total {
				t.Errorf("%d of %d tasks were handed out", len(order), total)
			}
			// What is older than a task and handed out after it was in other claims' hands. A single claim has a row of each type in hand,
			// and more where it waited in vain for an owner; a batch also passes over owners that are busy.
			clear(taken)
			worst, next := 0, 0
			for _, place := range order {
				taken[place] = true
				for next < total && taken[next] {
					next++
				}
				passed := 0
				for older := next; older < place; older++ {
					if !taken[older] {
						passed++
					}
				}
				worst = max(worst, passed)
			}
			if limit := 2 * 2 * claimers; batch == 1 && worst > limit {
				t.Errorf("a claim passed over %d older tasks, want at most %d", worst, limit)
			}
			t.Logf("of %d tasks a claim passed over %d older ones at most", total, worst)
			b.healthy()
		})
	}
}

// With one claimer the order is exact, in singles and batches.
func TestOneClaimerGetsTheExactOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, 1_000_000)
	owners := []*bench{b, b.as(1_000_000), b.as(1_000_000), b.as(1_000_000)}
	places := backlog(t, owners, 150)
	next := 0
	for n := 1; next < len(places); n = n%40 + 1 {
		tasks, err := b.ClaimNextTasks(t.Context(), gpuWorker, n, nil)
		b.noError(err)
		if len(tasks) == 0 {
			t.Fatalf("nothing to claim after %d of %d", next, len(places))
		}
		for _, task := range tasks {
			if places[task.ID] != next {
				t.Fatalf("claim %d took task %d", next, places[task.ID])
			}
			next++
		}
		if next%17 == 0 {
			_, err = b.TickReadyMark(t.Context(), next%2 == 0)
			b.noError(err)
		}
	}
	b.healthy()
}

// A thousand creations and claims at once around a balance for k: exactly k run, and available is never below zero.
func TestABalanceForKRunsK(t *testing.T) {
	t.Parallel()
	const tries, k, claimers = 1000, 137, 8
	b := setup(t, k)
	var created atomic.Int64
	var negative atomic.Bool
	var creators sync.WaitGroup
	for range 8 {
		creators.Go(func() {
			db := taskdb.New(b.pg.Conn(t))
			for range tries / 8 {
				_, err := db.CreateTask(t.Context(), imageTask(b.project))
				switch {
				case err == nil:
					created.Add(1)
				case !errors.Is(err, taskdb.ErrInsufficientCredits):
					t.Error(err)
					return
				}
			}
		})
	}
	creating := make(chan struct{})
	go func() { creators.Wait(); close(creating) }()
	results := inParallel(claimers, func(int) (int, error) {
		db, taken := taskdb.New(b.pg.Conn(t)), 0
		for {
			last := false
			select {
			case <-creating:
				last = true
			default:
			}
			task, found, err := db.ClaimNextTask(t.Context(), anyWorker)
			if err != nil {
				return taken, err
			}
			account, err := db.GetCredits(t.Context(), b.owner)
			if err != nil {
				return taken, err
			}
			if account.Available < 0 {
				negative.Store(true)
			}
			switch {
			case found && taken%3 == 0:
				if _, err = db.CompleteTask(t.Context(), taskdb.HoldOf(task), taskdb.Output{Location: "x"}); err != nil {
					return taken, err
				}
				taken++
			case found:
				taken++
			case last:
				return taken, nil
			}
		}
	})
	ran := 0
	for _, r := range results {
		if r.err != nil {
			t.Fatal(r.err)
		}
		ran += r.value
	}
	if ran != k || negative.Load() || created.Load() < k {
		t.Errorf("%d ran with credits for %d; available was negative: %v; %d were created", ran, k, negative.Load(), created.Load())
	}
	if got := b.credits(); got.Available != 0 {
		t.Errorf("available is %v", got.Available)
	}
	b.healthy()
}

// Creating transactions that stay open, so that tasks commit out of order, with ticks of the mark running: nothing is stranded, and what
// has committed is claimed in the order of created_at.
func TestLateCommitsAreClaimedInTheirPlace(t *testing.T) {
	t.Parallel()
	b := setup(t, 1_000_000)
	owners := make([]*bench, 12)
	for i := range owners {
		owners[i] = b.as(1_000_000)
	}
	stop := make(chan struct{})
	var ticking sync.WaitGroup
	for i, pause := range []time.Duration{5 * time.Millisecond, 40 * time.Millisecond} {
		ticking.Go(func() {
			db, ticker := taskdb.New(b.pg.Conn(t)), time.NewTicker(pause)
			defer ticker.Stop()
			for {
				select {
				case <-stop:
					return
				case <-ticker.C:
				}
				if _, err := db.TickReadyMark(t.Context(), i == 1); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, r := range inParallel(len(owners), func(i int) (int, error) {
		conn := b.pg.Conn(t)
		for range 25 {
			tx, err := conn.Begin(t.Context())
			if err != nil {
				return 0, err
			}
			for range 1 + rand.IntN(4) {
				if _, err = taskdb.New(tx).CreateTask(t.Context(), imageTask(owners[i].project)); err != nil {
					return 0, err
				}
			}
			if _, err = tx.Exec(t.Context(), "select pg_sleep($1)", rand.Float64()/10); err != nil {
				return 0, err
			}
			if err = tx.Commit(t.Context()); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}) {
		if r.err != nil {
			t.Fatal(r.err)
		}
	}
	want := value[[]uuid.UUID](b, "select array_agg(id order by created_at, job_no) from tasks")
	for i, id := range want {
		if got := b.claim(anyWorker); got.ID != id {
			t.Fatalf("claim %d of %d took another", i, len(want))
		}
	}
	b.claimNothing(anyWorker)
	close(stop)
	ticking.Wait()
	b.healthy()
}

// A task that was created long before it is committed stands below the mark, and is claimed first all the same.
func TestATaskThatCommitsLateStandsBelowTheMark(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	tick := func(whole bool) bool {
		moved, err := b.TickReadyMark(t.Context(), whole)
		b.noError(err)
		return moved
	}
	conn := b.pg.Conn(t)
	tx, err := conn.Begin(t.Context())
	b.noError(err)
	late, err := taskdb.New(tx).CreateTask(t.Context(), imageTask(b.project))
	b.noError(err)
	b.exec("select pg_sleep(0.25)") // longer than a row may be on its way without lowering the mark
	young := b.image()
	b.exec("select setval('darkroom.ready_mark', (extract(epoch from clock_timestamp()) * 1000000)::bigint)")
	b.claimNothing(anyWorker) // a mark that is too high hides what is older, until a whole tick
	_, err = tx.Exec(t.Context(), "set constraints all immediate")
	b.noError(err)
	if tick(true) || tick(false) {
		t.Error("the mark was moved while a late row was being committed")
	}
	b.noError(tx.Commit(t.Context()))
	if !tick(true) {
		t.Error("the mark was not moved")
	}
	b.claimThis(anyWorker, late)
	b.claimThis(anyWorker, young)
	b.healthy()
}

// Progress that meets the end of its task takes no lock out of order (owner, then task): nobody is ended by a deadlock.
func TestProgressDeadlocksWithNobody(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	for range 25 {
		b.image()
		hold := taskdb.HoldOf(b.claim(anyWorker))
		for _, r := range inParallel(12, func(i int) (any, error) {
			switch i {
			case 0:
				return b.ReleaseTask(t.Context(), hold, "")
			case 1, 2, 3:
				return b.CancelTask(t.Context(), hold.TaskID, "")
			default:
				return nil, b.ReportProgress(t.Context(), hold, object("percent", i))
			}
		}) {
			var refusal *taskdb.Error
			if r.err != nil && !errors.As(r.err, &refusal) {
				t.Fatal(r.err)
			}
		}
	}
	b.healthy()
}

// A claim that cannot have an owner's lock takes somebody else's task, within 250 ms.
func TestABusyOwnerHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	other := b.as(100)
	busy, free := b.image(), other.image()
	tx, err := b.pg.Pool.Begin(t.Context())
	b.noError(err)
	_, err = tx.Exec(t.Context(), "select darkroom.lock_owner($1)", b.owner)
	b.noError(err)
	began := time.Now()
	b.claimThis(anyWorker, free)
	b.claimNothing(anyWorker)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the claims took %v", took)
	}
	b.noError(tx.Rollback(t.Context()))
	b.claimThis(anyWorker, busy)
	b.healthy()
}
