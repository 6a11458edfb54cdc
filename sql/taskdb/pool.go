package taskdb

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Querier runs one statement: *pgxpool.Pool, *pgx.Conn and pgx.Tx do.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// DB calls Darkroom's SQL functions. It is safe for concurrent use if its Querier is.
type DB struct {
	q Querier
}

// New returns a DB over a pool, a connection or a transaction.
func New(q Querier) *DB { return &DB{q: q} }

// OpenPool connects to the database at url (a PostgreSQL URL or keyword string, see [WithTLS]) and checks that it answers.
func OpenPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	url, err := WithTLS(url)
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("taskdb: the database URL cannot be read: %w", err)
	}
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		// Times are UTC, whatever the zone of this machine.
		conn.TypeMap().RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("taskdb: open: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("taskdb: the database does not answer: %w", err)
	}
	return pool, nil
}

// rowsOf runs a call that returns rows of T. Columns are matched by name; a missing or an extra one is an error.
func rowsOf[T any](ctx context.Context, db *DB, call call, args ...any) ([]T, error) {
	rows, err := db.q.Query(ctx, call.sql, args...)
	if err != nil {
		return nil, asError(call.function, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	return list, asError(call.function, err)
}

// rowOf runs a call that returns exactly one row of T.
func rowOf[T any](ctx context.Context, db *DB, call call, args ...any) (T, error) {
	var none T
	rows, err := db.q.Query(ctx, call.sql, args...)
	if err != nil {
		return none, asError(call.function, err)
	}
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[T])
	return row, asError(call.function, err)
}

// valueOf runs a call that returns exactly one value.
func valueOf[T any](ctx context.Context, db *DB, call call, args ...any) (T, error) {
	var none T
	rows, err := db.q.Query(ctx, call.sql, args...)
	if err != nil {
		return none, asError(call.function, err)
	}
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	return value, asError(call.function, err)
}
