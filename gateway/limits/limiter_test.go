package limits_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/limits"
	"darkroom/sql/taskdbtest"
)

// gateway is a limiter with connections of its own, as each gateway has. It counts the statements it sends, and its database can be taken away.
type gateway struct {
	*limits.Limiter

	pool       *pgxpool.Pool
	statements atomic.Int32
	away       atomic.Bool
}

func (g *gateway) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	g.statements.Add(1)
	return ctx
}

func (g *gateway) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func newGateway(t *testing.T, url string, settings limits.Settings) *gateway {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	must(t, err)
	g := &gateway{}
	config.MaxConns, config.ConnConfig.Tracer = 3, g
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if g.away.Load() {
			return nil, errors.New("away")
		}
		return dial(ctx, network, address)
	}
	g.pool, err = pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	g.Limiter = limits.New(g.pool, settings, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		g.Close()
		g.pool.Close()
	})
	return g
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hammer asks for tokens of one bucket from everywhere at once, for that long, and returns how many it got and how long it took.
func hammer(t *testing.T, name string, rate limits.Rate, lasts time.Duration, gateways ...*gateway) (admitted, refused int, took time.Duration) {
	t.Helper()
	const callers = 48 // of each gateway: more than may wait
	var yes, no atomic.Int32
	var group sync.WaitGroup
	began := time.Now()
	for _, g := range gateways {
		for range callers {
			group.Go(func() {
				for time.Since(began) < lasts {
					if wait, ok := g.Take(t.Context(), name, rate); ok {
						yes.Add(1)
					} else {
						no.Add(1)
						time.Sleep(min(wait, 5*time.Millisecond))
					}
				}
			})
		}
	}
	group.Wait()
	return int(yes.Load()), int(no.Load()), time.Since(began)
}

// S24. Two gateways over one database admit together what one may, and no more, also where each has used up what it had in hand; and the database is
// asked for a small part of the requests only.
func TestS24TwoGatewaysTogetherAdmitNoMoreThanTheRate(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.New(t)
	login := pg.Login(t, "authenticator")
	a, b := newGateway(t, login, limits.Settings{}), newGateway(t, login, limits.Settings{})
	rate := limits.Rate{PerSecond: 200, Burst: 100}
	admitted, refused, took := hammer(t, "full at first", rate, 3*time.Second, a, b)
	most := rate.PerSecond*took.Seconds() + float64(rate.Burst)
	t.Logf("admitted %d of at most %.0f in %s, refused %d, with %d statements", admitted, most, took, refused, a.statements.Load()+b.statements.Load())
	if float64(admitted) > most {
		t.Errorf("admitted %d in %s; at most %.0f were allowed", admitted, took, most)
	}
	if float64(admitted) < most/2 || refused == 0 {
		t.Errorf("admitted %d, refused %d; %.0f were allowed", admitted, refused, most)
	}
	if statements := a.statements.Load() + b.statements.Load(); int(statements) > admitted/2 {
		t.Errorf("%d statements for %d requests", statements, admitted)
	}

	// Any other stretch of time has besides what was in hand as it began: of each gateway a batch, and what is left of the one before.
	again, _, took := hammer(t, "full at first", rate, time.Second, a, b)
	slack := 2 * (rate.Batch() + rate.Batch()/4)
	if most := rate.PerSecond*took.Seconds() + float64(slack); float64(again) > most {
		t.Errorf("an empty bucket admitted %d in %s; at most %.0f were allowed", again, took, most)
	}
}

// A steady caller within the limit pays for the first request only: batches are fetched before they are needed.
func TestARequestNormallyWaitsForNoStatement(t *testing.T) {
	t.Parallel()
	g := newGateway(t, taskdbtest.New(t).Login(t, "authenticator"), limits.Settings{})
	rate := limits.Rate{PerSecond: 1000, Burst: 800}
	for range 500 {
		if _, ok := g.Take(t.Context(), "steady", rate); !ok {
			t.Fatal("refused within the limit")
		}
	}
	// 100 at a time
	if got := g.statements.Load(); got > 8 {
		t.Errorf("%d statements for 500 requests", got)
	}
}

// Who goes a little too fast, one request after the other, is slowed down and not refused.
func TestASingleCallerIsSlowedDownNotRefused(t *testing.T) {
	t.Parallel()
	g := newGateway(t, taskdbtest.New(t).Login(t, "authenticator"), limits.Settings{})
	rate := limits.Rate{PerSecond: 50, Burst: 5}
	began := time.Now()
	const requests = 55
	for i := range requests {
		if wait, ok := g.Take(t.Context(), "eager", rate); !ok {
			t.Fatalf("request %d was refused, for %s", i, wait)
		}
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("%d requests at 50/s, 5 at once, took %s", requests, took)
	}
}

// Without its database a gateway goes on, limits for itself, and shares again when the database is back.
func TestWithoutTheDatabaseEachGatewayLimitsForItself(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.New(t)
	g := newGateway(t, pg.Login(t, "authenticator"), limits.Settings{})
	rate := limits.Rate{PerSecond: 40, Burst: 40}
	if _, ok := g.Take(t.Context(), "x", rate); !ok {
		t.Fatal("refused at first")
	}
	g.away.Store(true)
	g.pool.Reset()
	admitted, refused, took := hammer(t, "x", rate, time.Second, g)
	most := rate.PerSecond*took.Seconds() + float64(rate.Burst)
	if float64(admitted) > most || float64(admitted) < most/2 || refused == 0 {
		t.Errorf("without a database %d were admitted in %s, %d refused; %.0f were allowed", admitted, took, refused, most)
	}

	g.away.Store(false)
	before := g.statements.Load()
	for deadline := time.Now().Add(20 * time.Second); g.statements.Load() == before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the database is back and not asked")
		}
		g.Take(t.Context(), "y", limits.Rate{PerSecond: 1000, Burst: 1000})
	}
}

// A database that takes connections and says nothing costs one request that long, and the others nothing.
func TestADatabaseThatHangsIsNotWaitedForAgainAndAgain(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	g := newGateway(t, fmt.Sprintf("postgres://x@%s/x", listener.Addr()), limits.Settings{})
	began := time.Now()
	for i := range 100 {
		if _, ok := g.Take(t.Context(), strconv.Itoa(i), limits.Rate{PerSecond: 1, Burst: 1}); !ok {
			t.Errorf("caller %d was refused", i)
		}
	}
	if took := time.Since(began); took > limits.DrawTimeout+time.Second {
		t.Errorf("100 callers took %s", took)
	}
}

func TestTheBucketsOfAGatewayAreBounded(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "postgres://x@127.0.0.1:1/x", limits.Settings{})
	g.away.Store(true)
	for i := range limits.MaxBuckets + 5000 {
		g.Take(t.Context(), strconv.Itoa(i), limits.Rate{PerSecond: 1, Burst: 1})
	}
	if got := g.Known(); got > limits.MaxBuckets {
		t.Errorf("%d buckets are remembered", got)
	}
	g.Forget(time.Now().Add(-time.Minute))
	if got := g.Known(); got < limits.MaxBuckets/2 {
		t.Errorf("%d of the buckets of a moment ago are left", got)
	}
	g.Forget(time.Now())
	if got := g.Known(); got != 0 {
		t.Errorf("%d idle buckets are left", got)
	}
}

// The table keeps the buckets that are not full, and those only.
func TestFullBucketsLeaveTheTable(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.New(t)
	g := newGateway(t, pg.Login(t, "authenticator"), limits.Settings{})
	slow, fast := limits.Rate{PerSecond: 0.01, Burst: 5}, limits.Rate{PerSecond: 1000, Burst: 1}
	g.Take(t.Context(), "slow", slow)
	g.Take(t.Context(), "fast", fast)
	rows := func() (n int) {
		must(t, pg.Pool.QueryRow(t.Context(), "select count(*)::integer from darkroom.rate_buckets").Scan(&n))
		return n
	}
	if rows() != 2 {
		t.Fatalf("%d rows, want 2", rows())
	}
	for deadline := time.Now().Add(20 * time.Second); rows() == 2; time.Sleep(5 * time.Millisecond) {
		must(t, g.Purge(t.Context()))
		if time.Now().After(deadline) {
			t.Fatal("the full bucket stays")
		}
	}
	must(t, g.Purge(t.Context()))
	if rows() != 1 {
		t.Errorf("%d rows are left, want the one that is not full", rows())
	}

	// A clock that was set back: the bucket is empty, and fills as fast as ever.
	_, err := pg.Pool.Exec(t.Context(), "update darkroom.rate_buckets set full_at = now() + interval '1 year'")
	must(t, err)
	var granted int
	var busy float64
	must(t, pg.Pool.QueryRow(t.Context(), "select granted, busy from auth.take_tokens((select bucket from darkroom.rate_buckets), 0.01, 5, 1)").Scan(&granted, &busy))
	if granted != 0 || busy != 500 {
		t.Errorf("granted %d, full in %v s; want 0 and 500", granted, busy)
	}
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"50/200": "50/200", "0.5/1": "0.5/1", "off": "off", "1000000/1000000": "1e+06/1000000",
		"": "", "50": "", "50/": "", "/5": "", "0/5": "", "-1/5": "", "5/0": "", "NaN/5": "", "Inf/5": "", "1e7/5": "", "50/200/3": "", "5/2.5": "",
	} {
		rate, err := limits.ParseRate(text)
		if got := rate.String(); (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%q is %s, %v; want %q", text, got, err, want)
		}
	}
}
