package identity_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/identity"
	"darkroom/sql/taskdbtest"
)

// oneConnection is a DB over a pool with a single connection of the gateway's login, so that what one transaction leaves the next one sees.
func oneConnection(t *testing.T, pg *taskdbtest.DB) (*identity.DB, *pgxpool.Pool) {
	t.Helper()
	config, err := pgxpool.ParseConfig(pg.Login(t, "authenticator"))
	must(t, err)
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	db, err := identity.New(t.Context(), pool)
	must(t, err)
	return db, pool
}

func stated(sql string, params ...string) identity.Work {
	s := identity.Statement{SQL: sql}
	for _, p := range params {
		s.Params = append(s.Params, []byte(p))
	}
	return identity.Work{Statements: []identity.Statement{s}}
}

var (
	service = identity.Identity{Role: identity.Service, Claims: []byte(`{"role":"service_role"}`)}
	anon    = identity.Identity{Role: identity.Anon}
)

// S7: who called, and all settings of the transaction, are gone after it, however it ended.
func TestS07_RunLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.New(t)
	db, pool := oneConnection(t, pg)
	_, err := pg.Pool.Exec(t.Context(), `create table t (id integer primary key deferrable initially deferred); grant all on t to service_role; insert into t values (1)`)
	must(t, err)
	var pid uint32
	must(t, pool.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid))
	seen := stated("select current_user, current_setting('request.jwt.claims'), current_setting('request.method'), current_setting('statement_timeout')")
	seen.Locals = map[string]string{"request.method": "GET"}
	readOnly := stated("insert into t values (2)")
	readOnly.Access = pgx.ReadOnly
	refused := errors.New("refused")
	checked, undone, undoneLate := stated("insert into t values (2)"), stated("insert into t values (2)"), stated("insert into t values (1)")
	checked.Check = func([][]identity.Row) error { return refused }
	undone.Rollback, undoneLate.Rollback = true, true
	for name, c := range map[string]struct {
		work identity.Work
		code string
		err  error
	}{
		"seen":              {work: seen},
		"an error":          {work: stated("select 1/0"), code: "22012"},
		"syntax":            {work: stated("sel"), code: "42601"},
		"of a parameter":    {work: stated("select $1::integer", "x"), code: "22P02"},
		"at the commit":     {work: stated("insert into t values (1)"), code: "23505"},
		"read only":         {work: readOnly, code: "25006"},
		"checked":           {work: checked, err: refused},
		"undone":            {work: undone},
		"undone, and wrong": {work: undoneLate, code: "23505"},
		"two statements":    {work: identity.Work{Statements: append(stated("insert into t values (3)").Statements, stated("select 1/0").Statements...)}, code: "22012"},
	} {
		results, err := db.Run(t.Context(), service, c.work)
		pgErr, _ := errors.AsType[*pgconn.PgError](err)
		switch {
		case c.code != "" && (pgErr == nil || pgErr.Code != c.code), c.err != nil && !errors.Is(err, c.err), c.code == "" && c.err == nil && err != nil:
			t.Errorf("%s: %v", name, err)
		case name == "seen":
			if got := fmt.Sprintf("%s", results[0][0]); got != `[service_role {"role":"service_role"} GET 12s]` {
				t.Errorf("%s", got)
			}
		}
		var user, claims, method, timeout string
		var now uint32
		var prepared, rows int
		must(t, pool.QueryRow(t.Context(), `select pg_backend_pid(), current_user, coalesce(current_setting('request.jwt.claims', true), ''), coalesce(current_setting('request.method', true), ''),
			current_setting('statement_timeout'), (select count(*) from pg_prepared_statements where name not like 'stmtcache%')`).Scan(&now, &user, &claims, &method, &timeout, &prepared))
		must(t, pg.Pool.QueryRow(t.Context(), "select count(*) from t").Scan(&rows))
		if user == "service_role" || claims != "" || method != "" || timeout != "0" || prepared != 0 || rows != 1 || now != pid {
			t.Errorf("after %s: %s %q %q %s, %d prepared, %d rows, connection %d, was %d", name, user, claims, method, timeout, prepared, rows, now, pid)
		}
	}
}

func TestRunCommits(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.New(t)
	db, _ := oneConnection(t, pg)
	_, err := pg.Pool.Exec(t.Context(), "create table t (id integer); grant all on t to service_role")
	must(t, err)
	for i := range 2 {
		work := stated("insert into t values ($1) returning id, null", fmt.Sprint(i))
		var seen [][]identity.Row
		if i == 1 {
			work.Check = func(results [][]identity.Row) error {
				seen = results
				return nil
			}
		}
		results, err := db.Run(t.Context(), service, work)
		if err != nil || string(results[0][0][0]) != fmt.Sprint(i) || results[0][0][1] != nil || i == 1 && len(seen) != 1 {
			t.Errorf("%v %v %v", results, seen, err)
		}
	}
	var rows int
	must(t, pg.Pool.QueryRow(t.Context(), "select count(*) from t").Scan(&rows))
	if rows != 2 {
		t.Errorf("%d rows, want 2", rows)
	}
}

// A statement that takes too long is ended by its role's limit or by its caller's, and the next caller is served.
func TestRunEndsInTime(t *testing.T) {
	t.Parallel()
	db, pool := oneConnection(t, taskdbtest.New(t))
	_, err := db.Run(t.Context(), anon, stated("select set_config('statement_timeout', '50ms', true), pg_sleep(0)"))
	must(t, err)
	brief, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := db.Run(brief, anon, stated("select pg_sleep(10)")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := db.Run(t.Context(), anon, stated("select 1")); err != nil {
		t.Errorf("afterwards: %v", err)
	}

	// All connections in use.
	conn, err := pool.Acquire(t.Context())
	must(t, err)
	defer conn.Release()
	if _, err := db.Run(t.Context(), anon, stated("select 1")); !errors.Is(err, identity.ErrBusy) {
		t.Errorf("%v", err)
	}
}

// Many callers at once get their own answers.
func TestRunKeepsCallersApart(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), taskdbtest.New(t).Login(t, "authenticator"))
	must(t, err)
	t.Cleanup(pool.Close)
	db, err := identity.New(t.Context(), pool)
	must(t, err)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for range 20 {
				want := fmt.Sprintf(`{"n": %d}`, i)
				work := stated("select current_setting('request.jwt.claims'), $1::integer / $2::integer", "1", fmt.Sprint(i%2))
				results, err := db.Run(t.Context(), identity.Identity{Role: identity.Anon, Claims: []byte(want)}, work)
				if i%2 == 0 {
					if _, refused := errors.AsType[*pgconn.PgError](err); !refused {
						t.Errorf("%v", err)
					}
				} else if err != nil || string(results[0][0][0]) != want {
					t.Errorf("%v %v", results, err)
				}
			}
		})
	}
	all.Wait()
}
