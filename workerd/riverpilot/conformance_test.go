package riverpilot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
	"darkroom/workerd/keeper"
	"darkroom/workerd/outcome"
	"darkroom/workerd/riverpilot"
)

// patience bounds everything that is waited for.
const patience = 30 * time.Second

// bundle is a database with a project that has credits.
type bundle struct {
	*taskdb.DB
	test    *taskdbtest.DB
	project uuid.UUID
	owner   uuid.UUID
}

func setup(t *testing.T) *bundle {
	t.Helper()
	test := taskdbtest.New(t)
	must(t, riverpilot.Migrate(t.Context(), test.Pool))
	b := &bundle{DB: taskdb.New(test.Pool), test: test}
	user, err := b.CreateUser(t.Context(), uuid.Nil, "")
	must(t, err)
	_, err = b.GrantCredits(t.Context(), user.ID, taskdb.WholeCredits(1000), "", "")
	must(t, err)
	project, err := b.CreateProject(t.Context(), user.ID, "")
	must(t, err)
	b.project, b.owner = project.ID, user.ID
	t.Cleanup(func() {
		violations, err := b.InvariantViolations(context.WithoutCancel(t.Context()))
		if err != nil || len(violations) > 0 {
			t.Errorf("invariants: %v %v", violations, err)
		}
	})
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// create makes n tasks.
func (b *bundle) create(t *testing.T, n int) []taskdb.Task {
	t.Helper()
	tasks, err := b.CreateTasks(t.Context(), slices.Repeat([]taskdb.NewTask{
		{ProjectID: b.project, TaskType: "single_image", Params: json.RawMessage(`{"prompt":"a cat"}`)},
	}, n))
	must(t, err)
	return tasks
}

func (b *bundle) task(t *testing.T, id uuid.UUID) taskdb.Task {
	t.Helper()
	task, err := b.GetTask(t.Context(), id)
	must(t, err)
	return task
}

// complete is a handler that does no work.
func (b *bundle) complete(ctx context.Context, task taskdb.Task) error {
	_, err := b.CompleteTask(context.WithoutCancel(ctx), taskdb.HoldOf(task), taskdb.Output{Location: fmt.Sprint("https://x.test/", task.ID, "/", task.Attempt)})
	return err
}

// completeAtThe is a handler that tells of each start, and completes when end is closed.
func (b *bundle) completeAtThe(end <-chan struct{}, started chan<- uuid.UUID) outcome.Handler {
	return func(ctx context.Context, task taskdb.Task) error {
		started <- task.ID
		select {
		case <-end:
		case <-ctx.Done():
		}
		return b.complete(ctx, task)
	}
}

// client is a started client of a registered worker.
func (b *bundle) client(t *testing.T, id string, change func(*riverpilot.Config), handle outcome.Handler) *river.Client[pgx.Tx] {
	t.Helper()
	_, err := b.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: id, LeaseTimeout: time.Second})
	must(t, err)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	config := riverpilot.Config{
		WorkerID: id, Slots: 2, PollInterval: time.Minute, Drain: 300 * time.Millisecond,
		Work: outcome.Writer(b.DB, log, handle), Want: func(room int) ([]string, int) { return nil, room }, Claimed: func([]taskdb.Task) {}, Workers: river.NewWorkers(), Log: log,
	}
	if change != nil {
		change(&config)
	}
	var claims atomic.Int64
	want := config.Want
	config.Want = func(room int) ([]string, int) {
		claims.Add(1)
		return want(room)
	}
	client, err := riverpilot.New(b.test.Pool, config)
	must(t, err)
	must(t, client.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(func() {
		if err := client.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	// What is created before River listens is found by the poll, for which most tests have no time.
	eventually(t, "the first claim", func() bool { return claims.Load() > 0 })
	before := claims.Load()
	eventually(t, "listening", func() bool {
		must(t, b.ring(t))
		return claims.Load() > before
	})
	return client
}

// admit lets retries in that are due, as every workerd does.
func (b *bundle) admit(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { keeper.NewLoop(b.DB, slog.New(slog.DiscardHandler)).Run(ctx) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s: not %s", patience, what)
		}
	}
}

func await[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case value := <-ch:
		return value
	case <-time.After(patience):
		t.Fatalf("after %s: no %s", patience, what)
		panic("not reached")
	}
}

// idle waits until a client has found nothing and asked to be woken.
func (b *bundle) idle(t *testing.T) {
	t.Helper()
	eventually(t, "idle", func() bool {
		var bell int
		must(t, b.test.Pool.QueryRow(t.Context(), "select last_value from darkroom.worker_bell").Scan(&bell))
		return bell == 2
	})
}

func TestAnInsertWakesAnIdleWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	started := make(chan time.Time, 1)
	b.client(t, "w", nil, func(ctx context.Context, task taskdb.Task) error {
		started <- time.Now()
		return b.complete(ctx, task)
	})
	var took []time.Duration
	for range 20 {
		b.idle(t)
		b.create(t, 1)
		created := time.Now() // the insert has been answered
		took = append(took, max(0, await(t, "start", started).Sub(created)))
	}
	slices.Sort(took)
	t.Logf("from the answer to the insert to the start of the work: median %s, longest %s", took[len(took)/2], took[len(took)-1])
	if longest := took[len(took)-1]; longest > 10*time.Second { // the poll is a minute
		t.Errorf("woken after %s", longest)
	}
}

// A task whose commit was under way while a worker asked to be woken has rung no bell. A commit here may be slow, so it has ten tries.
func TestATaskThatCommitsWhileAWorkerGoesToSleepIsSeenALittleLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	started := make(chan uuid.UUID, 10)
	b.client(t, "w", nil, func(ctx context.Context, task taskdb.Task) error {
		started <- task.ID
		return b.complete(ctx, task)
	})
	for range 10 {
		b.idle(t)
		time.Sleep(200 * time.Millisecond) // no second look is due
		tx, err := b.test.Pool.Begin(t.Context())
		must(t, err)
		_, err = tx.Exec(t.Context(), "select setval('darkroom.worker_bell', 1)")
		must(t, err)
		_, err = taskdb.New(tx).CreateTasks(t.Context(), []taskdb.NewTask{
			{ProjectID: b.project, TaskType: "single_image", Params: json.RawMessage(`{"prompt":"a cat"}`)},
		})
		must(t, err)
		_, err = tx.Exec(t.Context(), "set constraints all immediate") // as COMMIT does: nobody is to be woken
		must(t, err)
		must(t, b.ring(t))
		b.idle(t)
		must(t, tx.Commit(t.Context()))
		select {
		case <-started:
			return
		case <-time.After(time.Second):
			must(t, b.ring(t))
			await(t, "start", started)
		}
	}
	t.Error("never seen without a ring")
}

// ring wakes all workers.
func (b *bundle) ring(t *testing.T) error {
	t.Helper()
	_, err := b.test.Pool.Exec(t.Context(), `select pg_notify('river.river_insert', '{"queue":"tasks"}')`)
	return err
}

func TestABusySlotLeavesTheOtherOneAwake(t *testing.T) {
	t.Parallel()
	b := setup(t)
	started, end := make(chan uuid.UUID, 2), make(chan struct{})
	defer close(end)
	b.client(t, "w", nil, b.completeAtThe(end, started))
	b.idle(t)
	b.create(t, 1)
	await(t, "first start", started)
	b.create(t, 1)
	await(t, "second start", started)
}

// The first claim after a ring takes one task; the others follow without another ring or the poll.
func TestOneRingFillsAllSlots(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const slots = 4
	started, end := make(chan uuid.UUID, slots+1), make(chan struct{})
	defer close(end)
	b.client(t, "w", func(c *riverpilot.Config) { c.Slots = slots }, b.completeAtThe(end, started))
	b.idle(t)
	tasks := b.create(t, slots+1)
	if first := await(t, "first start", started); first != tasks[0].ID {
		t.Errorf("began with %s, want the oldest, %s", first, tasks[0].ID)
	}
	for range slots - 1 {
		await(t, "start", started)
	}
}

func TestAWakeLooksForWhatWasNotWantedBefore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var wanted atomic.Pointer[[]string]
	wanted.Store(&[]string{"travel_stitch"})
	started, wake := make(chan uuid.UUID, 1), make(chan struct{}, 1)
	b.client(t, "w", func(c *riverpilot.Config) {
		c.Wake = wake
		c.Want = func(room int) ([]string, int) { return *wanted.Load(), room }
	}, func(ctx context.Context, task taskdb.Task) error {
		started <- task.ID
		return b.complete(ctx, task)
	})
	for range 3 { // the listener goes on
		wanted.Store(&[]string{"travel_stitch"})
		b.idle(t)
		task := b.create(t, 1)[0]
		b.idle(t) // it was woken, and found nothing that it wants
		wanted.Store(&[]string{"single_image"})
		woken := time.Now()
		wake <- struct{}{}
		if id := await(t, "start", started); id != task.ID {
			t.Errorf("got %s, want %s", id, task.ID)
		}
		if took := time.Since(woken); took > 10*time.Second { // the poll is a minute
			t.Errorf("started %s after the wake", took)
		}
	}
}

func TestTasksRunExactlyOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const n = 203
	var mu sync.Mutex
	runs := map[uuid.UUID]int{}
	var done atomic.Int64
	for _, id := range []string{"a", "b"} {
		b.client(t, id, nil, func(ctx context.Context, task taskdb.Task) error {
			mu.Lock()
			runs[task.ID]++
			mu.Unlock()
			defer done.Add(1)
			return b.complete(ctx, task)
		})
	}
	b.create(t, n)
	eventually(t, "all done", func() bool { return done.Load() >= n })
	for id, times := range runs {
		if times != 1 {
			t.Errorf("task %s ran %d times", id, times)
		}
	}
	if len(runs) != n {
		t.Errorf("%d tasks ran, want %d", len(runs), n)
	}
	generations, err := b.ListGenerations(t.Context(), taskdb.Gallery{ProjectID: b.project, MaxRows: 1000})
	must(t, err)
	if len(generations) != n {
		t.Errorf("%d generations, want %d", len(generations), n)
	}
	account, err := b.GetCredits(t.Context(), b.owner)
	must(t, err)
	if want := taskdb.WholeCredits(1000 - n); account.Balance != want || account.Held != 0 {
		t.Errorf("balance %s, held %s, want %s and 0", account.Balance, account.Held, want)
	}
}

func TestATaskThatFailsOnceCompletesAfterItsBackOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.admit(t)
	failed, again := make(chan time.Time, 1), make(chan time.Time, 1)
	b.client(t, "w", nil, func(ctx context.Context, task taskdb.Task) error {
		if task.Attempt == 1 {
			failed <- time.Now()
			return errors.New("out of luck")
		}
		again <- time.Now()
		return b.complete(ctx, task)
	})
	task := b.create(t, 1)[0]
	pause := -await(t, "failure", failed).Sub(await(t, "second attempt", again))
	t.Logf("tried again after %s; the back-off is 1 s", pause)
	if pause < time.Second {
		t.Errorf("tried again after %s already", pause)
	}
	eventually(t, "Complete", func() bool { return b.task(t, task.ID).Status == taskdb.StatusComplete })
	if got := b.task(t, task.ID); got.Attempt != 2 || got.FailedAttempts != 1 {
		t.Errorf("attempt %d, failed %d", got.Attempt, got.FailedAttempts)
	}
}

func TestATaskThatAlwaysFailsEndsAsFailedWithItsMessage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.admit(t)
	b.client(t, "w", nil, func(context.Context, taskdb.Task) error { return errors.New("out of luck") })
	task := b.create(t, 1)[0]
	eventually(t, "Failed", func() bool { return b.task(t, task.ID).Status == taskdb.StatusFailed })
	got := b.task(t, task.ID)
	if got.Attempt != 3 || got.ErrorMessage == nil || *got.ErrorMessage != "out of luck (attempt 3 of 3)" {
		t.Errorf("attempt %d, message %q", got.Attempt, *got.ErrorMessage)
	}
}

func TestAPermanentErrorIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(t, "w", nil, func(context.Context, taskdb.Task) error { return outcome.Permanent(errors.New("no such picture")) })
	task := b.create(t, 1)[0]
	eventually(t, "Failed", func() bool { return b.task(t, task.ID).Status == taskdb.StatusFailed })
	if got := b.task(t, task.ID); got.Attempt != 1 || *got.ErrorMessage != "no such picture" {
		t.Errorf("attempt %d, message %q", got.Attempt, *got.ErrorMessage)
	}
}

func TestAPanicIsAFailedAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(t, "w", nil, func(context.Context, taskdb.Task) error { panic("bug") })
	task := b.create(t, 1)[0]
	eventually(t, "an attempt failed", func() bool { return b.task(t, task.ID).FailedAttempts == 1 })
	if got := *b.task(t, task.ID).ErrorMessage; got != "the worker crashed while it ran this task" {
		t.Errorf("message %q", got)
	}
}

func TestCancelTaskEndsTheContextOfARunningTask(t *testing.T) {
	t.Parallel()
	b := setup(t)
	started, stopped := make(chan uuid.UUID, 1), make(chan time.Time, 1)
	b.client(t, "w", nil, func(ctx context.Context, task taskdb.Task) error {
		started <- task.ID
		<-ctx.Done()
		stopped <- time.Now()
		return ctx.Err()
	})
	var took []time.Duration
	for range 10 {
		task := b.create(t, 1)[0]
		await(t, "start", started)
		_, err := b.CancelTask(t.Context(), task.ID, "")
		must(t, err)
		cancelled := time.Now()
		took = append(took, max(0, await(t, "stop", stopped).Sub(cancelled)))
		// The slot is free when the next task starts; its outcome has changed nothing.
		if got := b.task(t, task.ID); got.Status != taskdb.StatusCancelled || got.FailedAttempts != 0 {
			t.Errorf("%s, failed attempts %d", got.Status, got.FailedAttempts)
		}
	}
	slices.Sort(took)
	t.Logf("from the answer to the cancel to the end of the context: median %s, longest %s", took[len(took)/2], took[len(took)-1])
}

func TestASoftStopReleasesWhatIsLeftOnlyAfterTheDrain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	started := make(chan uuid.UUID, 1)
	client := b.client(t, "w", nil, func(ctx context.Context, task taskdb.Task) error {
		started <- task.ID
		<-ctx.Done()
		return ctx.Err()
	})
	task := b.create(t, 1)[0]
	await(t, "start", started)
	began := time.Now()
	must(t, client.Stop(t.Context()))
	took := time.Since(began)
	t.Logf("stopped after %s with a drain of 300 ms", took)
	if took < 300*time.Millisecond || took > 10*time.Second {
		t.Errorf("stopped after %s", took)
	}
	if got := b.task(t, task.ID); got.Status != taskdb.StatusQueued || got.FailedAttempts != 0 {
		t.Errorf("%s, failed attempts %d", got.Status, got.FailedAttempts)
	}
}

func TestASoftStopLetsATaskEndWithinTheDrain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	started, end := make(chan uuid.UUID, 1), make(chan struct{})
	client := b.client(t, "w", func(c *riverpilot.Config) { c.Drain = patience }, func(ctx context.Context, task taskdb.Task) error {
		started <- task.ID
		<-end
		return b.complete(ctx, task)
	})
	task := b.create(t, 1)[0]
	await(t, "start", started)
	stopped := make(chan error, 1)
	go func() { stopped <- client.Stop(context.WithoutCancel(t.Context())) }()
	close(end)
	must(t, await(t, "stop", stopped))
	if got := b.task(t, task.ID); got.Status != taskdb.StatusComplete {
		t.Error(got.Status)
	}
}

func TestALateWriterChangesNothing(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]func(b *bundle, ctx context.Context, task taskdb.Task) error{
		"completes": (*bundle).complete,
		"fails":     func(*bundle, context.Context, taskdb.Task) error { return errors.New("late") },
		"fails for good": func(*bundle, context.Context, taskdb.Task) error {
			return outcome.Permanent(errors.New("late"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			started, end, ended := make(chan uuid.UUID, 1), make(chan struct{}), make(chan struct{}, 2)
			client := b.client(t, "late", func(c *riverpilot.Config) {
				work := c.Work
				c.Slots = 1
				c.Work = func(ctx context.Context, task taskdb.Task) {
					work(ctx, task)
					ended <- struct{}{}
				}
			}, func(ctx context.Context, task taskdb.Task) error {
				started <- task.ID
				<-end
				return late(b, ctx, task)
			})
			events, unsubscribe := client.Subscribe(river.EventKindJobCancelled, river.EventKindJobCompleted, river.EventKindJobFailed, river.EventKindJobSnoozed)
			defer unsubscribe()
			task := b.create(t, 1)[0]
			await(t, "start", started)

			_, err := b.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: "thief"})
			must(t, err)
			eventually(t, "expired", func() bool {
				tasks, err := b.RequeueExpiredTasks(t.Context(), 10)
				must(t, err)
				return len(tasks) == 1
			})
			stolen, ok, err := b.ClaimNextTask(t.Context(), "thief")
			if err != nil || !ok || stolen.ID != task.ID {
				t.Fatal(stolen.ID, ok, err)
			}
			close(end)
			await(t, "late end", ended)
			if got := b.task(t, task.ID); got.Attempt != 2 || *got.WorkerID != "thief" || got.Status != taskdb.StatusInProgress {
				t.Errorf("the late worker changed it: %+v", got)
			}
			must(t, b.complete(t.Context(), stolen))
			must(t, client.Stop(t.Context())) // what was to be told has been told
			select {
			case event, open := <-events:
				if open {
					t.Errorf("River told %s of the late worker", event.Kind)
				}
			default:
			}
		})
	}
}

type sideArgs struct{}

func (sideArgs) Kind() string { return "side" }
