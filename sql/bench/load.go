package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// load is what to write in bulk: owners many new users, each with perOwner tasks in the queue and finished ones behind them.
type load struct {
	owners, perOwner int
	finished         int // of each owner: rows in tasks and task_attempts; they cost nothing and have no result
	credits          int // 0: they cannot pay
	age              int // seconds that the youngest task is old
	analyze          bool
}

// bigLoad is how many rows make it worthwhile to build the indexes afterwards.
const bigLoad = 500_000

// load writes the rows that create_task would write, and of finished tasks the ones that a claim can come upon, without triggers, and so without events:
// about a million tasks in half a minute. The tasks of an owner are spread over an hour, in the order of their numbers.
func (d *darkroom) load(ctx context.Context, l load) error {
	d.loaded = true
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("acquire: %w", err)
	}
	defer conn.Release()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// ACCESS EXCLUSIVE locks of dropped indexes are of no harm: nobody else is here.
		var rebuild []string
		if l.owners*(l.perOwner+l.finished) >= bigLoad {
			if rebuild, err = dropIndexes(ctx, tx); err != nil {
				return err
			}
		}
		if err := execAll(ctx, tx, l.statements(d.taskType)...); err != nil {
			return err
		}
		for _, index := range rebuild {
			if _, err := tx.Exec(ctx, index); err != nil {
				return fmt.Errorf("%.60s: %w", index, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if l.analyze {
		if _, err := conn.Exec(ctx, "vacuum analyze"); err != nil {
			return fmt.Errorf("vacuum: %w", err)
		}
	}
	_, err = d.db.TickReadyMark(ctx, true)
	return err
}

func (l load) statements(taskType string) []statement {
	list := []statement{
		{"set local session_replication_role = replica", nil},
		{"set local synchronous_commit = off", nil},
		{"set local maintenance_work_mem = '1GB'", nil},
		{`create temporary table loaded on commit drop as
			select i, gen_random_uuid() as owner_id, gen_random_uuid() as project_id, gen_random_uuid() as shot_id, $2::integer as credits
			from generate_series(1, $1::integer) i`, []any{l.owners, l.credits}},
		{"insert into users (id) select owner_id from loaded", nil},
		{"insert into projects (id, owner_id) select project_id, owner_id from loaded", nil},
		{"insert into shots (id, project_id) select shot_id, project_id from loaded", nil},
		{`insert into credit_ledger (owner_id, seq, kind, amount, held_after, balance_after)
			select owner_id, 1, 'grant', credits, 0, credits from loaded where credits > 0`, nil},
	}
	if l.finished > 0 {
		list = append(list, statement{`with done as (
				insert into tasks (id, owner_id, project_id, task_type, status, params, cost, attempt, worker_id, claimed_at, completed_at, output_location, created_at)
				select darkroom.new_id(), owner_id, project_id, $2, 'Complete', $3::jsonb, 0, 1, 'w0', at, at + interval '10 s', 'https://example.com/out.png', at
				from (select l.*, clock_timestamp() - interval '1 day' - k * interval '1 s' as at from generate_series(1, $1::integer) k, loaded l) l
				returning owner_id, id, claimed_at, completed_at
			)
			insert into task_attempts (owner_id, task_id, attempt, worker_id, claimed_at, ended_at, outcome)
			select owner_id, id, 1, 'w0', claimed_at, completed_at, 'complete' from done`, []any{l.finished, noopType, payload}})
	}
	if l.perOwner == 0 {
		return list
	}
	cost := 1
	if taskType == noopType {
		cost = 0
	}
	return append(list,
		statement{`create temporary table queued on commit drop as
			select l.owner_id, l.project_id, l.shot_id, k, darkroom.new_id() as id, nextval(pg_get_serial_sequence('tasks', 'job_no')) as job_no,
			  now() - $2 * interval '1 s' - (1 - (k - l.i::numeric / $3) / $1) * interval '1 hour' as created_at
			from generate_series(1, $1::integer) k, loaded l order by k, l.i`, []any{l.perOwner, l.age, l.owners + 1}},
		statement{
			`insert into tasks (id, job_no, owner_id, project_id, task_type, params, cost, created_at, updated_at) overriding system value
			select id, job_no, owner_id, project_id, $1, $2::jsonb || jsonb_build_object('shot_id', shot_id), $3, created_at, created_at from queued`,
			[]any{taskType, payload, cost},
		},
		// An owner's window of the oldest 16, and the rest. What cannot be paid for is parked when a claim finds it.
		statement{`insert into darkroom.task_ready (owner_id, task_type, cost, created_at, job_no, task_id)
			select owner_id, $1, $2, created_at, job_no, id from queued where k <= 16`, []any{taskType, cost}},
		statement{`insert into darkroom.task_backlog (owner_id, task_type, cost, created_at, job_no, task_id)
			select owner_id, $1, $2, created_at, job_no, id from queued where k > 16`, []any{taskType, cost}},
	)
}

// dropIndexes drops the indexes of the tables that get many rows, and returns the statements that build them again. The primary key of tasks stays: a view
// needs it.
func dropIndexes(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `
		select coalesce('alter table ' || x.indrelid::regclass || ' drop constraint ' || quote_ident(c.conname), 'drop index ' || x.indexrelid::regclass),
		  coalesce('alter table ' || x.indrelid::regclass || ' add constraint ' || quote_ident(c.conname) || ' ' || pg_get_constraintdef(c.oid),
		           pg_get_indexdef(x.indexrelid))
		from pg_index x left join pg_constraint c on c.conindid = x.indexrelid and c.contype in ('p', 'u')
		where x.indexrelid <> 'public.tasks_pkey'::regclass
		  and x.indrelid in ('public.tasks'::regclass, 'public.task_attempts'::regclass, 'darkroom.task_backlog'::regclass)`)
	if err != nil {
		return nil, fmt.Errorf("indexes: %w", err)
	}
	type index struct{ Drop, Build string }
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[index])
	if err != nil {
		return nil, fmt.Errorf("indexes: %w", err)
	}
	var rebuild []string
	for _, i := range list {
		if _, err := tx.Exec(ctx, i.Drop); err != nil {
			return nil, fmt.Errorf("%s: %w", i.Drop, err)
		}
		rebuild = append(rebuild, i.Build)
	}
	return rebuild, nil
}
