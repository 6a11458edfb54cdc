// Package keeper does the upkeep of the database that somebody must do all the time: it queues again what silent workers hold, lets due retries in,
// keeps the mark where claims start reading, repairs, and deletes rows that have served their time; and it deletes files from storage that the database
// knows nothing of, and those of erased users. Every workerd runs it; another program may as well.
package keeper

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
)

const (
	maxTasks     = 1000 // for which one call does something
	maxSwept     = 20_000
	callTimeout  = 10 * time.Second
	admitEvery   = time.Second
	wholeEvery   = 2 * time.Second
	forwardEvery = 25 * time.Millisecond
)

// Intervals say how often one of all programs does what need not be done by each.
type Intervals struct {
	Requeue time.Duration // looking for silent workers
	Sweep   time.Duration // repairing
}

// Jobs returns the periodic jobs of River that requeue and sweep, and their workers. All clients must have the same: River's leader starts them,
// any client runs them. The files are those of the bucket, which must be all clients' and the gateway's: unknown ones are looked for hourly, those of
// erased users each minute.
func Jobs(db *taskdb.DB, bucket *storage.Bucket, log *slog.Logger, every Intervals) (*river.Workers, []*river.PeriodicJob) {
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, _ *river.Job[requeueArgs]) error { return requeue(ctx, db, log) }))
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, _ *river.Job[sweepArgs]) error { return sweep(ctx, db, log) }))
	river.AddWorker(workers, &filesWorker{files: NewFiles(db, bucket, log)})
	river.AddWorker(workers, &eraseWorker{erase: func(ctx context.Context) error { return EraseFiles(ctx, db, bucket, log) }})
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, _ *river.Job[purgeArgs]) error { return purge(ctx, db) }))
	return workers, []*river.PeriodicJob{
		river.NewPeriodicJob(river.PeriodicInterval(every.Requeue), func() (river.JobArgs, *river.InsertOpts) { return requeueArgs{}, once() },
			&river.PeriodicJobOpts{RunOnStart: true}),
		river.NewPeriodicJob(river.PeriodicInterval(every.Sweep), func() (river.JobArgs, *river.InsertOpts) { return sweepArgs{}, once() }, nil),
		river.NewPeriodicJob(river.PeriodicInterval(filesEvery), func() (river.JobArgs, *river.InsertOpts) { return sweepFilesArgs{}, nil },
			&river.PeriodicJobOpts{RunOnStart: true}),
		river.NewPeriodicJob(river.PeriodicInterval(eraseEvery), func() (river.JobArgs, *river.InsertOpts) { return eraseArgs{}, once() },
			&river.PeriodicJobOpts{RunOnStart: true}),
		river.NewPeriodicJob(river.PeriodicInterval(purgeEvery), func() (river.JobArgs, *river.InsertOpts) { return purgeArgs{}, once() }, nil),
	}
}

// once is for a job that is not tried again: the next comes soon. It is not unique, because River counts as running for an hour what a killed program ran,
// and the upkeep would stand still; all of it may be done twice at once.
func once() *river.InsertOpts { return &river.InsertOpts{MaxAttempts: 1} }

type requeueArgs struct{}

// Kind implements [river.JobArgs].
func (requeueArgs) Kind() string { return "requeue_expired_tasks" }

type sweepArgs struct{}

// Kind implements [river.JobArgs].
func (sweepArgs) Kind() string { return "sweep_tasks" }

func requeue(ctx context.Context, db *taskdb.DB, log *slog.Logger) error {
	tasks, err := db.RequeueExpiredTasks(ctx, maxTasks)
	if err != nil {
		return fmt.Errorf("upkeep: %w", err)
	}
	for _, task := range tasks {
		log.WarnContext(ctx, "a worker fell silent and lost its task", "task_id", task.ID, "attempt", task.Attempt, "status", task.Status)
	}
	return nil
}

func sweep(ctx context.Context, db *taskdb.DB, log *slog.Logger) error {
	report, err := db.SweepTasks(ctx, maxSwept)
	if err != nil {
		return fmt.Errorf("upkeep: %w", err)
	}
	if report.Repaired > 0 || report.Admitted > 0 {
		log.ErrorContext(ctx, "the sweep had to repair the database: please report it", "repaired", report.Repaired, "generations", report.Admitted)
	}
	return nil
}

// Loop does the light upkeep.
type Loop struct {
	db     *taskdb.DB
	log    *slog.Logger
	claims chan struct{}
}

// NewLoop makes a loop; nothing happens before Run.
func NewLoop(db *taskdb.DB, log *slog.Logger) *Loop {
	return &Loop{db: db, log: log, claims: make(chan struct{}, 1)}
}

// Claimed says that tasks were claimed. It returns at once.
func (l *Loop) Claimed() {
	select {
	case l.claims <- struct{}{}:
	default:
	}
}

// Run works until ctx ends. While the database does not answer it goes on trying.
func (l *Loop) Run(ctx context.Context) {
	admit, whole := time.NewTicker(admitEvery), time.NewTicker(wholeEvery)
	defer admit.Stop()
	defer whole.Stop()
	rest := time.NewTimer(0) // between two forward ticks
	defer rest.Stop()
	var claims chan struct{}
	failing := false
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-rest.C:
			claims = l.claims
			continue
		case <-claims:
			claims = nil
			rest.Reset(forwardEvery)
			err = l.tick(ctx, false)
		case <-whole.C:
			err = l.tick(ctx, true)
		case <-admit.C:
			err = l.admit(ctx)
		}
		if err != nil && !failing && ctx.Err() == nil {
			l.log.WarnContext(ctx, "upkeep fails and is tried again", "error", err)
		}
		failing = err != nil
	}
}

func (l *Loop) tick(ctx context.Context, whole bool) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := l.db.TickReadyMark(ctx, whole)
	return err
}

func (l *Loop) admit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := l.db.AdmitDueTasks(ctx, maxTasks)
	return err
}
