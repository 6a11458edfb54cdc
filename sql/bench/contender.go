package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

var errQueueEmpty = errors.New("the queue ran empty: shorten the round")

// contender is one system under measurement, in a database of its own.
type contender struct {
	name     string
	does     string // what one operation does, for the label
	database string
	url      string

	// work starts to claim and complete over that many connections, in batches of that many.
	work func(ctx context.Context, conns, batch int) (session, error)
	// create starts to create tasks; nil: it is not measured.
	create func(ctx context.Context, conns, batch int) (session, error)
	// fill puts n more tasks into the queue, as fast as it can; nil: there is no queue.
	fill func(ctx context.Context, n int) error
	// left counts the rows that are not finished.
	left func(ctx context.Context) (int64, error)
	// check fails when the work has broken a rule of the database; nil: there are no rules that could be asked.
	check func(ctx context.Context) error
	close func()

	filled, done, created int64
	rate                  float64 // rows a second in the last round, to know how much the next one needs
}

// session is work that goes on until it is stopped.
type session interface {
	count(ctx context.Context) (int64, error) // rows so far
	stop(ctx context.Context) (int64, error)  // rows in all, when all that was begun has ended
}

// ensure sees to it that a round of that many seconds, and what it takes to warm up, finds enough in the queue.
func (c *contender) ensure(ctx context.Context, seconds float64, batch int) error {
	if c.fill == nil {
		return nil
	}
	rate := c.rate * 1.5
	if rate == 0 {
		rate = map[int]float64{1: 4000, 10: 15_000}[batch]
		if rate == 0 {
			rate = 40_000
		}
	}
	need := int64(rate*(seconds+0.2)) + int64(1000+8*warmOperations*batch)
	if left := c.filled + c.created - c.done; left < need {
		return c.add(ctx, int(need-left))
	}
	return nil
}

func (c *contender) add(ctx context.Context, n int) error {
	if err := c.fill(ctx, n); err != nil {
		return fmt.Errorf("filling %s: %w", c.name, err)
	}
	c.filled += int64(n)
	return nil
}

// verify counts the rows in the database: what was filled in and not done must be left.
func (c *contender) verify(ctx context.Context) error {
	if c.left != nil {
		left, err := c.left(ctx)
		if err != nil {
			return fmt.Errorf("counting what %s has left: %w", c.name, err)
		}
		if want := c.filled + c.created - c.done; left != want {
			return fmt.Errorf("%s says that it did %d of %d rows, and %d are left", c.name, c.done, c.filled+c.created, left)
		}
	}
	if c.check == nil {
		return nil
	}
	return c.check(ctx)
}

// spinner is a session of goroutines, one for each connection.
type spinner struct {
	rows   atomic.Int64
	cold   atomic.Int64 // connections that are not warm yet
	stopIt context.CancelFunc
	group  sync.WaitGroup
	mu     sync.Mutex
	err    error
	after  func()
}

// spin runs op on each of the connections until the session is stopped; op says how many rows it did. Beside, if it is not nil, runs as long on a
// connection of its own.
func spin(ctx context.Context, url string, conns int, op func(ctx context.Context, pool *pgxpool.Pool, conn int) (int, error),
	beside func(ctx context.Context, pool *pgxpool.Pool),
) (session, error) {
	stop, cancel := context.WithCancel(ctx)
	s := &spinner{stopIt: cancel}
	s.cold.Store(int64(conns))
	var pools []*pgxpool.Pool
	s.after = func() {
		for _, pool := range pools {
			pool.Close()
		}
	}
	open := func() (*pgxpool.Pool, error) {
		pool, err := openPool(ctx, url, 1)
		if err == nil {
			pools = append(pools, pool)
		}
		return pool, err
	}
	for range conns {
		if _, err := open(); err != nil {
			cancel()
			s.after()
			return nil, err
		}
	}
	for i, pool := range pools {
		s.group.Go(func() { s.loop(ctx, stop, func() (int, error) { return op(ctx, pool, i) }) })
	}
	if beside != nil {
		pool, err := open()
		if err != nil {
			_, _ = s.stop(ctx)
			return nil, err
		}
		s.group.Go(func() { beside(stop, pool) })
	}
	return s, nil
}

// What makes a connection warm: the server then knows the tables, has compiled the functions, and plans statements no more (it makes five plans before it
// keeps one; what is not part of each task comes later).
const (
	warmOperations = 7
	warmRows       = 20
)

// loop runs op until stop ends. A queue that gives nothing for a second is empty.
func (s *spinner) loop(ctx, stop context.Context, op func() (int, error)) {
	last := time.Now()
	done, rows, warm := 0, 0, false
	for stop.Err() == nil && ctx.Err() == nil {
		n, err := op()
		if err == nil && n == 0 && time.Since(last) > time.Second {
			err = errQueueEmpty
		}
		if err != nil {
			s.mu.Lock()
			s.err = errors.Join(s.err, err)
			s.mu.Unlock()
			s.stopIt()
			return
		}
		if n > 0 {
			last = time.Now()
			s.rows.Add(int64(n))
			done, rows = done+1, rows+n
			if !warm && done >= warmOperations && rows >= warmRows {
				warm = true
				s.cold.Add(-1)
			}
		}
	}
}

func (s *spinner) count(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows.Load(), s.err
}

func (s *spinner) stop(ctx context.Context) (int64, error) {
	s.stopIt()
	s.group.Wait()
	s.after()
	return s.count(ctx)
}

func openPool(ctx context.Context, url string, conns int32) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	config.MaxConns = conns
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open: %w", err)
	}
	return pool, nil
}
