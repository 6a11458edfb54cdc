// Package taskdbtest gives each test a database of its own.
//
//	db := taskdbtest.New(t)
//	_, err := db.Pool.Exec(tb.Context(), "select ...")
//
// The database is a copy of a template to which all migrations were applied, so that it costs a test some 20 ms. It lies on the server that
// DARKROOM_TEST_URL names (a superuser's connection string), else on a temporary one that this test program starts when it first needs it and that ends
// with the program, however that ends.
package taskdbtest

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/migrations"
)

// EnvURL names the environment variable with the connection string of a server to use instead of a temporary one. Its user must be allowed to make
// databases and roles. A failing test's database is kept there.
const EnvURL = "DARKROOM_TEST_URL"

// cleanupTimeout limits what is done after a test, when its own context has ended.
const cleanupTimeout = 10 * time.Second

// DB is one test's database.
type DB struct {
	Pool *pgxpool.Pool // closed when the test ends
	URL  string        // connection string, as the superuser
}

// New makes a database with all migrations applied, which is dropped when the test ends; on a server of EnvURL it is kept when the test fails, and its
// connection string logged. Tests may run in parallel. It ends the test when there is no database to be had.
func New(tb testing.TB) *DB {
	tb.Helper()
	return newDB(tb, migratedTemplate)
}

// NewEmpty makes a database without any migration, for tests of the migrations themselves.
func NewEmpty(tb testing.TB) *DB {
	tb.Helper()
	return newDB(tb, func() (string, error) { return "template0", nil })
}

// Conn returns a connection of its own to the test's database, closed when the test ends. Use it where a session must stay the same, or be killed.
func (db *DB) Conn(tb testing.TB) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), db.URL)
	if err != nil {
		tb.Fatalf("taskdbtest: connecting: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		_ = conn.Close(ctx) // fails when it was killed
	})
	return conn
}

// Login makes a login that is a member of a role such as authenticator or worker, and returns its connection string. It is dropped when the test ends.
func (db *DB) Login(tb testing.TB, role string) string {
	tb.Helper()
	name, password := randomName(), rand.Text()
	admin, err := server()
	if err != nil {
		tb.Fatalf("taskdbtest: %v", err)
	}
	if _, err := admin.pool.Exec(tb.Context(), "create role "+name+" login password '"+password+"' in role "+pgx.Identifier{role}.Sanitize()); err != nil {
		tb.Fatalf("taskdbtest: making a login: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if _, err := admin.pool.Exec(ctx, "drop role "+name); err != nil {
			tb.Errorf("taskdbtest: dropping a login: %v", err)
		}
	})
	return migrations.Login{Name: name}.URL(db.URL, password)
}

// Kill terminates the server process of a connection, as an administrator or a crash of the client's machine would: see [pgconn.PgConn.PID]. It returns
// when the process has ended.
func (db *DB) Kill(tb testing.TB, pid uint32) {
	tb.Helper()
	var ended bool
	err := db.Pool.QueryRow(tb.Context(), "select pg_terminate_backend($1, $2)", int32(pid), cleanupTimeout.Milliseconds()).Scan(&ended) //nolint:gosec // a pid
	if err != nil || !ended {
		tb.Fatalf("taskdbtest: killing backend %d: ended %v, %v", pid, ended, err)
	}
}

func newDB(tb testing.TB, template func() (string, error)) *DB {
	tb.Helper()
	admin, err := server()
	if err != nil {
		tb.Fatalf("taskdbtest: %v", err)
	}
	source, err := template()
	if err != nil {
		tb.Fatalf("taskdbtest: %v", err)
	}
	name := randomName()
	if err := admin.clone(tb.Context(), name, source); err != nil {
		tb.Fatalf("taskdbtest: %v", err)
	}
	db := &DB{URL: withDatabase(admin.url, name)}
	tb.Cleanup(func() {
		closePool(tb, db.Pool)
		if tb.Failed() && admin.kept {
			tb.Logf("taskdbtest: the database is kept: %s", db.URL)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if _, err := admin.pool.Exec(ctx, "drop database "+name+" with (force)"); err != nil {
			tb.Errorf("taskdbtest: dropping the database: %v", err)
		}
	})
	config, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		tb.Fatalf("taskdbtest: %v", err)
	}
	config.MaxConns = maxPoolConns
	if db.Pool, err = pgxpool.NewWithConfig(tb.Context(), config); err != nil {
		tb.Fatalf("taskdbtest: %v", err)
	}
	return db
}

// closePool closes the pool, which waits for connections that a failed test may never give back.
func closePool(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	if pool == nil {
		return
	}
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(cleanupTimeout):
		tb.Error("taskdbtest: the test has not given back all connections of its pool (rows or a transaction left open?)")
	}
}
