package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/sql/taskdb"
)

const (
	workers    = 32 // registered as w0, w1, ...
	maxConns   = workers + 4
	manyCredit = 10_000_000
)

// bench is one migrated database with workers registered.
type bench struct {
	url  string
	pool *pgxpool.Pool
	db   *taskdb.DB
}

func createDatabase(ctx context.Context, url, name string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

func openBench(ctx context.Context, url string) (*bench, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	config.MaxConns = maxConns
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	b := &bench{url: url, pool: pool, db: taskdb.New(pool)}
	for i := range workers {
		if _, err := b.db.RegisterWorker(ctx, taskdb.Registration{WorkerID: workerID(i), Capabilities: []string{"wan2gp"}}); err != nil {
			return nil, fmt.Errorf("register: %w", err)
		}
	}
	if _, err := b.db.SetQueueLimit(ctx, uuid.Nil, taskdb.NoQueueLimit); err != nil {
		return nil, fmt.Errorf("queue limit: %w", err)
	}
	return b, nil
}

func workerID(i int) string { return fmt.Sprintf("w%d", i) }

// owners makes n users with a project and this many credits each, and returns the projects.
func (b *bench) owners(ctx context.Context, n int, credits int64) ([]uuid.UUID, error) {
	projects := make([]uuid.UUID, 0, n)
	for range n {
		user, err := b.db.CreateUser(ctx, uuid.Nil, "")
		if err != nil {
			return nil, err
		}
		project, err := b.db.CreateProject(ctx, user.ID, "bench")
		if err != nil {
			return nil, err
		}
		if credits > 0 {
			if _, err := b.db.GrantCredits(ctx, user.ID, taskdb.WholeCredits(credits), "", ""); err != nil {
				return nil, err
			}
		}
		projects = append(projects, project.ID)
	}
	return projects, nil
}

// queue puts n single images of each project into the queue, evenly spread over the hour before now minus age seconds. It writes
// the rows that create_task would write, in bulk and without its triggers: a million tasks in tens of seconds.
func (b *bench) queue(ctx context.Context, projects []uuid.UUID, perProject, age int) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("acquire: %w", err)
	}
	defer conn.Release()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, statement := range []struct {
			sql  string
			args []any
		}{
			{"set local session_replication_role = replica", nil},
			{`insert into tasks (owner_id, project_id, task_type, params, cost, created_at)
			  select p.owner_id, p.id, 'single_image', '{"prompt": "bench"}', 1,
			         clock_timestamp() - $3 * interval '1 second' - random() * interval '1 hour'
			  from projects p, generate_series(1, $2::integer) where p.id = any ($1)`, []any{projects, perProject, age}},
			{"delete from darkroom.task_ready r using projects p where p.id = any ($1) and r.owner_id = p.owner_id", []any{projects}},
			{"delete from darkroom.task_backlog b using projects p where p.id = any ($1) and b.owner_id = p.owner_id", []any{projects}},
			{`insert into darkroom.task_ready (owner_id, task_type, cost, created_at, job_no, task_id)
			  select q.owner_id, q.task_type, q.cost, q.created_at, q.job_no, q.id
			  from (select t.*, row_number() over (partition by t.owner_id order by t.created_at, t.job_no) as place
			        from tasks t where t.project_id = any ($1) and t.status = 'Queued') q where q.place <= 16`, []any{projects}},
			{`insert into darkroom.task_backlog (owner_id, task_type, cost, created_at, job_no, task_id)
			  select q.owner_id, q.task_type, q.cost, q.created_at, q.job_no, q.id
			  from (select t.*, row_number() over (partition by t.owner_id order by t.created_at, t.job_no) as place
			        from tasks t where t.project_id = any ($1) and t.status = 'Queued') q where q.place > 16`, []any{projects}},
		} {
			if _, err := tx.Exec(ctx, statement.sql, statement.args...); err != nil {
				return fmt.Errorf("%.40s: %w", statement.sql, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	if _, err := conn.Exec(ctx, "vacuum analyze"); err != nil {
		return fmt.Errorf("vacuum: %w", err)
	}
	_, err = b.db.TickReadyMark(ctx, true)
	return err
}

// claimAndComplete takes one task through claim and completion; false when none could be claimed.
func claimAndComplete(ctx context.Context, db *taskdb.DB, worker string) (bool, error) {
	task, ok, err := db.ClaimNextTask(ctx, worker)
	if err != nil || !ok {
		return false, err
	}
	_, err = db.CompleteTask(ctx, taskdb.HoldOf(task), taskdb.Output{Location: "https://example.com/" + task.ID.String() + ".png"})
	return true, err
}
