package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"darkroom/sql/taskdb"
)

// buffers prints how many 8 kB pages a claim looks at, in the situations that hurt other queues; and below each, what explain_task and list_workers do.
func buffers(ctx context.Context, b *bench) error {
	fmt.Println("\nBuffers a claim looks at (EXPLAIN BUFFERS of claim_next_task, 200 claims)")
	fmt.Printf("  %-52s %8s %8s %8s\n", "", "median", "p99", "p50 ms")

	rich, err := b.owners(ctx, 100, manyCredit)
	if err != nil {
		return err
	}
	if err := b.queue(ctx, rich, 14, 0); err != nil {
		return err
	}
	if err := printBuffers(ctx, b, "1k queued, 100 owners"); err != nil {
		return err
	}

	if err := b.queue(ctx, rich, 10_000, 0); err != nil {
		return err
	}
	if err := printBuffers(ctx, b, "1M queued, 100 owners"); err != nil {
		return err
	}

	broke, err := b.owners(ctx, 1, 0)
	if err != nil {
		return err
	}
	if err := b.queue(ctx, broke, 100_000, 7200); err != nil {
		return err
	}
	if err := printBuffers(ctx, b, "and behind a broke owner's 100k older tasks"); err != nil {
		return err
	}

	// A transaction that stays open pins every dead row, as a pg_dump does.
	pin, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = pin.Close(ctx) }()
	if _, err := pin.Exec(ctx, "begin isolation level repeatable read; select count(*) from task_types"); err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	if err := churn(ctx, b, 50_000); err != nil {
		return err
	}
	return printBuffers(ctx, b, "and under a pinned xmin after 50k more were finished")
}

// churn takes n tasks through claim and completion, over 4 connections, with the ticks that workerd gives.
func churn(ctx context.Context, b *bench, n int) error {
	const conns = 4
	ticks, stopTicks := context.WithCancel(ctx)
	defer stopTicks()
	go func() {
		for ticks.Err() == nil {
			_, _ = b.db.TickReadyMark(ticks, false)
			time.Sleep(50 * time.Millisecond)
		}
	}()
	failed := make(chan error, conns)
	for c := range conns {
		go func() {
			for range n / conns {
				ok, err := claimAndComplete(ctx, b.db, workerID(c))
				if err == nil && !ok {
					err = errQueueEmpty
				}
				if err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range conns {
		if err := <-failed; err != nil {
			return fmt.Errorf("churn: %w", err)
		}
	}
	return nil
}

func printBuffers(ctx context.Context, b *bench, label string) error {
	const claims = 200
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	db := taskdb.New(conn)
	for range 20 { // a new connection reads the catalog first; and parks what must be parked
		if _, err := claimAndComplete(ctx, db, workerID(0)); err != nil {
			return err
		}
	}

	var looked []int
	var took []float64
	for range claims {
		if _, err := db.TickReadyMark(ctx, false); err != nil {
			return err
		}
		cost, err := costOf(ctx, conn, "select * from claim_next_task('w0')")
		if err != nil {
			return err
		}
		looked = append(looked, cost.pages)
		took = append(took, cost.ms)
	}
	slices.Sort(looked)
	slices.Sort(took)
	fmt.Printf("  %-52s %8d %8d %8.2f\n", label, looked[claims/2], looked[claims*99/100], took[claims/2])
	for i := range workers { // as workers do every few seconds
		if _, err := db.HeartbeatWorker(ctx, workerID(i), []taskdb.Running{}, nil); err != nil {
			return err
		}
	}
	return printReads(ctx, conn)
}

// printReads prints the same of what a console asks: about the task that is youngest, which has all others before it, and about the workers.
func printReads(ctx context.Context, conn *pgx.Conn) error {
	var youngest string
	if err := conn.QueryRow(ctx, "select id::text from tasks where status = 'Queued' order by created_at desc limit 1").Scan(&youngest); err != nil {
		return fmt.Errorf("youngest: %w", err)
	}
	for _, call := range []struct{ name, sql string }{{"explain_task of the youngest", "select * from explain_task('" + youngest + "')"}, {"list_workers", "select * from list_workers()"}} {
		var best cost
		for i := range 5 {
			this, err := costOf(ctx, conn, call.sql)
			if err != nil {
				return err
			}
			if i == 0 || this.ms < best.ms {
				best = this
			}
		}
		fmt.Printf("    %-50s %8d %8s %8.2f\n", call.name, best.pages, "", best.ms)
	}
	return nil
}

// cost is what a statement took.
type cost struct {
	pages int // looked at
	ms    float64
}

// costOf runs a statement that gives rows and measures it.
func costOf(ctx context.Context, conn *pgx.Conn, statement string) (cost, error) {
	var text []byte
	if err := conn.QueryRow(ctx, "explain (analyze, buffers, format json) "+statement).Scan(&text); err != nil {
		return cost{}, fmt.Errorf("explain: %w", err)
	}
	var plans []struct {
		Plan struct {
			Hit  int     `json:"Shared Hit Blocks"`
			Read int     `json:"Shared Read Blocks"`
			Time float64 `json:"Actual Total Time"`
			Rows float64 `json:"Actual Rows"`
		} `json:"Plan"`
	}
	if err := json.Unmarshal(text, &plans); err != nil {
		return cost{}, fmt.Errorf("explain: %w", err)
	}
	if plans[0].Plan.Rows == 0 {
		return cost{}, errQueueEmpty
	}
	return cost{plans[0].Plan.Hit + plans[0].Plan.Read, plans[0].Plan.Time}, nil
}
