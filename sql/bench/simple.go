package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// payload is what each task carries, in every system.
const payload = `{"prompt": "a lighthouse on a cliff at dusk, painted in oil", "width": 1024, "height": 1024, "seed": 4711}`

// newPlain opens a database of its own for a contender.
func (e *env) newPlain(ctx context.Context, name, does, schema string) (*contender, *pgxpool.Pool, error) {
	database, url, err := e.newDatabase(ctx, name, "")
	if err != nil {
		return nil, nil, err
	}
	pool, err := openPool(ctx, url, 4)
	if err != nil {
		return nil, nil, err
	}
	if _, err := pool.Exec(ctx, schema); err != nil {
		pool.Close()
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return &contender{name: name, does: does, database: database, url: url, close: pool.Close}, pool, nil
}

// newLimit is what stands beside all: for each task two commits of an UPDATE of one row. With notify, each carries a NOTIFY. A batch is an UPDATE of that
// many rows.
func (e *env) newLimit(ctx context.Context, name string, notify bool) (*contender, error) {
	c, _, err := e.newPlain(ctx, name, "two commits of a one-row UPDATE; no queue", `
		create table bare (id integer primary key, v integer not null) with (fillfactor = 50);
		insert into bare select i, 0 from generate_series(1, 100000) i`)
	if err != nil {
		return nil, err
	}
	c.work = func(ctx context.Context, conns, batch int) (session, error) {
		update := "update bare set v = v + 1 where id between $1 and $2"
		if notify {
			update = "with n as materialized (select pg_notify('bench', '')) update bare set v = v + (select 1 from n) where id between $1 and $2"
		}
		turn := make([]int, conns)
		return spin(ctx, c.url, conns, func(ctx context.Context, pool *pgxpool.Pool, conn int) (int, error) {
			turn[conn]++
			from := (conn*100_000/conns+turn[conn]*batch)%(100_000-batch) + 1
			for range 2 {
				if _, err := pool.Exec(ctx, update, from, from+batch-1); err != nil {
					return 0, fmt.Errorf("limit: %w", err)
				}
			}
			return batch, nil
		}, nil)
	}
	return c, nil
}

// newInsert is the limit of creating: inserts of the same payload into a table with one index.
func (e *env) newInsert(ctx context.Context) (*contender, error) {
	c, _, err := e.newPlain(ctx, "limit", "INSERT into a table with one index", `
		create table bare (id uuid primary key default gen_random_uuid(), created_at timestamptz not null default clock_timestamp(), params jsonb not null)`)
	if err != nil {
		return nil, err
	}
	c.create = func(ctx context.Context, conns, batch int) (session, error) {
		params := repeat(payload, batch)
		return spin(ctx, c.url, conns, func(ctx context.Context, pool *pgxpool.Pool, _ int) (int, error) {
			if _, err := pool.Exec(ctx, "insert into bare (params) select p::jsonb from unnest($1::text[]) p", params); err != nil {
				return 0, fmt.Errorf("insert: %w", err)
			}
			return batch, nil
		}, nil)
	}
	return c, nil
}

func repeat(text string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = text
	}
	return list
}

// newNaive is the query that the spec starts from, over a table with the spec's index. With credits, only tasks are claimed whose owner can pay.
func (e *env) newNaive(ctx context.Context, name string, credits bool) (*contender, error) {
	c, pool, err := e.newPlain(ctx, name, "order by created_at limit 1 for update skip locked; no credits, results, events or fences", `
		create table owners (id integer primary key, credits integer not null);
		insert into owners select i, 1000000000 from generate_series(1, 100) i;
		create table jobs (
		  id bigint generated always as identity primary key, created_at timestamptz not null default clock_timestamp(), owner_id integer not null,
		  status text not null default 'Queued', params jsonb not null, worker_id text, output_location text, finished_at timestamptz);
		create index on jobs (status, created_at)`)
	if err != nil {
		return nil, err
	}
	pays := ""
	if credits {
		pays = "and exists (select from owners o where o.id = j.owner_id and o.credits > 0)"
	}
	claim := `with next as (select id from jobs j where status = 'Queued' ` + pays + ` order by created_at limit $1 for update skip locked)
		update jobs j set status = 'In Progress', worker_id = $2 from next where j.id = next.id returning j.*`
	c.work = func(ctx context.Context, conns, batch int) (session, error) {
		return spin(ctx, c.url, conns, func(ctx context.Context, pool *pgxpool.Pool, conn int) (int, error) {
			rows, err := pool.Query(ctx, claim, batch, fmt.Sprint("w", conn))
			if err != nil {
				return 0, fmt.Errorf("claim: %w", err)
			}
			ids, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (int64, error) {
				values, err := row.Values()
				if err != nil {
					return 0, err //nolint:wrapcheck // wrapped below
				}
				id, _ := values[0].(int64)
				return id, nil
			})
			if err != nil {
				return 0, fmt.Errorf("claim: %w", err)
			}
			done, err := pool.Exec(ctx, "update jobs set status = 'Complete', output_location = $2, finished_at = clock_timestamp() where id = any ($1)",
				ids, "https://example.com/out.png")
			if err != nil {
				return 0, fmt.Errorf("complete: %w", err)
			}
			return int(done.RowsAffected()), nil
		}, nil)
	}
	c.fill = func(ctx context.Context, n int) error {
		return execAll(ctx, pool, statement{"insert into jobs (owner_id, params) select i % 100 + 1, $2::jsonb from generate_series(1, $1::integer) i", []any{n, payload}},
			statement{"vacuum analyze jobs", nil})
	}
	c.left = func(ctx context.Context) (left int64, err error) {
		err = pool.QueryRow(ctx, "select count(*) from jobs where status <> 'Complete'").Scan(&left)
		return left, err //nolint:wrapcheck // the caller does
	}
	return c, nil
}

type statement struct {
	sql  string
	args []any
}

// execer is a pool, a connection or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func execAll(ctx context.Context, db execer, statements ...statement) error {
	for _, s := range statements {
		if _, err := db.Exec(ctx, s.sql, s.args...); err != nil {
			return fmt.Errorf("%.60s: %w", s.sql, err)
		}
	}
	return nil
}
