package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
)

// riverArgs is River's job with our payload.
type riverArgs struct {
	Prompt string `json:"prompt"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Seed   int    `json:"seed"`
}

// Kind implements [river.JobArgs].
func (riverArgs) Kind() string { return "bench" }

// newRiver measures the statements that River's client runs, JobGetAvailable and JobSetStateIfRunningMany, without the client around them: its client completes
// jobs in the background in batches, so that it cannot be asked for one at a time.
func (e *env) newRiver(ctx context.Context) (*contender, error) {
	c, pool, err := e.newPlain(ctx, "river", "River's driver verbs; retries and a log of errors, no credits, results or events, completion not fenced", "select 1")
	if err != nil {
		return nil, err
	}
	if err := migrateRiver(ctx, pool); err != nil {
		return nil, err
	}
	c.work = func(ctx context.Context, conns, batch int) (session, error) {
		return spin(ctx, c.url, conns, func(ctx context.Context, pool *pgxpool.Pool, conn int) (int, error) {
			return riverWork(ctx, pool, fmt.Sprint("w", conn), batch)
		}, nil)
	}
	c.create = func(ctx context.Context, conns, batch int) (session, error) {
		clients := make([]*river.Client[pgx.Tx], conns)
		return spin(ctx, c.url, conns, func(ctx context.Context, pool *pgxpool.Pool, conn int) (int, error) {
			if clients[conn] == nil {
				var err error
				if clients[conn], err = river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: slog.New(slog.DiscardHandler)}); err != nil {
					return 0, fmt.Errorf("river: %w", err)
				}
			}
			return riverCreate(ctx, clients[conn], batch)
		}, nil)
	}
	c.fill = func(ctx context.Context, n int) error {
		return execAll(ctx, pool, statement{`insert into river_job (state, queue, kind, args, max_attempts, priority, scheduled_at)
			select 'available', 'default', 'bench', $2::jsonb, 25, 1, clock_timestamp() - interval '1 minute' from generate_series(1, $1::integer)`, []any{n, payload}},
			statement{"vacuum analyze river_job", nil})
	}
	c.left = func(ctx context.Context) (left int64, err error) {
		err = pool.QueryRow(ctx, "select count(*) from river_job where state <> 'completed'").Scan(&left)
		return left, err //nolint:wrapcheck // the caller does
	}
	return c, nil
}

func migrateRiver(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		return fmt.Errorf("river: %w", err)
	}
	return nil
}

// riverWork claims and completes as River's producer and completer do.
func riverWork(ctx context.Context, pool *pgxpool.Pool, client string, batch int) (int, error) {
	exec := riverpgxv5.New(pool).GetExecutor()
	got, err := exec.JobGetAvailable(ctx, &riverdriver.JobGetAvailableParams{
		ClientID: client, MaxAttemptedBy: 100, MaxToLock: batch, Queue: river.QueueDefault,
	})
	if err != nil || len(got.Jobs) == 0 {
		return 0, err //nolint:wrapcheck // the caller names River
	}
	now := time.Now()
	done := &riverdriver.JobSetStateIfRunningManyParams{}
	for _, job := range got.Jobs {
		done.ID = append(done.ID, job.ID)
		done.Attempt = append(done.Attempt, nil)
		done.ErrData = append(done.ErrData, nil)
		done.FinalizedAt = append(done.FinalizedAt, &now)
		done.MetadataDoMerge = append(done.MetadataDoMerge, false)
		done.MetadataUpdates = append(done.MetadataUpdates, nil)
		done.ScheduledAt = append(done.ScheduledAt, nil)
		done.State = append(done.State, rivertype.JobStateCompleted)
	}
	jobs, err := exec.JobSetStateIfRunningMany(ctx, done)
	return len(jobs), err
}

// riverCreate inserts as an app does: one by one, or many with its fast form.
func riverCreate(ctx context.Context, client *river.Client[pgx.Tx], batch int) (int, error) {
	args := riverArgs{Prompt: "a lighthouse on a cliff at dusk, painted in oil", Width: 1024, Height: 1024, Seed: 4711}
	if batch == 1 {
		_, err := client.Insert(ctx, args, nil)
		return 1, err //nolint:wrapcheck // the caller names River
	}
	return client.InsertManyFast(ctx, slices.Repeat([]river.InsertManyParams{{Args: args}}, batch)) //nolint:wrapcheck // the caller names River
}

// riverLatency is how long River's own client takes from the answer to an insert, and from its call, to the start of the work.
func (e *env) riverLatency(ctx context.Context, n int) (fromAnswer, fromCall []float64, err error) {
	c, pool, err := e.newPlain(ctx, "river", "", "select 1")
	if err != nil {
		return nil, nil, err
	}
	if err := migrateRiver(ctx, pool); err != nil {
		return nil, nil, err
	}
	started := make(chan time.Time, 1)
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[riverArgs]) error {
		started <- time.Now()
		return nil
	}))
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Workers: workers, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2}}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("river: %w", err)
	}
	if err := client.Start(ctx); err != nil {
		return nil, nil, fmt.Errorf("river: %w", err)
	}
	fromAnswer, fromCall, err = latencies(ctx, n, started, func(ctx context.Context) error {
		_, err := client.Insert(ctx, riverArgs{}, nil)
		return err //nolint:wrapcheck // the caller names River
	})
	_ = client.Stop(context.WithoutCancel(ctx))
	if err != nil {
		return nil, nil, fmt.Errorf("river: %w", err)
	}
	return fromAnswer, fromCall, e.finish(ctx, c)
}
