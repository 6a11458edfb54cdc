package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"darkroom/sql/taskdb"
)

var errQueueEmpty = errors.New("the queue ran empty: shorten the round")

// rate is what one round gave: operations a second, and backend CPU an operation.
type rate struct {
	perSecond float64
	cpu       time.Duration
}

// throughput runs the limit and claim+complete in turns, and prints the medians of three rounds each and their ratio.
func throughput(ctx context.Context, b *bench, round time.Duration) error {
	const rounds = 3
	projects, err := b.owners(ctx, 100, manyCredit)
	if err != nil {
		return err
	}
	if err := b.queue(ctx, projects, 2000, 0); err != nil {
		return err
	}
	if _, err := b.pool.Exec(ctx, `create table bare (id integer primary key, v integer not null) with (fillfactor = 50);
		insert into bare select i, 0 from generate_series(1, 1000) i`); err != nil {
		return fmt.Errorf("limit table: %w", err)
	}

	fmt.Println("\nClaim + complete, one at a time: credits held and settled, generation and events written")
	fmt.Printf("  %-11s %9s %17s %6s %14s %14s %10s\n", "connections", "limit/s", "claim+complete/s", "ratio", "limit CPU µs", "our CPU µs", "CPU ratio")
	for _, conns := range []int{1, 8} {
		var limits, ours []rate
		for range rounds {
			limit, err := rateOf(ctx, b, conns, round, func(ctx context.Context, conn *pgx.Conn, n int) error {
				for i := range 2 {
					if _, err := conn.Exec(ctx, "update bare set v = v + 1 where id = $1", (n*7919+i*31)%1000+1); err != nil {
						return fmt.Errorf("limit: %w", err)
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			limits = append(limits, limit)
			our, err := rateOf(ctx, b, conns, round, func(ctx context.Context, conn *pgx.Conn, n int) error {
				ok, err := claimAndComplete(ctx, taskdb.New(conn), workerID(n%workers))
				if err == nil && !ok {
					err = errQueueEmpty
				}
				return err
			})
			if err != nil {
				return err
			}
			ours = append(ours, our)
		}
		limit, our := median(limits), median(ours)
		fmt.Printf("  %-11d %9.0f %17.0f %6.2f %14d %14d %10.1f\n", conns, limit.perSecond, our.perSecond, our.perSecond/limit.perSecond,
			limit.cpu.Microseconds(), our.cpu.Microseconds(), float64(our.cpu)/float64(limit.cpu))
	}
	return violations(ctx, b)
}

// rateOf runs op over conns connections until the round is over.
func rateOf(ctx context.Context, b *bench, conns int, round time.Duration, op func(ctx context.Context, conn *pgx.Conn, n int) error) (rate, error) {
	stop, cancel := context.WithTimeout(ctx, round)
	defer cancel()
	var done, cpu atomic.Int64
	group, gctx := errgroup.WithContext(ctx)
	start := time.Now()
	for c := range conns {
		group.Go(func() error {
			conn, err := pgx.Connect(gctx, b.url)
			if err != nil {
				return fmt.Errorf("connect: %w", err)
			}
			defer func() { _ = conn.Close(gctx) }()
			if err := op(gctx, conn, c); err != nil { // plans are made outside the measurement
				return err
			}
			before := cpuOf(conn.PgConn().PID())
			for n := c; stop.Err() == nil; n += conns {
				if err := op(gctx, conn, n); err != nil {
					return err
				}
				done.Add(1)
			}
			cpu.Add(int64(cpuOf(conn.PgConn().PID()) - before))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return rate{}, fmt.Errorf("round: %w", err)
	}
	n := max(done.Load(), 1)
	return rate{perSecond: float64(n) / time.Since(start).Seconds(), cpu: time.Duration(cpu.Load() / n)}, nil
}

// cpuOf is the CPU time of a process so far (proc(5), /proc/pid/stat, fields 14 and 15 in ticks of 10 ms); zero where there is no /proc.
func cpuOf(pid uint32) time.Duration {
	const tick = 10 * time.Millisecond
	data, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick
}

func median(rates []rate) rate {
	slices.SortFunc(rates, func(a, b rate) int { return int(a.perSecond - b.perSecond) })
	return rates[len(rates)/2]
}

// violations fails when the measurement has broken a rule of the database.
func violations(ctx context.Context, b *bench) error {
	list, err := b.db.InvariantViolations(ctx)
	// Bulk loading wrote no events for the tasks that were never touched, so rule 6 cannot hold here.
	list = slices.DeleteFunc(list, func(v taskdb.Violation) bool { return v.Rule == 6 })
	if err == nil && len(list) > 0 {
		return fmt.Errorf("%d invariants are violated, first: %+v", len(list), list[0])
	}
	return err
}
