package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// walPart is what one kind of record takes.
type walPart struct {
	Kind           string
	Count          int64
	Records, Pages float64 // bytes
}

// wal measures what a task writes: right after a checkpoint, when each page that is touched is written whole, and once more.
func wal(ctx context.Context, e *env) error {
	if !e.walInspect {
		fmt.Println("  This PostgreSQL has no pg_walinspect: left out.")
		return nil
	}
	_, full, _, list, err := e.all(ctx, 100)
	if err != nil {
		return err
	}
	head := []string{"", "WAL B a task, first", "of that page images", "WAL B a task, later", "of that page images"}
	var rows, detail [][]string
	for _, c := range list {
		if err := c.ensure(ctx, 3*e.opts.round.Seconds(), 1); err != nil {
			return err
		}
	}
	for _, c := range list {
		row := []string{c.name}
		for _, when := range []string{"first", "later"} {
			if when == "first" {
				if _, err := e.admin.Exec(ctx, "checkpoint"); err != nil {
					return fmt.Errorf("checkpoint: %w", err)
				}
			}
			parts, n, err := e.walOf(ctx, c)
			if err != nil {
				return err
			}
			var records, pages float64
			for _, p := range parts {
				records, pages = records+p.Records, pages+p.Pages
			}
			row = append(row, number((records+pages)/n), number(pages/n))
			if c == full && when == "later" {
				e.report.target("wal/full", records/n, "8 connections; page images come on top after a checkpoint")
				for _, p := range parts {
					if p.Records/n >= 20 {
						detail = append(detail, []string{p.Kind, number(float64(p.Count) / n), number(p.Records / n)})
					}
				}
			}
		}
		rows = append(rows, row)
	}
	e.report.table("WAL a task, 8 connections", "First: right after a checkpoint, when each page is written whole at its first change. Bytes of records as pg_get_wal_stats counts them.", head, rows)
	e.report.table("Where our WAL goes", "By kind of record, without page images.", []string{"", "records a task", "B a task"}, detail)
	return e.finish(ctx, list...)
}

// walOf runs a round, and returns what it wrote, the largest first, and how many tasks it did.
func (e *env) walOf(ctx context.Context, c *contender) ([]walPart, float64, error) {
	from, err := e.flushed(ctx)
	if err != nil {
		return nil, 0, err
	}
	before := c.done
	if _, err := e.hold(ctx, c, &c.done, func() (session, error) { return c.work(ctx, 8, 1) }); err != nil {
		return nil, 0, err
	}
	to, err := e.flushed(ctx)
	if err != nil {
		return nil, 0, err
	}
	rows, err := e.admin.Query(ctx, `select "resource_manager/record_type" as kind, count, record_size::float8 as records, fpi_size::float8 as pages
		from pg_get_wal_stats($1::pg_lsn, $2::pg_lsn, true) where count > 0`, from, to)
	if err != nil {
		return nil, 0, fmt.Errorf("wal: %w", err)
	}
	parts, err := pgx.CollectRows(rows, pgx.RowToStructByName[walPart])
	if err != nil {
		return nil, 0, fmt.Errorf("wal: %w", err)
	}
	slices.SortFunc(parts, func(a, b walPart) int { return int(b.Records - a.Records) })
	return parts, float64(c.done - before), nil
}

// flushed sees to it that all WAL so far is on disk, where pg_walinspect reads it, and returns how far that is.
func (e *env) flushed(ctx context.Context) (string, error) {
	var at string
	err := pgx.BeginFunc(ctx, e.admin, func(tx pgx.Tx) error {
		return execAll(ctx, tx, statement{"set local synchronous_commit = on", nil}, statement{"select pg_logical_emit_message(true, 'bench', '')", nil})
	})
	if err == nil {
		err = e.admin.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text").Scan(&at)
	}
	if err != nil {
		return "", fmt.Errorf("wal: %w", err)
	}
	return at, nil
}
