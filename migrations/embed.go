// Package migrations brings a database to the present state: the numbered goose files of this folder, embedded.
//
// Tables and triggers are written by hand here. Functions and views are written in sql/ and frozen into a file of this folder by
// `make migration name=...` (see the command snapshot). A released file never changes; checksums.txt holds it to that.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"darkroom/sql/taskdb"
)

// FS holds Darkroom's migrations.
//
//go:embed *.sql
var FS embed.FS

// lockTimeout bounds how long a migration waits for a table: while it waits, everybody who comes later waits behind it. It fails then, and is tried again.
const lockTimeout = "10s"

// Up applies to the database at url (a direct connection, not one through a transaction pooler) those of the files that it lacks, each in
// a transaction of its own. Several may do so at once: one works, the others wait for it, a second at a time and 5 minutes at most.
//
// When a statement fails, the error tells the file, line, column and text of the line, and the files before it stay applied.
func Up(ctx context.Context, url string, files fs.FS) error {
	return withProvider(url, files, func(provider *goose.Provider) error {
		_, err := provider.Up(ctx)
		return err //nolint:wrapcheck // wrapped in withProvider
	})
}

// UpTo is [Up] that stops after the file with this number.
func UpTo(ctx context.Context, url string, files fs.FS, version int64) error {
	return withProvider(url, files, func(provider *goose.Provider) error {
		_, err := provider.UpTo(ctx, version)
		return err //nolint:wrapcheck // wrapped in withProvider
	})
}

// DownTo takes back, newest first, the files with higher numbers than version; 0 leaves nothing. It deletes data: it is meant for tests.
func DownTo(ctx context.Context, url string, files fs.FS, version int64) error {
	return withProvider(url, files, func(provider *goose.Provider) error {
		_, err := provider.DownTo(ctx, version)
		return err //nolint:wrapcheck // wrapped in withProvider
	})
}

// Pending returns the names of the files that the database lacks, oldest first. It only reads, and needs the right to read
// public.goose_db_version where that exists.
func Pending(ctx context.Context, db Querier, files fs.FS) ([]string, error) {
	var exists bool
	if err := db.QueryRow(ctx, "select to_regclass('public.goose_db_version') is not null").Scan(&exists); err != nil {
		return nil, fmt.Errorf("pending migrations: %w", err)
	}
	applied := map[int64]bool{}
	if exists {
		rows, err := db.Query(ctx, "select version_id from public.goose_db_version where is_applied")
		if err != nil {
			return nil, fmt.Errorf("pending migrations: %w", err)
		}
		versions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return nil, fmt.Errorf("pending migrations: %w", err)
		}
		for _, version := range versions {
			applied[version] = true
		}
	}
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("pending migrations: %w", err)
	}
	var pending []string
	for _, name := range names { // sorted
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, fmt.Errorf("pending migrations: %s: %w", name, err)
		}
		if !applied[version] {
			pending = append(pending, name)
		}
	}
	return pending, nil
}

// Querier is a connection, pool or transaction of pgx.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func withProvider(url string, files fs.FS, do func(*goose.Provider) error) error {
	url, err := taskdb.WithTLS(url)
	if err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("migrating: the connection string: %w", err)
	}
	config.RuntimeParams["lock_timeout"] = lockTimeout
	failed := &failedStatement{}
	config.Tracer = failed
	db := stdlib.OpenDB(*config)
	defer db.Close()
	provider, err := newProvider(db, files)
	if err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	err = do(provider)
	if err == nil {
		return nil
	}
	var partial *goose.PartialError
	var failure *pgconn.PgError
	if errors.As(err, &partial) && errors.As(err, &failure) {
		name := path.Base(partial.Failed.Source.Path)
		if text, readErr := fs.ReadFile(files, name); readErr == nil {
			return fmt.Errorf("migrating %s: %s: %w", partial.Failed.Direction, Locate(name, string(text), failed.sql, failure), failure)
		}
	}
	return fmt.Errorf("migrating database %s: %w", config.Database, err)
}

func newProvider(db *sql.DB, files fs.FS) (*goose.Provider, error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, fmt.Errorf("the migration lock: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("reading the migrations: %w", err)
	}
	return provider, nil
}
