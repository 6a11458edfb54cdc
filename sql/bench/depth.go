package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"darkroom/sql/taskdb"
)

// claimFigures are of single claims: pages looked at, time within the server, and as the client sees it with the commit, in ms.
type claimFigures struct{ buffers, server, client []float64 }

// claims measures n claims by EXPLAIN, and as many by the clock; all are completed. With refill a task is created for each, so that the queue keeps its
// depth.
func (d *darkroom) claims(ctx context.Context, n int, refill bool) (claimFigures, error) {
	var out claimFigures
	pool, err := openPool(ctx, d.url, 1)
	if err != nil {
		return out, err
	}
	defer pool.Close()
	db := taskdb.New(pool)
	var next []taskdb.NewTask
	if refill {
		if next, err = d.projects(ctx, 100); err != nil {
			return out, err
		}
	}
	for i := range 2*n + 40 { // the first are for the caches
		warm := i >= 40
		if i%20 == 0 {
			if _, err := db.TickReadyMark(ctx, i%800 == 0); err != nil {
				return out, err
			}
		}
		var held taskdb.Hold
		if i%2 == 0 {
			began := time.Now()
			task, ok, err := db.ClaimNextTask(ctx, workerID(0))
			if err == nil && !ok {
				err = errQueueEmpty
			}
			if err != nil {
				return out, err
			}
			if warm {
				out.client = append(out.client, milliseconds(time.Since(began)))
			}
			held = taskdb.HoldOf(task)
		} else {
			plan, err := explainClaim(ctx, pool)
			if err != nil {
				return out, err
			}
			if warm {
				out.buffers = append(out.buffers, float64(plan.Hit+plan.Read))
				out.server = append(out.server, plan.Time)
			}
			if held, err = d.runningOf(ctx, workerID(0)); err != nil {
				return out, err
			}
		}
		if _, err := db.CompleteTask(ctx, held, taskdb.Output{Location: output(held.TaskID)}); err != nil {
			return out, err
		}
		d.done++
		if refill {
			if _, err := db.CreateTask(ctx, next[i%len(next)]); err != nil {
				return out, err
			}
			d.created++
		}
	}
	return out, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

type plan struct {
	Hit  int     `json:"Shared Hit Blocks"`
	Read int     `json:"Shared Read Blocks"`
	Time float64 `json:"Actual Total Time"`
	Rows float64 `json:"Actual Rows"`
}

type queryRower interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// explainClaim claims a task and tells what that took.
func explainClaim(ctx context.Context, db queryRower) (plan, error) {
	var text []byte
	if err := db.QueryRow(ctx, "explain (analyze, buffers, format json) select * from claim_next_task('w0')").Scan(&text); err != nil {
		return plan{}, fmt.Errorf("explain: %w", err)
	}
	var plans []struct {
		Plan plan `json:"Plan"`
	}
	if err := json.Unmarshal(text, &plans); err != nil {
		return plan{}, fmt.Errorf("explain: %w", err)
	}
	if plans[0].Plan.Rows != 1 {
		return plan{}, errQueueEmpty
	}
	return plans[0].Plan, nil
}

// runningOf is the one task that a worker holds.
func (d *darkroom) runningOf(ctx context.Context, worker string) (taskdb.Hold, error) {
	h := taskdb.Hold{WorkerID: worker}
	err := d.pool.QueryRow(ctx, "select id, attempt from tasks where worker_id = $1 and status = 'In Progress'", worker).Scan(&h.TaskID, &h.Attempt)
	if err != nil {
		return h, fmt.Errorf("what %s holds: %w", worker, err)
	}
	return h, nil
}

// depth measures claims and throughput at depths of the queue, with as many finished tasks behind.
func depth(ctx context.Context, e *env) error {
	limit, err := e.newLimit(ctx, "limit", false)
	if err != nil {
		return err
	}
	ours, err := e.newDarkroom(ctx, "darkroom", 10_000, false)
	if err != nil {
		return err
	}
	// The queue keeps its depth: each task that is done is followed by a new one.
	projects, err := ours.projects(ctx, workers)
	if err != nil {
		return err
	}
	ours.work = func(ctx context.Context, conns, _ int) (session, error) {
		return ours.spin(ctx, conns, func(ctx context.Context, db *taskdb.DB, conn int) (int, error) {
			n, err := claimAndComplete(ctx, db, workerID(conn))
			if err == nil && n == 1 {
				_, err = db.CreateTask(ctx, projects[conn])
			}
			return n, err
		})
	}
	ours.fill = nil // not by the round

	var rows [][]string
	plot := chart{name: "depth", title: "At depth", unit: "ms a claim, p50 and p99, with its commit", together: true}
	var first, last, firstServer, lastServer float64
	at := 0
	for _, depth := range []int{1_000, 100_000, 1_000_000, 5_000_000} {
		want := e.opts.rows(depth)
		began := time.Now()
		owners := min(10_000, max(want-at, 1))
		each := max((want-at)/owners, 1)
		finished := each
		if depth == 1_000 {
			finished = 0
		}
		if err := ours.load(ctx, load{owners: owners, perOwner: each, finished: finished, credits: manyCredit, analyze: true}); err != nil {
			return err
		}
		ours.filled += int64(owners * each)
		at += owners * each
		if _, err := e.admin.Exec(ctx, "checkpoint"); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		loading := time.Since(began)
		claims, err := ours.claims(ctx, e.opts.rows(1000), true)
		if err != nil {
			return err
		}
		got := &figures{}
		bound := &figures{}
		for range e.opts.rounds {
			for _, turn := range []struct {
				*contender
				*figures
			}{{limit, bound}, {ours.contender, got}} {
				s, err := e.hold(ctx, turn.contender, &turn.done, func() (session, error) { return turn.work(ctx, 8, 1) })
				if err != nil {
					return err
				}
				turn.samples = append(turn.samples, s)
			}
		}
		ours.created = ours.done // one for one
		p50, p99 := percentile(claims.client, 50), percentile(claims.client, 99)
		last, lastServer = p99, percentile(claims.server, 99)
		if first == 0 {
			first, firstServer = last, lastServer
		}
		label := grouped(int64(at))
		rows = append(rows, []string{
			label, number(percentile(claims.buffers, 50)), number(percentile(claims.buffers, 99)), number(percentile(claims.server, 50)), number(percentile(claims.server, 99)),
			number(p50), number(p99), number(got.rate()), got.spread(), number(got.rate() / bound.rate()), number(loading.Seconds()),
		})
		plot.groups = append(plot.groups, group{label: label + " queued", bars: []bar{{label: "p50", value: p50, ours: true}, {label: "p99", value: p99, ours: true}}})
	}
	e.report.table("At depth, 10,000 owners", "As many finished as queued from the second row on, loaded in bulk (without ledger and generations). ms: of a claim, within the server and with its commit. "+
		"Tasks/s: claim + complete + create, 8 connections, so that the depth stays.",
		[]string{"queued", "buffers a claim", "p99", "ms in the server", "p99", "ms with commit", "p99", "tasks/s", "lowest to highest", "÷ limit", "loaded in s"}, rows)
	e.report.plot(plot)
	e.report.target("depth/p99", last/first, fmt.Sprintf("%s queued; with the commit, in the server alone %s", grouped(int64(at)), number(lastServer/firstServer)))
	return e.finish(ctx, limit, ours.contender)
}
