package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// acquireTimeout is how long a request waits for a connection.
	acquireTimeout = 5 * time.Second
	// rollbackTimeout is for the end of a transaction that failed, also when its caller has gone.
	rollbackTimeout = 2 * time.Second
)

// ErrBusy says that all connections of the pool were in use for too long.
var ErrBusy = errors.New("no connection to the database became free in time")

// Row is one row of a result, each value as PostgreSQL writes it; nil is NULL.
type Row [][]byte

// Statement is one SQL statement. Its parameters are texts, nil for NULL; PostgreSQL finds their types from where they stand.
type Statement struct {
	SQL    string
	Params [][]byte
}

// Work is one transaction, all of which is known before it begins.
type Work struct {
	Access     pgx.TxAccessMode
	Locals     map[string]string // further settings of this transaction, such as request.method
	Statements []Statement
	// Check, if not nil, sees the results before the commit and can prevent it. It costs a second round trip.
	Check func(results [][]Row) error
	// Rollback undoes everything, after all deferred constraints were checked.
	Rollback bool
}

// Run does the work as the caller in one round trip, and returns the rows of each statement once it is committed. It leaves no prepared statement
// behind, whatever the pool's mode, so that it works behind a transaction pooler. Errors are a [*pgconn.PgError], ErrBusy, Check's own, or of the
// connection; a commit can fail, too.
func (d *DB) Run(ctx context.Context, who Identity, work Work) ([][]Row, error) {
	begin := d.begin(who, work)
	acquire, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	pooled, err := d.pool.Acquire(acquire)
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("getting a connection: %w", err)
	}
	defer pooled.Release()
	conn := pooled.Conn().PgConn()
	results, err := pipeline(ctx, conn, begin, work)
	if conn.TxStatus() != 'I' && !conn.IsClosed() {
		// A connection that cannot roll back is closed by the pool.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = conn.Exec(undo, "rollback").Close()
	}
	return results, err
}

// begin is the statement after BEGIN: it makes the transaction the caller's.
func (d *DB) begin(who Identity, work Work) Statement {
	limit, known := d.limits[who.Role]
	if !known {
		panic("identity: a request that nobody was asked about: " + who.Role)
	}
	claims := []byte(who.Claims)
	if claims == nil {
		claims = []byte("{}")
	}
	sql := strings.Builder{}
	sql.WriteString(`select set_config('role', $1, true), set_config('request.jwt.claims', $2, true), set_config('statement_timeout', $3, true),
		set_config('lock_timeout', $4, true), set_config('idle_in_transaction_session_timeout', $5, true)`)
	params := [][]byte{[]byte(who.Role), claims, []byte(limit.statement), []byte(limit.lock), []byte(limit.idle)}
	for name, value := range work.Locals {
		params = append(params, []byte(name), []byte(value))
		fmt.Fprintf(&sql, ", set_config($%d, $%d, true)", len(params)-1, len(params))
	}
	return Statement{SQL: sql.String(), Params: params}
}

func pipeline(ctx context.Context, conn *pgconn.PgConn, begin Statement, work Work) (results [][]Row, err error) {
	p := conn.StartPipeline(ctx)
	defer func() {
		if closing := p.Close(); err == nil && closing != nil {
			results, err = nil, fmt.Errorf("ending a request: %w", closing)
		}
	}()
	send := func(sql string, params [][]byte) { p.SendQueryParams(sql, params, nil, nil, nil) }
	end := func() int {
		if !work.Rollback {
			send("commit", nil)
			return 1
		}
		send("set constraints all immediate", nil)
		send("rollback", nil)
		return 2
	}
	if work.Access == pgx.ReadOnly {
		send("begin read only", nil)
	} else {
		send("begin", nil)
	}
	send(begin.SQL, begin.Params)
	for _, s := range work.Statements {
		send(s.SQL, s.Params)
	}
	ending := 0
	if work.Check == nil {
		ending = end()
	}
	if err := p.Sync(); err != nil {
		return nil, fmt.Errorf("sending a request: %w", err)
	}
	if _, err := read(p, 2); err != nil {
		return nil, fmt.Errorf("becoming %s: %w", begin.Params[0], err)
	}
	if results, err = read(p, len(work.Statements)); err != nil {
		return nil, err
	}
	if work.Check != nil {
		if err := work.Check(results); err != nil {
			return nil, err
		}
		if _, err := p.GetResults(); err != nil { // of the first Sync
			return nil, fmt.Errorf("waiting for the results: %w", err)
		}
		ending = end()
		if err := p.Sync(); err != nil {
			return nil, fmt.Errorf("sending the end: %w", err)
		}
	}
	if _, err := read(p, ending); err != nil {
		return nil, err
	}
	return results, nil
}

// read takes the results of the next n statements.
func read(p *pgconn.Pipeline, n int) ([][]Row, error) {
	results := make([][]Row, 0, n)
	for range n {
		next, err := p.GetResults()
		if err != nil {
			return nil, err //nolint:wrapcheck // a *pgconn.PgError is for the caller as it is
		}
		reader, ok := next.(*pgconn.ResultReader)
		if !ok {
			return nil, fmt.Errorf("the database answered with %T", next)
		}
		result := reader.Read()
		if result.Err != nil {
			return nil, result.Err
		}
		rows := make([]Row, len(result.Rows))
		for i, values := range result.Rows {
			rows[i] = values
		}
		results = append(results, rows)
	}
	return results, nil
}
