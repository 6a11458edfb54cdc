package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"darkroom/sql/taskdb"
)

// The situations that hurt queues.

// notify measures the work with a listener that arms the bell again 20 ms after each ring, and without; and the limit with a NOTIFY in each commit.
func notify(ctx context.Context, e *env) error {
	limit, err := e.newLimit(ctx, "limit", false)
	if err != nil {
		return err
	}
	each, err := e.newLimit(ctx, "limit, NOTIFY in each commit", true)
	if err != nil {
		return err
	}
	off, err := e.newDarkroom(ctx, "darkroom, nobody listens", 100, false)
	if err != nil {
		return err
	}
	on, err := e.newDarkroom(ctx, "darkroom, a listener", 100, false)
	if err != nil {
		return err
	}
	work := on.work
	rings := 0
	on.work = func(ctx context.Context, conns, batch int) (session, error) {
		s, err := work(ctx, conns, batch)
		if err != nil {
			return nil, err
		}
		listening, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			ended <- taskdb.Listen(listening, on.url, func(context.Context) error {
				rings++
				return nil
			})
		}()
		return &beside{s, func() error {
			cancel()
			return <-ended
		}}, nil
	}
	// Somebody has to listen, or a NOTIFY costs little.
	listener, err := listen(ctx, each.url)
	if err != nil {
		return err
	}
	defer listener()

	list := []*contender{limit, each, off.contender, on.contender}
	for _, conns := range []int{8, 32} {
		got, err := e.turns(ctx, list, conns, 1)
		if err != nil {
			return err
		}
		e.report.table("NOTIFY, "+connections(conns), fmt.Sprintf("The listener looked %d times so far.", rings), rateHead, rateRows(list, got, limit))
		if conns == 32 {
			e.report.target("notify/rate", got[on.contender].rate()/got[off.contender].rate(), "")
		}
	}
	return e.finish(ctx, list...)
}

// beside is a session with something beside it, which ends with it.
type beside struct {
	session

	end func() error
}

func (b *beside) stop(ctx context.Context) (int64, error) {
	n, err := b.session.stop(ctx)
	if endErr := b.end(); err == nil {
		err = endErr
	}
	return n, err
}

// listen listens on the channel bench until it is told to end.
func listen(ctx context.Context, url string) (end func(), err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if _, err := conn.Exec(ctx, "listen bench"); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	listening, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for listening.Err() == nil {
			_, _ = conn.WaitForNotification(listening)
		}
		_ = conn.Close(context.WithoutCancel(ctx))
	}()
	return func() {
		cancel()
		<-ended
	}, nil
}

// hot compares 8 claimers on the tasks of one owner with 8 on those of a hundred.
func hot(ctx context.Context, e *env) error {
	limit, err := e.newLimit(ctx, "limit", false)
	if err != nil {
		return err
	}
	many, err := e.newDarkroom(ctx, "darkroom, 100 owners", 100, false)
	if err != nil {
		return err
	}
	single, err := e.newDarkroom(ctx, "darkroom, one owner", 1, false)
	if err != nil {
		return err
	}
	list := []*contender{limit, many.contender, single.contender}
	for _, batch := range []int{1, 10} {
		for _, c := range list[1:] { // all at once, so that there is one owner only
			if err := c.ensure(ctx, e.opts.round.Seconds()*1.25*float64(e.opts.rounds), batch); err != nil {
				return err
			}
		}
		got, err := e.turns(ctx, list, 8, batch)
		if err != nil {
			return err
		}
		e.report.table(fmt.Sprintf("One hot owner, 8 connections, batches of %d", batch), perTask, rateHead, rateRows(list, got, limit))
		if batch == 1 {
			e.report.target("hot/rate", got[single.contender].rate()/got[many.contender].rate(), "")
		}
	}
	return e.finish(ctx, list...)
}

// broke measures claims in front of and behind the older tasks of an owner without credits.
func broke(ctx context.Context, e *env) error {
	ours, err := e.newDarkroom(ctx, "darkroom", 100, false)
	if err != nil {
		return err
	}
	naive, err := e.newNaive(ctx, "naive query that checks credits", true)
	if err != nil {
		return err
	}
	list := []*contender{ours.contender, naive}
	n := e.opts.rows(100_000)
	var rows [][]string
	var plot chart
	measureAll := func(label string) (buffers float64, err error) {
		claims, err := ours.claims(ctx, e.opts.rows(200), false)
		if err != nil {
			return 0, err
		}
		got, err := e.turns(ctx, list, 8, 1)
		if err != nil {
			return 0, err
		}
		g := group{label: label}
		for _, c := range list {
			row := []string{c.name, label, number(got[c].rate()), got[c].spread(), number(got[c].buffers()), number(got[c].cpu()), "–", "–"}
			if c == ours.contender {
				row[6], row[7] = number(percentile(claims.buffers, 50)), number(percentile(claims.buffers, 99))
			}
			rows = append(rows, row)
			g.bars = append(g.bars, rateBar(c, got[c]))
		}
		plot.groups = append(plot.groups, g)
		return percentile(claims.buffers, 50), nil
	}
	for _, c := range list {
		if err := c.ensure(ctx, e.opts.round.Seconds()*1.25*float64(e.opts.rounds), 1); err != nil {
			return err
		}
	}
	before, err := measureAll("no broke owner")
	if err != nil {
		return err
	}
	if err := ours.load(ctx, load{owners: 1, perOwner: n, age: 7200, analyze: true}); err != nil {
		return err
	}
	ours.filled += int64(n)
	if err := execOn(ctx, naive.url, statement{"insert into owners values (0, 0)", nil},
		statement{"insert into jobs (owner_id, params, created_at) select 0, $2::jsonb, clock_timestamp() - interval '3 hours' from generate_series(1, $1::integer)", []any{n, payload}},
		statement{"vacuum analyze jobs", nil}); err != nil {
		return err
	}
	naive.filled += int64(n)
	after, err := measureAll(fmt.Sprintf("behind %s of a broke owner", grouped(int64(n))))
	if err != nil {
		return err
	}
	e.report.table("Behind a broke owner, 8 connections", "Claim: of claim_next_task alone, by EXPLAIN BUFFERS. The other queues know no credits.",
		[]string{"", "", "tasks/s", "lowest to highest", "buffers a task", "CPU µs a task", "buffers a claim", "p99"}, rows)
	plot.name, plot.title, plot.unit = "broke", "Behind a broke owner's older tasks", "tasks a second, 8 connections"
	plot.together = true
	e.report.plot(plot)
	e.report.target("broke/buffers", after/before, "")
	return e.finish(ctx, list...)
}

func execOn(ctx context.Context, url string, statements ...statement) error {
	pool, err := openPool(ctx, url, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	return execAll(ctx, pool, statements...)
}

// pin opens a transaction whose snapshot pins every dead row, as a pg_dump does; or, with write, one that has written a task.
func pin(ctx context.Context, url string, write *taskdb.NewTask) (end func(context.Context), err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("pin: %w", err)
	}
	begin := "begin isolation level repeatable read; select count(*) from pg_class"
	if write != nil {
		begin = "begin"
	}
	if _, err := conn.Exec(ctx, begin); err != nil {
		return nil, fmt.Errorf("pin: %w", err)
	}
	if write != nil {
		if _, err := taskdb.New(conn).CreateTask(ctx, *write); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) {
		_, _ = conn.Exec(ctx, "rollback")
		_ = conn.Close(ctx)
	}, nil
}

// churnLimit is how long one contender may take to churn.
const churnLimit = 60 * time.Second

// churn takes n tasks through claim and completion in large batches, and returns how many it got through in churnLimit.
func churn(ctx context.Context, c *contender, n int) (int64, error) {
	s, err := c.work(ctx, 4, min(500, max(n/20, 10)))
	if err != nil {
		return 0, err
	}
	var done int64
	for began := time.Now(); done < int64(n) && time.Since(began) < churnLimit && err == nil; {
		if err = pause(ctx, 10*time.Millisecond); err == nil {
			done, err = s.count(ctx)
		}
	}
	total, stopErr := s.stop(context.WithoutCancel(ctx))
	c.done += total
	if err == nil {
		err = stopErr
	}
	if err != nil {
		return 0, fmt.Errorf("churning %s: %w", c.name, err)
	}
	return total, nil
}
