package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// profile prints the statements inside our functions, those first that take the most time. It counts each, which makes all slower.
func profile(ctx context.Context, e *env) error {
	if !e.statements {
		fmt.Println("  This PostgreSQL has no pg_stat_statements: left out.")
		return nil
	}
	for _, setting := range []struct {
		batch  int
		pinned bool
	}{{1, false}, {100, false}, {1, true}} {
		ours, err := e.newDarkroom(ctx, "darkroom", 100, false)
		if err != nil {
			return err
		}
		batch, label := setting.batch, fmt.Sprintf("batches of %d", setting.batch)
		if _, err := e.admin.Exec(ctx, "alter database "+ours.database+" set pg_stat_statements.track = 'all'"); err != nil {
			return fmt.Errorf("track: %w", err)
		}
		if err := ours.ensure(ctx, 3*e.opts.round.Seconds(), batch); err != nil {
			return err
		}
		if setting.pinned {
			n := e.opts.rows(20_000)
			if err := ours.add(ctx, n+4000); err != nil {
				return err
			}
			end, err := pin(ctx, ours.url, nil)
			if err != nil {
				return err
			}
			defer end(context.WithoutCancel(ctx))
			if _, err := churn(ctx, ours.contender, n); err != nil {
				return err
			}
			label = fmt.Sprintf("one at a time under a pinned snapshot after %s tasks", grouped(ours.done))
		}
		if _, err := e.admin.Exec(ctx, "select pg_stat_statements_reset()"); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
		before := ours.done
		got, err := e.round(ctx, ours.contender, 8, batch)
		if err != nil {
			return err
		}
		rows, err := e.admin.Query(ctx, `select regexp_replace(left(s.query, 300), '\s+', ' ', 'g') as query, s.toplevel, s.calls, s.total_exec_time,
			  s.shared_blks_hit + s.shared_blks_read as buffers, s.wal_bytes::float8
			from pg_stat_statements s join pg_database d on d.oid = s.dbid
			where d.datname = $1 order by s.total_exec_time desc limit 40`, ours.database)
		if err != nil {
			return fmt.Errorf("pg_stat_statements: %w", err)
		}
		var table [][]string
		var query string
		var toplevel bool
		var calls, buffers int64
		var spent, written float64
		n := float64(ours.done - before)
		if _, err := pgx.ForEachRow(rows, []any{&query, &toplevel, &calls, &spent, &buffers, &written}, func() error {
			if !toplevel {
				query = "· " + query
			}
			table = append(table, []string{
				strings.ReplaceAll(query[:min(len(query), 110)], "|", "¦"), number(float64(calls) / n), number(spent * 1000 / n), number(float64(buffers) / n), number(written / n),
			})
			return nil
		}); err != nil {
			return fmt.Errorf("pg_stat_statements: %w", err)
		}
		e.report.table(fmt.Sprintf("Statements by time, 8 connections, %s: %s tasks/s", label, number(got.perSecond())), "A statement's time has that of the statements within it. Per task.",
			[]string{"", "calls", "µs", "buffers", "WAL B"}, table)
		if err := e.finish(ctx, ours.contender); err != nil {
			return err
		}
	}
	return nil
}
