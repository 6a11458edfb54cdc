package taskdb_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"darkroom/sql/taskdb"
)

func (b *bench) limit(maxQueued int) {
	b.t.Helper()
	_, err := b.SetQueueLimit(b.t.Context(), b.owner, maxQueued)
	b.noError(err)
}

func (b *bench) queued() int {
	b.t.Helper()
	return value[int](b, "select count(*)::integer from tasks where owner_id = $1 and status = 'Queued'", b.owner)
}

// wantTooMany wants the refusal of one more task.
func (b *bench) wantTooMany(task taskdb.NewTask) {
	b.t.Helper()
	if _, err := b.CreateTask(b.t.Context(), task); !errors.Is(err, taskdb.ErrTooManyQueued) {
		b.t.Fatalf("one more: %v, want %v", err, taskdb.ErrTooManyQueued)
	}
}

// S25. However many create at once, as many tasks as may be queued are, and no more; owners do not share a limit.
func TestS25AnOwnerHasAsManyQueuedTasksAsAllowedAndNoMore(t *testing.T) {
	t.Parallel()
	const limit, creators, each = 100, 16, 20
	b := setup(t, 1_000_000)
	other := b.as(1_000_000)
	b.limit(limit)
	var refused atomic.Int32
	for _, err := range inParallel(creators, func(i int) (int, error) {
		for n := range each {
			owner := b
			if (i+n)%3 == 0 {
				owner = other // its tasks take job numbers in between
			}
			_, err := owner.CreateTask(t.Context(), imageTask(owner.project))
			if owner == b && errors.Is(err, taskdb.ErrTooManyQueued) {
				refused.Add(1)
			} else if err != nil {
				return 0, err
			}
		}
		return 0, nil
	}) {
		b.noError(err.err)
	}
	if got := b.queued(); got != limit || refused.Load() == 0 {
		t.Errorf("%d tasks are queued and %d were refused; want %d queued", got, refused.Load(), limit)
	}
	if got, want := other.queued()+b.queued()+int(refused.Load()), creators*each; got != want {
		t.Errorf("%d tasks were asked for and %d are accounted for", want, got)
	}
}

// Transactions that begin, insert and commit in any order: what is queued never exceeds the limit, and what fits is never refused.
func TestQueueLimitIsExactForTransactionsInAnyOrder(t *testing.T) {
	t.Parallel()
	const limit = 30
	b := setup(t, 1_000_000)
	other := b.as(1_000_000)
	b.limit(limit)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	type open struct {
		tx    pgx.Tx
		tasks int
	}
	var running []open
	admitted, refused := 0, 0
	for range 1500 {
		switch n := random.IntN(10); {
		case n < 3 && len(running) < 6:
			tx, err := b.pg.Pool.Begin(t.Context())
			b.noError(err)
			running = append(running, open{tx: tx})
		case n < 6 && len(running) > 0:
			one := &running[random.IntN(len(running))]
			tasks, err := taskdb.New(one.tx).CreateTasks(t.Context(), slices.Repeat([]taskdb.NewTask{imageTask(b.project)}, 1+random.IntN(3)))
			b.noError(err)
			one.tasks += len(tasks)
		case n < 8 && len(running) > 0:
			i := random.IntN(len(running))
			one := running[i]
			running = append(running[:i], running[i+1:]...)
			before := b.queued()
			err := one.tx.Commit(t.Context())
			var pg *pgconn.PgError
			switch fits := before+one.tasks <= limit; {
			case fits && err != nil:
				t.Fatalf("%d of %d queued, and %d more were refused: %v", before, limit, one.tasks, err)
			case !fits && (!errors.As(err, &pg) || pg.Code != taskdb.ErrTooManyQueued.Code):
				t.Fatalf("%d of %d queued, and %d more: %v", before, limit, one.tasks, err)
			case fits:
				admitted++
			default:
				refused++
			}
		case n == 8:
			other.image()
		default:
			_, _, err := b.ClaimNextTask(t.Context(), anyWorker)
			b.noError(err)
		}
	}
	for _, one := range running {
		b.noError(one.tx.Rollback(t.Context()))
	}
	if admitted == 0 || refused == 0 {
		t.Errorf("%d transactions were admitted, %d refused: this shows nothing", admitted, refused)
	}
}

func TestWhatLeavesTheQueueMakesRoom(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	b.limit(3)
	first := b.image()
	waiting := b.after(first.ID) // waits for another: queued all the same
	claimed := b.claim(anyWorker)
	_, err := b.RetryTask(t.Context(), taskdb.HoldOf(claimed), "again", awhile) // and so is a retry that is not due
	b.noError(err)
	b.image()
	b.wantTooMany(imageTask(b.project))

	_, err = b.CancelTask(t.Context(), waiting.ID, "")
	b.noError(err)
	b.image()
	b.wantTooMany(imageTask(b.project))
	b.claim(anyWorker)
	b.image()
	b.wantTooMany(imageTask(b.project))
}

// A transaction that asks for more than there is room for gets nothing.
func TestABatchOverTheLimitIsRefusedWhole(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	b.limit(5)
	batch := make([]taskdb.NewTask, 6)
	for i := range batch {
		batch[i] = imageTask(b.project)
	}
	if _, err := b.CreateTasks(t.Context(), batch); !errors.Is(err, taskdb.ErrTooManyQueued) || b.queued() != 0 {
		t.Errorf("6 tasks, 5 allowed: %v, %d queued", err, b.queued())
	}
	_, err := b.CreateTasks(t.Context(), batch[:5])
	b.noError(err)
	b.wantTooMany(batch[5])
	if b.queued() != 5 {
		t.Errorf("%d are queued, want 5", b.queued())
	}
}

// The children of an orchestrator that runs are made whatever else is queued; but they count.
func TestChildrenAreNotRefusedForTheQueueLimit(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	b.limit(1)
	b.create(travelTask(b.project, b.shot, 3))
	orchestrator := b.claim(gpuWorker)
	children, err := b.ExpandTravelOrchestrator(t.Context(), taskdb.HoldOf(orchestrator))
	b.noError(err)
	if len(children) != 4 || b.queued() != 4 {
		t.Errorf("%d children, %d queued; want 4", len(children), b.queued())
	}
	b.wantTooMany(imageTask(b.project))
}

func TestSetQueueLimit(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	other := b.as(100)
	set := func(user uuid.UUID, maxQueued, want int) {
		t.Helper()
		got, err := b.SetQueueLimit(t.Context(), user, maxQueued)
		if err != nil || got != want {
			t.Errorf("the limit is %d, %v; want %d", got, err, want)
		}
	}
	everybody := uuid.Nil
	set(b.owner, 0, 10_000)
	b.image()
	b.image()
	set(everybody, 1, 1)
	b.wantTooMany(imageTask(b.project)) // what was counted with the old limit does not count
	other.image()
	other.wantTooMany(imageTask(other.project))
	set(b.owner, 3, 3)
	b.image()
	b.wantTooMany(imageTask(b.project))
	set(b.owner, taskdb.NoQueueLimit, taskdb.NoQueueLimit)
	b.image()
	set(everybody, 2, 2)
	b.image()
	other.image()
	set(b.owner, 0, 2)
	b.wantTooMany(imageTask(b.project))
	set(everybody, 0, 10_000)
	b.image()

	for maxQueued, want := range map[int]*taskdb.Error{-1: taskdb.ErrInvalidParams, 5: taskdb.ErrUserNotFound} {
		if _, err := b.SetQueueLimit(t.Context(), uuid.New(), maxQueued); !errors.Is(err, want) {
			t.Errorf("%d for nobody: %v, want %v", maxQueued, err, want)
		}
	}
}

// The queue is counted once for as many tasks as there is room for: an owner with few tasks pays nothing, a batch not for each of its tasks.
func TestOneCountServesForManyTasks(t *testing.T) {
	t.Parallel()
	b := setup(t, 1_000_000)
	b.limit(500)
	first := b.image()
	batch := make([]taskdb.NewTask, 400)
	for i := range batch {
		batch[i] = imageTask(b.project)
	}
	_, err := b.CreateTasks(t.Context(), batch)
	b.noError(err)
	job := value[int64](b, "select job_no from tasks where id = $1", first.ID)
	if from := value[int64](b, "select from_job_no from darkroom.queue_room where owner_id = $1", b.owner); from != job {
		t.Errorf("counted again at job %d, after the first count at %d", from, job)
	}
}

// S25. What waits for a task, and for what waits for it, and so on: the end of the first ends all, at a cost that grows with their number only. The
// limit of queued tasks is what bounds the length.
func TestS25ALongChainEndsWithItsFirst(t *testing.T) {
	t.Parallel()
	const length = 2000
	b := setup(t, 1_000_000)
	batch := make([]taskdb.NewTask, length)
	for i := range batch {
		batch[i] = imageTask(b.project)
		batch[i].TaskID = uuid.New()
		if i > 0 {
			batch[i].DependantOn = []uuid.UUID{batch[i-1].TaskID}
		}
	}
	_, err := b.CreateTasks(t.Context(), batch)
	b.noError(err)
	b.noError(pgx.BeginFunc(t.Context(), b.pg.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "set local statement_timeout = '8s'"); err != nil { // what a user has
			return err
		}
		_, err := taskdb.New(tx).CancelTask(t.Context(), batch[0].TaskID, "")
		return err
	}))
	if failed := value[int](b, "select count(*)::integer from tasks where status = 'Failed'"); failed != length-1 {
		t.Errorf("%d failed, want %d", failed, length-1)
	}
}
