package main

import (
	"context"
	"fmt"
	"slices"
)

// scenario is one part of the measurement. Those that are asked for run only by name.
type scenario struct {
	name, about string
	measure     func(ctx context.Context, e *env) error
	asked       bool
}

var scenarios = []scenario{
	{name: "one", about: "claim and complete one at a time", measure: one},
	{name: "batch", about: "claim and complete in batches of 100", measure: batches},
	{name: "create", about: "create one by one and in bulk", measure: create},
	{name: "notify", about: "a listener that arms the bell every 20 ms", measure: notify},
	{name: "latency", about: "from creation to the start of the work on an idle system", measure: latency},
	{name: "hot", about: "one owner has all the tasks", measure: hot},
	{name: "broke", about: "behind an owner who cannot pay", measure: broke},
	{name: "pinned", about: "under a transaction that pins dead rows", measure: pinned},
	{name: "longwrite", about: "beside a writing transaction that stays open", measure: longWrite},
	{name: "travel", about: "a travel tree of 100 segments", measure: travel},
	{name: "wal", about: "what a task writes, after a checkpoint and later", measure: wal},
	// The last, because what it leaves to the disk goes on for minutes.
	{name: "depth", about: "with 1k to 5M tasks queued and 5M finished", measure: depth},
	{name: "profile", about: "the statements inside our functions, by time", measure: profile, asked: true},
}

var peerNames = []string{"river", "graphile-worker", "pg-boss", "naive"}

// peers opens the others that are wanted.
func (e *env) peers(ctx context.Context) ([]*contender, error) {
	var list []*contender
	for _, name := range e.opts.peers {
		var c *contender
		var err error
		switch {
		case name == "river":
			c, err = e.newRiver(ctx)
		case name == "naive":
			c, err = e.newNaive(ctx, "naive query", false)
		case nodePeers[name].does == "":
			return nil, fmt.Errorf("there is no peer %q", name)
		case e.node == nil:
			continue
		default:
			c, err = e.newNodePeer(ctx, name)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// all opens the limit, ours with and without outcome, each for the tasks of so many owners, and the peers.
func (e *env) all(ctx context.Context, owners int) (limit, full, noop *contender, list []*contender, err error) {
	if limit, err = e.newLimit(ctx, "limit", false); err != nil {
		return nil, nil, nil, nil, err
	}
	ours, err := e.newDarkroom(ctx, "darkroom", owners, false)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	cheap, err := e.newDarkroom(ctx, "darkroom, no-op", owners, true)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	others, err := e.peers(ctx)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	full, noop = ours.contender, cheap.contender
	return limit, full, noop, append([]*contender{limit, full, noop}, others...), nil
}

var rateHead = []string{"", "tasks/s", "lowest to highest", "÷ limit", "CPU µs a task", "÷ limit", "buffers", "statements", "WAL B"}

// rateRows is a table of the contenders, beside the limit.
func rateRows(list []*contender, got map[*contender]*figures, limit *contender) [][]string {
	var rows [][]string
	for _, c := range list {
		f, l := got[c], got[limit]
		rows = append(rows, []string{
			c.name, number(f.rate()), f.spread(), number(f.rate() / l.rate()), number(f.cpu()), number(f.cpu() / l.cpu()),
			number(f.buffers()), number(f.statements()), number(f.wal()),
		})
	}
	return rows
}

const perTask = "Medians of the rounds. CPU: of the backends, a task. Buffers: 8 kB pages looked at, a task. Statements: of clients and of triggers at commit, without BEGIN and COMMIT. WAL: with commit records."

// legend says what each contender does, once.
func (r *report) legend(list []*contender) {
	rows := make([][]string, 0, len(list))
	for _, c := range list {
		rows = append(rows, []string{c.name, c.does})
	}
	r.table("Who does what", "", []string{"", "a task"}, rows)
}

func one(ctx context.Context, e *env) error {
	limit, full, _, list, err := e.all(ctx, 100)
	if err != nil {
		return err
	}
	e.report.legend(list)
	plot := chart{name: "one", title: "Claim + complete, one at a time", unit: "tasks a second, median and spread of the rounds"}
	for _, conns := range []int{1, 8} {
		got, err := e.turns(ctx, list, conns, 1)
		if err != nil {
			return err
		}
		e.report.table("Claim + complete, one at a time, "+connections(conns), perTask, rateHead, rateRows(list, got, limit))
		g := group{label: connections(conns)}
		for _, c := range list {
			g.bars = append(g.bars, rateBar(c, got[c]))
		}
		plot.groups = append(plot.groups, g)
		if conns == 8 {
			e.report.target("one/limit", got[full].rate()/got[limit].rate(), "")
			e.report.target("one/cpu", got[full].cpu()/got[limit].cpu(), "")
			if i := slices.IndexFunc(list, func(c *contender) bool { return c.name == "river" }); i >= 0 {
				e.report.target("one/river", got[full].rate()/got[list[i]].rate(), "")
			}
		}
	}
	e.report.plot(plot)
	return e.finish(ctx, list...)
}

func connections(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", n)
}

func batches(ctx context.Context, e *env) error {
	limit, full, noop, list, err := e.all(ctx, 10_000)
	if err != nil {
		return err
	}
	// Their tasks alternate, so that each batch is of all of them, and the batches wait for each other.
	few, err := e.newDarkroom(ctx, "darkroom, 100 owners", 100, false)
	if err != nil {
		return err
	}
	list = slices.Insert(list, 3, few.contender)
	plot := chart{name: "batch", title: "Claim + complete in batches, 8 connections", unit: "tasks a second, median and spread of the rounds"}
	const batch = 100
	got, err := e.turns(ctx, list, 8, batch)
	if err != nil {
		return err
	}
	e.report.table(fmt.Sprintf("Claim + complete in batches of %d, 8 connections", batch),
		"Ours over 10,000 owners; with 100 each batch meets all others. The limit: two commits that update as many rows. graphile-worker: a local queue of that size, completions batched. "+perTask, rateHead, rateRows(list, got, limit))
	g := group{label: fmt.Sprintf("batches of %d", batch)}
	for _, c := range list[1:] { // the limit of 100 rows a commit would dwarf all
		g.bars = append(g.bars, rateBar(c, got[c]))
	}
	plot.groups = append(plot.groups, g)
	e.report.target("batch/noop", got[noop].rate(), "8 connections, 10,000 owners")
	e.report.target("batch/full", got[full].rate(), "8 connections, 10,000 owners; "+number(got[few.contender].rate())+" with 100")
	e.report.plot(plot)
	return e.finish(ctx, list...)
}

func create(ctx context.Context, e *env) error {
	limit, err := e.newInsert(ctx)
	if err != nil {
		return err
	}
	ours, err := e.newDarkroom(ctx, "darkroom", 100, false)
	if err != nil {
		return err
	}
	if err := ours.creating(ctx); err != nil {
		return err
	}
	others, err := e.peers(ctx)
	if err != nil {
		return err
	}
	list := append([]*contender{limit, ours.contender}, slices.DeleteFunc(others, func(c *contender) bool {
		if c.create == nil {
			c.close()
		}
		return c.create == nil
	})...)
	plot := chart{name: "create", title: "Create", unit: "tasks a second, median and spread of the rounds"}
	for _, setting := range []struct{ conns, batch int }{{1, 1}, {8, 1}, {2, 1000}} {
		got, err := e.alternate(list, func(c *contender) (sample, error) {
			return e.hold(ctx, c, &c.created, func() (session, error) { return c.create(ctx, setting.conns, setting.batch) })
		})
		if err != nil {
			return err
		}
		label := "one by one, " + connections(setting.conns)
		if setting.batch > 1 {
			label = fmt.Sprintf("%s at once, %s", grouped(int64(setting.batch)), connections(setting.conns))
		}
		e.report.table("Create "+label, "The limit: INSERT of as many rows with the same payload into a table with one index. "+perTask, rateHead, rateRows(list, got, limit))
		g := group{label: label}
		for _, c := range list {
			g.bars = append(g.bars, rateBar(c, got[c]))
		}
		plot.groups = append(plot.groups, g)
		if setting.batch == 1000 {
			e.report.target("create/bulk", got[ours.contender].rate()/got[limit].rate(), "1,000 at once, 2 connections")
		}
	}
	e.report.plot(plot)
	return e.finish(ctx, list...)
}
