package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river"

	"darkroom/sql/taskdb"
	"darkroom/workerd/riverpilot"
)

// latencies creates n tasks on an idle system, and measures from create's answer and from its call to the start of the work, in ms.
func latencies(ctx context.Context, n int, started <-chan time.Time, create func(context.Context) error) (fromAnswer, fromCall []float64, err error) {
	if err := pause(ctx, time.Second); err != nil { // until it listens
		return nil, nil, err
	}
	for range n {
		if err := pause(ctx, time.Duration(30+rand.IntN(70))*time.Millisecond); err != nil {
			return nil, nil, err
		}
		called := time.Now()
		if err := create(ctx); err != nil {
			return nil, nil, err
		}
		answered := time.Now()
		select {
		case at := <-started:
			fromAnswer = append(fromAnswer, max(0, milliseconds(at.Sub(answered))))
			fromCall = append(fromCall, milliseconds(at.Sub(called)))
		case <-time.After(time.Minute):
			return nil, nil, errQueueEmpty
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("stopped: %w", ctx.Err())
		}
	}
	return fromAnswer, fromCall, nil
}

// latency measures how soon the work on a new task begins when nothing else goes on: ours with the client of River that workerd runs, in this process.
func latency(ctx context.Context, e *env) error {
	n := e.opts.rows(120)
	var rows [][]string
	plot := chart{name: "latency", title: "From creation to the start of the work, idle", unit: "ms from the answer, p50 and p99", together: true}
	note := func(name string, fromAnswer, fromCall []float64) {
		p50, p99 := percentile(fromAnswer, 50), percentile(fromAnswer, 99)
		rows = append(rows, []string{name, number(p50), number(p99), number(percentile(fromCall, 50)), number(percentile(fromCall, 99))})
		ours := name == "darkroom"
		plot.groups = append(plot.groups, group{label: name, bars: []bar{{label: "p50", value: p50, ours: ours}, {label: "p99", value: p99, ours: ours}}})
		if ours {
			e.report.target("latency/p50", p50, "from create's answer")
			e.report.target("latency/p99", p99, "from create's answer")
		}
	}
	fromAnswer, fromCall, err := e.ourLatency(ctx, n)
	if err != nil {
		return err
	}
	note("darkroom", fromAnswer, fromCall)
	for _, name := range e.opts.peers {
		switch {
		case name == "river":
			fromAnswer, fromCall, err = e.riverLatency(ctx, n)
		case nodePeers[name].does != "" && e.node != nil:
			fromAnswer, fromCall, err = e.nodeLatency(ctx, name, n)
		default:
			continue
		}
		if err != nil {
			return err
		}
		note(name, fromAnswer, fromCall)
	}
	e.report.table("From creation to the start of the work, idle",
		fmt.Sprintf("%d tasks each, 30 to 100 ms apart. ms from the answer to the call that created the task, 0 when the work began before it, and from the call. "+
			"All listen: River, graphile-worker with their standard settings, pg-boss with notify on.", n),
		[]string{"", "p50", "p99", "p50 from the call", "p99"}, rows)
	e.report.plot(plot)
	return nil
}

func (e *env) ourLatency(ctx context.Context, n int) (fromAnswer, fromCall []float64, err error) {
	d, err := e.newDarkroom(ctx, "darkroom", 1, false)
	if err != nil {
		return nil, nil, err
	}
	tasks, err := d.projects(ctx, 1)
	if err != nil {
		return nil, nil, err
	}
	started := make(chan time.Time, 1)
	ended := make(chan error, 1)
	pool, err := openPool(ctx, d.url, 12)
	if err != nil {
		return nil, nil, err
	}
	client, err := riverpilot.New(pool, riverpilot.Config{
		WorkerID: workerID(0), Slots: 2, PollInterval: 2 * time.Second, Drain: time.Second,
		Work: func(ctx context.Context, task taskdb.Task) {
			started <- time.Now()
			_, err := d.db.CompleteTask(context.WithoutCancel(ctx), taskdb.HoldOf(task), taskdb.Output{Location: output(task.ID)})
			ended <- err
		},
		Want: func(room int) ([]string, int) { return nil, room }, Claimed: func([]taskdb.Task) {}, Workers: river.NewWorkers(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, nil, err
	}
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return nil, nil, fmt.Errorf("river: %w", err)
	}
	fromAnswer, fromCall, err = latencies(ctx, n, started, func(ctx context.Context) error {
		// The one before must have ended, or the system is not idle.
		if d.created > 0 {
			if err := <-ended; err != nil {
				return err
			}
		}
		d.created++
		_, err := d.db.CreateTask(ctx, tasks[0])
		return err
	})
	if err == nil {
		err = <-ended
	}
	stopErr := client.Stop(context.WithoutCancel(ctx))
	pool.Close()
	d.done = d.created
	if err == nil {
		err = stopErr
	}
	if err != nil {
		return nil, nil, fmt.Errorf("darkroom: %w", err)
	}
	return fromAnswer, fromCall, e.finish(ctx, d.contender)
}
