package main

import (
	"context"
	"fmt"
)

// pinned measures all queues, lets a transaction pin dead rows, takes many tasks through each, and measures again.
func pinned(ctx context.Context, e *env) error {
	limit, err := e.newLimit(ctx, "limit", false)
	if err != nil {
		return err
	}
	ours, err := e.newDarkroom(ctx, "darkroom", 100, false)
	if err != nil {
		return err
	}
	others, err := e.peers(ctx)
	if err != nil {
		return err
	}
	full := ours.contender
	list := append([]*contender{limit, full}, others...)
	n := e.opts.rows(200_000)
	for _, c := range list {
		if c.fill == nil {
			continue
		}
		if err := c.add(ctx, n+2500); err != nil {
			return err
		}
	}
	before, err := e.turns(ctx, list, 8, 1)
	if err != nil {
		return err
	}
	// Whatever the next rounds need is loaded before the snapshot is taken, which would keep it from being vacuumed.
	for _, c := range list {
		c.rate = before[c].rate()
		if err := c.ensure(ctx, e.opts.round.Seconds()*1.25*float64(e.opts.rounds)+float64(n)/c.rate+1, 1); err != nil {
			return err
		}
	}
	got := map[*contender]int64{}
	for _, c := range list {
		if c.fill == nil {
			continue
		}
		end, err := pin(ctx, c.url, nil)
		if err != nil {
			return err
		}
		defer end(context.WithoutCancel(ctx))
		if got[c], err = churn(ctx, c, n); err != nil {
			return err
		}
	}
	after, err := e.turns(ctx, list, 8, 1)
	if err != nil {
		return err
	}

	drift := after[limit].rate() / before[limit].rate()
	var rows [][]string
	plot := chart{name: "pinned", title: fmt.Sprintf("After %s tasks under a pinned snapshot", grouped(int64(n))), unit: "tasks a second ÷ before, the limit's own change taken out"}
	g := group{label: "claim + complete, one at a time"}
	for _, c := range list {
		b, a := before[c], after[c]
		kept := a.rate() / b.rate() / drift
		rows = append(rows, []string{
			c.name, grouped(got[c]), number(b.rate()), number(a.rate()), number(kept), number(b.buffers()), number(a.buffers()), number(a.buffers() / b.buffers()), number(b.cpu()), number(a.cpu()),
		})
		if c != limit {
			g.bars = append(g.bars, bar{label: c.name, value: kept, ours: rateBar(c, a).ours})
		}
	}
	plot.groups = []group{g}
	e.report.table("Under a pinned snapshot, 8 connections, one at a time",
		fmt.Sprintf("÷: the limit's own change taken out. Churned in large batches over 4 connections, within %s each.", churnLimit),
		[]string{"", "churned", "tasks/s before", "after", "÷", "buffers a task before", "after", "÷", "CPU µs before", "after"}, rows)
	e.report.plot(plot)
	e.report.target("pinned/rate", after[full].rate()/before[full].rate()/drift, grouped(got[full])+" churned")
	e.report.target("pinned/buffers", after[full].buffers()/before[full].buffers(), "")
	return e.finish(ctx, list...)
}

// longWrite measures the work beside a transaction that has created a task and does not end.
func longWrite(ctx context.Context, e *env) error {
	limit, err := e.newLimit(ctx, "limit", false)
	if err != nil {
		return err
	}
	ours, err := e.newDarkroom(ctx, "darkroom", 100, false)
	if err != nil {
		return err
	}
	list := []*contender{limit, ours.contender}
	n := e.opts.rows(20_000)
	if err := ours.add(ctx, n+2500); err != nil {
		return err
	}
	before, err := e.turns(ctx, list, 8, 1)
	if err != nil {
		return err
	}
	ours.rate = before[ours.contender].rate()
	if err := ours.ensure(ctx, e.opts.round.Seconds()*1.25*float64(e.opts.rounds)+float64(n)/ours.rate+1, 1); err != nil {
		return err
	}
	tasks, err := ours.projects(ctx, 1)
	if err != nil {
		return err
	}
	end, err := pin(ctx, ours.url, &tasks[0])
	if err != nil {
		return err
	}
	churned, err := churn(ctx, ours.contender, n)
	var after map[*contender]*figures
	if err == nil {
		after, err = e.turns(ctx, list, 8, 1)
	}
	end(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	var rows [][]string
	for _, c := range list {
		b, a := before[c], after[c]
		rows = append(rows, []string{c.name, number(b.rate()), number(a.rate()), number(a.rate() / b.rate()), number(b.buffers()), number(a.buffers()), number(b.cpu()), number(a.cpu())})
	}
	e.report.table("Beside a writing transaction that stays open, 8 connections",
		fmt.Sprintf("The transaction has created a task of another owner; %s tasks were done before the second measurement.", grouped(churned)),
		[]string{"", "tasks/s before", "beside", "÷", "buffers a task before", "beside", "CPU µs before", "beside"}, rows)
	return e.finish(ctx, list...)
}
