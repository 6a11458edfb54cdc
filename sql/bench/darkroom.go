package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/sql/taskdb"
)

const (
	workers    = 32 // registered as w0, w1, ...
	fullType   = "single_image"
	noopType   = "bench_noop"
	manyCredit = 100_000_000
)

// darkroom is our database with what loads it.
type darkroom struct {
	*contender

	pool     *pgxpool.Pool
	db       *taskdb.DB
	owners   int    // made by each fill
	taskType string // of what fill makes
	loaded   bool   // rows were loaded in bulk, without events
}

// newDarkroom makes a migrated database with workers registered. Tasks are of owners many users, each with credits and a shot; noop ones cost nothing and
// have no result.
func (e *env) newDarkroom(ctx context.Context, name string, owners int, noop bool) (*darkroom, error) {
	database, url, err := e.newDatabase(ctx, name, template)
	if err != nil {
		return nil, err
	}
	pool, err := openPool(ctx, url, 4)
	if err != nil {
		return nil, err
	}
	d := &darkroom{
		contender: &contender{name: name, database: database, url: url, close: pool.Close, does: "hold, settle, generation, shot link, attempt and events written"},
		pool:      pool, db: taskdb.New(pool), owners: owners, taskType: fullType,
	}
	if noop {
		d.taskType, d.does = noopType, "attempt and events written; no cost, no result"
	}
	if _, err := pool.Exec(ctx, "insert into task_types (name) values ($1)", noopType); err != nil {
		return nil, fmt.Errorf("task type: %w", err)
	}
	for i := range workers {
		if _, err := d.db.RegisterWorker(ctx, taskdb.Registration{WorkerID: workerID(i), Capabilities: []string{"wan2gp"}}); err != nil {
			return nil, err
		}
	}
	if _, err := d.db.SetQueueLimit(ctx, uuid.Nil, taskdb.NoQueueLimit); err != nil {
		return nil, err
	}
	d.work = func(ctx context.Context, conns, batch int) (session, error) {
		return d.spin(ctx, conns, func(ctx context.Context, db *taskdb.DB, conn int) (int, error) {
			if batch == 1 {
				return claimAndComplete(ctx, db, workerID(conn))
			}
			return claimAndCompleteMany(ctx, db, workerID(conn), batch)
		})
	}
	d.fill = func(ctx context.Context, n int) error {
		per := (n + owners - 1) / owners
		d.filled += int64(per*owners - n) // whole owners; the caller counts n
		return d.load(ctx, load{owners: owners, perOwner: per, credits: manyCredit, analyze: true})
	}
	d.left = func(ctx context.Context) (left int64, err error) {
		err = pool.QueryRow(ctx, "select count(*) from tasks where status in ('Queued', 'In Progress')").Scan(&left)
		return left, err //nolint:wrapcheck // the caller does
	}
	d.check = d.violations
	return d, nil
}

func workerID(i int) string { return fmt.Sprintf("w%d", i) }

// spin runs op on each connection, and beside it the ticks that workerd gives while claims happen.
func (d *darkroom) spin(ctx context.Context, conns int, op func(ctx context.Context, db *taskdb.DB, conn int) (int, error)) (session, error) {
	return spin(ctx, d.url, conns, func(ctx context.Context, pool *pgxpool.Pool, conn int) (int, error) {
		return op(ctx, taskdb.New(pool), conn)
	}, func(ctx context.Context, pool *pgxpool.Pool) {
		db := taskdb.New(pool)
		for n := 0; pause(ctx, 25*time.Millisecond) == nil; n++ {
			_, _ = db.TickReadyMark(ctx, n%80 == 79) // a tick that failed is made up for by the next
		}
	})
}

// claimAndComplete takes one task through claim and completion, and returns how many that were.
func claimAndComplete(ctx context.Context, db *taskdb.DB, worker string) (int, error) {
	task, ok, err := db.ClaimNextTask(ctx, worker)
	if err != nil || !ok {
		return 0, err
	}
	_, err = db.CompleteTask(ctx, taskdb.HoldOf(task), taskdb.Output{Location: output(task.ID)})
	return 1, err
}

func output(task uuid.UUID) string { return "https://example.com/" + task.String() + ".png" }

func claimAndCompleteMany(ctx context.Context, db *taskdb.DB, worker string, batch int) (int, error) {
	tasks, err := db.ClaimNextTasks(ctx, worker, batch, nil)
	if err != nil || len(tasks) == 0 {
		return 0, err
	}
	completions := each(tasks, func(t taskdb.Task) taskdb.Completion {
		return taskdb.Completion{TaskID: t.ID, Attempt: t.Attempt, OutputLocation: output(t.ID)}
	})
	results, err := db.CompleteTasks(ctx, worker, completions)
	if err != nil {
		return 0, err
	}
	for _, r := range results {
		if r.ErrorCode != nil {
			return 0, fmt.Errorf("completing %s: %s %s", r.TaskID, *r.ErrorCode, *r.ErrorMessage)
		}
	}
	return len(results), nil
}

// creating prepares what creates tasks of projects of its own, one for each connection.
func (d *darkroom) creating(ctx context.Context) error {
	projects, err := d.projects(ctx, workers)
	if err != nil {
		return err
	}
	d.create = func(ctx context.Context, conns, batch int) (session, error) {
		return spin(ctx, d.url, conns, func(ctx context.Context, pool *pgxpool.Pool, conn int) (int, error) {
			db := taskdb.New(pool)
			if batch == 1 {
				_, err := db.CreateTask(ctx, projects[conn])
				return 1, err
			}
			tasks, err := db.CreateTasks(ctx, slices.Repeat([]taskdb.NewTask{projects[conn]}, batch))
			return len(tasks), err
		}, nil)
	}
	return nil
}

// projects makes n owners by the API, with credits and a shot each, and returns a task of each to create.
func (d *darkroom) projects(ctx context.Context, n int) ([]taskdb.NewTask, error) {
	var list []taskdb.NewTask
	for range n {
		user, err := d.db.CreateUser(ctx, uuid.Nil, "")
		if err != nil {
			return nil, err
		}
		project, err := d.db.CreateProject(ctx, user.ID, "bench")
		if err != nil {
			return nil, err
		}
		shot, err := d.db.CreateShot(ctx, project.ID, "bench")
		if err != nil {
			return nil, err
		}
		if _, err := d.db.GrantCredits(ctx, user.ID, taskdb.WholeCredits(manyCredit/1000), "", ""); err != nil {
			return nil, err
		}
		params := strings.TrimSuffix(payload, "}") + `, "shot_id": "` + shot.ID.String() + `"}`
		list = append(list, taskdb.NewTask{ProjectID: project.ID, TaskType: d.taskType, Params: json.RawMessage(params)})
	}
	return list, nil
}

// violations fails when the measurement has broken a rule of the database. Bulk loading writes no events for the tasks it makes, so rule 6 is not asked
// where it was used.
func (d *darkroom) violations(ctx context.Context) error {
	except := 0
	if d.loaded {
		except = 6
	}
	var list []taskdb.Violation
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local work_mem = '512MB'; set local jit = off"); err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		rows, err := tx.Query(ctx, fmt.Sprintf("select * from invariant_violations where rule <> %d limit 10", except))
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByName[taskdb.Violation])
		return err //nolint:wrapcheck // wrapped below
	})
	switch {
	case err != nil:
		return fmt.Errorf("invariants: %w", err)
	case len(list) > 0:
		return fmt.Errorf("invariants are violated, the first: %+v", list[0])
	}
	var repaired int
	if err := d.pool.QueryRow(ctx, "select count(*) from darkroom.queue_repairs").Scan(&repaired); err != nil {
		return fmt.Errorf("invariants: %w", err)
	}
	if repaired > 0 {
		return errors.New("the queue had to be repaired")
	}
	return nil
}
