package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sample is what one round gave: the difference of two snapshots taken while the session ran.
type sample struct {
	rows       float64
	seconds    float64
	cpu        time.Duration // of all client backends of the database
	buffers    float64       // 8 kB pages looked at, in shared buffers or not
	statements float64       // sent by clients, without BEGIN and COMMIT
	wal        float64       // bytes, page images and commit records included
}

func (s sample) perSecond() float64 { return s.rows / s.seconds }

// snapshot is the state of the counters.
type snapshot struct {
	at                  time.Time
	rows                int64
	cpu                 map[int]time.Duration
	buffers, statements float64
	wal                 int64
}

// snap reads the counters of a contender's database. Nothing else may write to the server meanwhile: the WAL is everybody's.
func (e *env) snap(ctx context.Context, c *contender, s session) (snapshot, error) {
	var now snapshot
	var pids []int
	if e.statements {
		err := e.admin.QueryRow(ctx, `select coalesce(sum(s.calls), 0), coalesce(sum(s.shared_blks_hit + s.shared_blks_read), 0)
			from pg_stat_statements(false) s join pg_database d on d.oid = s.dbid where d.datname = $1`, c.database).Scan(&now.statements, &now.buffers)
		if err != nil {
			return now, fmt.Errorf("pg_stat_statements: %w", err)
		}
	}
	err := e.admin.QueryRow(ctx, `select pg_current_wal_insert_lsn() - '0/0'::pg_lsn,
		array(select pid from pg_stat_activity where datname = $1 and backend_type = 'client backend')`, c.database).Scan(&now.wal, &pids)
	if err != nil {
		return now, fmt.Errorf("counters: %w", err)
	}
	now.cpu = make(map[int]time.Duration, len(pids))
	for _, pid := range pids {
		now.cpu[pid] = cpuOf(pid)
	}
	now.rows, err = s.count(ctx)
	now.at = time.Now()
	return now, err
}

// observe lets a session warm up, and measures it for a round.
func (e *env) observe(ctx context.Context, c *contender, s session, round time.Duration) (sample, error) {
	if err := pause(ctx, round/4+min(round, 100*time.Millisecond)); err != nil {
		return sample{}, err
	}
	awaitWarm(ctx, s, 7*round)
	awaitRows(ctx, s)
	before, err := e.snap(ctx, c, s)
	if err != nil {
		return sample{}, err
	}
	if err := pause(ctx, round); err != nil {
		return sample{}, err
	}
	awaitRows(ctx, s)
	after, err := e.snap(ctx, c, s)
	if err != nil {
		return sample{}, err
	}
	out := sample{
		rows: float64(after.rows - before.rows), seconds: after.at.Sub(before.at).Seconds(),
		buffers: after.buffers - before.buffers, statements: after.statements - before.statements, wal: float64(after.wal - before.wal),
	}
	for pid, cpu := range after.cpu {
		out.cpu += cpu - before.cpu[pid]
	}
	return out, nil
}

// awaitWarm waits until all connections of a session of ours are warm, that long at most.
func awaitWarm(ctx context.Context, s session, limit time.Duration) {
	spinner := spinnerOf(s)
	for began := time.Now(); spinner != nil && spinner.cold.Load() > 0 && time.Since(began) < limit; {
		if pause(ctx, 10*time.Millisecond) != nil {
			return
		}
	}
}

// awaitRows waits until a session of ours finishes the next operation, so that a round begins and ends with one: large batches are seconds apart.
func awaitRows(ctx context.Context, s session) {
	spinner := spinnerOf(s)
	if spinner == nil {
		return
	}
	for rows, began := spinner.rows.Load(), time.Now(); spinner.rows.Load() == rows && time.Since(began) < 5*time.Second; {
		if pause(ctx, 100*time.Microsecond) != nil {
			return
		}
	}
}

// spinnerOf is the session's spinner; nil when it is not ours.
func spinnerOf(s session) *spinner {
	switch s := s.(type) {
	case *spinner:
		return s
	case *beside:
		return spinnerOf(s.session)
	}
	return nil
}

// round measures a contender once, at claiming and completing. Where the queue was too short, because the contender got much faster, again with more.
func (e *env) round(ctx context.Context, c *contender, conns, batch int) (sample, error) {
	for tries, seconds := 1, e.opts.round.Seconds()*1.25; ; tries, seconds = tries+1, 2*seconds {
		if err := c.ensure(ctx, seconds, batch); err != nil {
			return sample{}, err
		}
		got, err := e.hold(ctx, c, &c.done, func() (session, error) { return c.work(ctx, conns, batch) })
		if err == nil && c.fill != nil && c.filled+c.created == c.done {
			err = fmt.Errorf("%s: %w", c.name, errQueueEmpty)
		}
		if !errors.Is(err, errQueueEmpty) || tries == 4 {
			return got, err
		}
	}
}

// hold starts a session, measures it, stops it, and adds up what it did.
func (e *env) hold(ctx context.Context, c *contender, total *int64, start func() (session, error)) (sample, error) {
	s, err := start()
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", c.name, err)
	}
	got, err := e.observe(ctx, c, s, e.opts.round)
	n, stopErr := s.stop(context.WithoutCancel(ctx))
	*total += n
	if err == nil {
		err = stopErr
	}
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", c.name, err)
	}
	c.rate = got.perSecond()
	return got, nil
}

// turns measures contenders at claiming and completing, in turns.
func (e *env) turns(ctx context.Context, contenders []*contender, conns, batch int) (map[*contender]*figures, error) {
	all, err := e.alternate(contenders, func(c *contender) (sample, error) { return e.round(ctx, c, conns, batch) })
	for _, c := range contenders {
		c.rate = 0 // the next batch size has another
	}
	return all, err
}

// alternate measures the contenders one after the other, then from the last to the first, and so on: a drift of the machine meets all alike, and so does what
// one leaves to be cleared up (vacuum) while the next is measured.
func (e *env) alternate(contenders []*contender, measure func(*contender) (sample, error)) (map[*contender]*figures, error) {
	all := map[*contender]*figures{}
	order := slices.Clone(contenders)
	for range e.opts.rounds {
		for _, c := range order {
			got, err := measure(c)
			if err != nil {
				return nil, err
			}
			if all[c] == nil {
				all[c] = &figures{}
			}
			all[c].samples = append(all[c].samples, got)
		}
		slices.Reverse(order)
	}
	return all, nil
}

// figures are the samples of one contender in one setting.
type figures struct{ samples []sample }

func (f *figures) of(figure func(sample) float64) float64 { return median(each(f.samples, figure)) }

func (f *figures) rate() float64 { return f.of(sample.perSecond) }
func (f *figures) buffers() float64 {
	return f.of(func(s sample) float64 { return s.buffers / s.rows })
}

func (f *figures) wal() float64 { return f.of(func(s sample) float64 { return s.wal / s.rows }) }

func (f *figures) statements() float64 {
	return f.of(func(s sample) float64 { return s.statements / s.rows })
}

// cpu is backend time a row, in microseconds.
func (f *figures) cpu() float64 {
	return f.of(func(s sample) float64 { return float64(s.cpu.Nanoseconds()) / 1000 / s.rows })
}

func (f *figures) lowest() float64  { return percentile(each(f.samples, sample.perSecond), 0) }
func (f *figures) highest() float64 { return percentile(each(f.samples, sample.perSecond), 100) }

// spread is the lowest and highest rate, for the tables.
func (f *figures) spread() string {
	return fmt.Sprintf("%s to %s", number(f.lowest()), number(f.highest()))
}

// cpuOf is the time that a process has spent on a CPU (/proc/pid/schedstat, in ns), of one that has a single thread; zero where the system does not tell.
func cpuOf(pid int) time.Duration {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/schedstat")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(data), " ")
	nanoseconds, _ := strconv.ParseInt(first, 10, 64)
	return time.Duration(nanoseconds)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("stopped: %w", ctx.Err())
	case <-time.After(d):
		return nil
	}
}
