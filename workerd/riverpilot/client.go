// Package riverpilot lets River's client work on Darkroom's tasks: it claims straight from the table of tasks, so that there is no second queue, and
// brings its slots, cancellation, pausing and graceful stop. Beside them the client runs River's own jobs from the schema "river".
//
// This is the only package that imports River's driver interface, which its semantic version does not cover: the five River modules are pinned and
// moved together, and the tests here say whether a new version still fits.
package riverpilot

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"darkroom/sql/taskdb"
)

const (
	// Queue is River's name for the queue of tasks, for [river.Client.QueuePause].
	Queue = "tasks"
	// Schema is where River's own tables lie.
	Schema = "river"

	betweenClaims = 10 * time.Millisecond
	jobSlots      = 2 // for River's own jobs
)

// Config says how a client works.
type Config struct {
	WorkerID     string // as registered
	Slots        int    // tasks at the same time
	PollInterval time.Duration
	Drain        time.Duration // how long a stop waits for running tasks before it ends their contexts
	// Work runs a claimed task and writes its outcome, before it returns: River is not told.
	Work func(ctx context.Context, task taskdb.Task)
	// Want says before each claim what may be claimed, given room for that many tasks: up to n of the types (nil: of all that were registered).
	// Where a claim leaves room, it is asked again soon, until one finds nothing or n is 0.
	Want     func(room int) (taskTypes []string, n int)
	Claimed  func(tasks []taskdb.Task) // told what a claim has found, before Work
	Wake     <-chan struct{}           // a value: Want may say more now than it did. Best with room for one
	Workers  *river.Workers            // of River's own jobs
	Periodic []*river.PeriodicJob      // the same on every client: the leader starts them
	Log      *slog.Logger
}

// New makes a client; start it with [river.Client.Start]. The end of the context given to Start stops it as Stop does.
func New(pool *pgxpool.Pool, c Config) (*river.Client[pgx.Tx], error) {
	if err := river.AddWorkerSafely(c.Workers, &worker{work: c.Work}); err != nil {
		return nil, fmt.Errorf("river: %w", err)
	}
	client, err := river.NewClient(&driver{riverpgxv5.New(pool), newPilot(taskdb.New(pool), c)}, &river.Config{
		Schema: Schema, Workers: c.Workers, PeriodicJobs: c.Periodic, Logger: c.Log,
		Queues:        map[string]river.QueueConfig{Queue: {MaxWorkers: c.Slots}, river.QueueDefault: {MaxWorkers: jobSlots}},
		FetchCooldown: betweenClaims, FetchPollInterval: c.PollInterval, SoftStopTimeout: c.Drain,
		CompletedJobRetentionPeriod: time.Hour, ReindexerIndexNames: []string{}, // to reindex one must own the tables
	})
	if err != nil {
		return nil, fmt.Errorf("river: %w", err)
	}
	return client, nil
}

// taskArgs is a claimed task on its way through River.
type taskArgs struct{ taskdb.Task }

// Kind implements [river.JobArgs].
func (taskArgs) Kind() string { return "darkroom_task" }

type worker struct {
	river.WorkerDefaults[taskArgs]
	work func(context.Context, taskdb.Task)
}

// Timeout implements [river.Worker]: tasks have a limit of their own.
func (w *worker) Timeout(*river.Job[taskArgs]) time.Duration { return -1 }

// Work implements [river.Worker].
func (w *worker) Work(ctx context.Context, job *river.Job[taskArgs]) error {
	w.work(ctx, job.Args.Task)
	return nil
}
