package riverpilot_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
	"darkroom/workerd/keeper"
	"darkroom/workerd/riverpilot"
)

func TestAPausedQueueLeavesTasksAloneWhileJobsRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ran := make(chan int64, 1)
	client := b.client(t, "w", func(c *riverpilot.Config) {
		c.PollInterval = 10 * time.Millisecond
		river.AddWorker(c.Workers, river.WorkFunc(func(_ context.Context, job *river.Job[sideArgs]) error {
			ran <- job.ID
			return nil
		}))
	}, b.complete)
	events, unsubscribe := client.Subscribe(river.EventKindQueuePaused, river.EventKindJobCompleted)
	defer unsubscribe()
	must(t, client.QueuePause(t.Context(), riverpilot.Queue, nil))
	await(t, "pause", events)
	task := b.create(t, 1)[0]
	_, err := client.Insert(t.Context(), sideArgs{}, nil)
	must(t, err)
	await(t, "side job", ran)
	if event := await(t, "end of the side job", events); event.Kind != river.EventKindJobCompleted {
		t.Error(event.Kind)
	}
	if got := b.task(t, task.ID); got.Status != taskdb.StatusQueued {
		t.Errorf("%s while paused", got.Status)
	}
	must(t, client.QueueResume(t.Context(), riverpilot.Queue, nil))
	eventually(t, "Complete", func() bool { return b.task(t, task.ID).Status == taskdb.StatusComplete })
}

// What a program was at when it was killed stands in River's table as running for an hour.
func TestUpkeepGoesOnAfterAProgramWasKilledAtIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bucket, err := storage.Open(t.Context(), "file://"+t.TempDir())
	must(t, err)
	defer bucket.Close()
	const left = "from river.river_job where kind = 'requeue_expired_tasks'"
	for _, id := range []string{"killed", "next"} {
		workers, periodic := keeper.Jobs(b.DB, bucket, slog.New(slog.DiscardHandler), keeper.Intervals{Requeue: time.Second, Sweep: time.Hour})
		client := b.client(t, id, func(c *riverpilot.Config) {
			c.Workers, c.Periodic = workers, periodic
			c.Want = func(int) ([]string, int) { return nil, 0 }
		}, nil)
		var before, after int64
		must(t, b.test.Pool.QueryRow(t.Context(), "select coalesce(max(id), 0) "+left).Scan(&before))
		eventually(t, "looking for silent workers", func() bool {
			must(t, b.test.Pool.QueryRow(t.Context(), "select coalesce(max(id), 0) "+left+" and state = 'completed'").Scan(&after))
			return after > before
		})
		must(t, client.Stop(t.Context()))
		_, err := b.test.Pool.Exec(t.Context(), "update river.river_job set state = 'running', finalized_at = null where kind = 'requeue_expired_tasks'")
		must(t, err)
	}
}

func TestAPeriodicJobRunsBesideATaskWithTheSameNumber(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ran, started, end := make(chan int64, 1), make(chan int64, 1), make(chan struct{})
	b.client(t, "w", func(c *riverpilot.Config) {
		river.AddWorker(c.Workers, river.WorkFunc(func(_ context.Context, job *river.Job[sideArgs]) error {
			ran <- job.ID
			<-end
			return nil
		}))
		c.Periodic = []*river.PeriodicJob{river.NewPeriodicJob(river.PeriodicInterval(time.Hour),
			func() (river.JobArgs, *river.InsertOpts) { return sideArgs{}, nil }, &river.PeriodicJobOpts{RunOnStart: true})}
	}, func(ctx context.Context, task taskdb.Task) error {
		started <- task.JobNo
		<-end
		return b.complete(ctx, task)
	})
	task := b.create(t, 1)[0]
	if job, no := await(t, "job", ran), await(t, "task", started); job != no {
		t.Errorf("job %d beside task %d: the numbers were to meet", job, no)
	}
	close(end)
	eventually(t, "Complete", func() bool { return b.task(t, task.ID).Status == taskdb.StatusComplete })
}

func TestAWorkerThatWantsNothingClaimsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var ready atomic.Bool
	asked := make(chan struct{}, 1)
	b.client(t, "w", func(c *riverpilot.Config) {
		c.PollInterval = 10 * time.Millisecond
		c.Want = func(room int) ([]string, int) {
			select {
			case asked <- struct{}{}:
			default:
			}
			if !ready.Load() {
				return nil, 0
			}
			return nil, room
		}
	}, b.complete)
	task := b.create(t, 1)[0]
	for range 3 {
		await(t, "question", asked)
	}
	if got := b.task(t, task.ID); got.Status != taskdb.StatusQueued {
		t.Error(got.Status)
	}
	ready.Store(true)
	eventually(t, "Complete", func() bool { return b.task(t, task.ID).Status == taskdb.StatusComplete })
}

func TestPendingNamesWhatRiverLacks(t *testing.T) {
	t.Parallel()
	db := taskdbtest.New(t)
	pending, err := riverpilot.Pending(t.Context(), db.Pool)
	if err != nil || pending == "" {
		t.Fatalf("%q %v", pending, err)
	}
	for range 2 { // also when nothing is to be done
		must(t, riverpilot.Migrate(t.Context(), db.Pool))
		if pending, err = riverpilot.Pending(t.Context(), db.Pool); err != nil || pending != "" {
			t.Fatalf("%q %v", pending, err)
		}
	}
}
