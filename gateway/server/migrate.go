package server

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/migrations"
	"darkroom/sql/taskdb"
	"darkroom/workerd/riverpilot"
)

// Migrate brings the database to the present state: first Darkroom's migrations, then those of River, which keeps workerd's side
// jobs in a schema of its own. It may be repeated, and several may do it at once: one works, the others wait. The connection must be
// direct, not through a transaction pooler.
func Migrate(ctx context.Context, databaseURL string) error {
	if databaseURL == "" {
		return errNoDatabase
	}
	pool, err := taskdb.OpenPool(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	lock, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	defer func() { _ = lock.Close(context.WithoutCancel(ctx)) }() // gives up the lock
	if _, err := lock.Exec(ctx, "select pg_advisory_lock(hashtextextended('darkroom migrate', 0))"); err != nil {
		return fmt.Errorf("migrating: waiting for another migration: %w", err)
	}

	if err := migrations.Up(ctx, databaseURL, migrations.FS); err != nil {
		return err
	}
	return riverpilot.Migrate(ctx, pool)
}

// Pending names the migrations that the database lacks, Darkroom's and River's.
func Pending(ctx context.Context, pool *pgxpool.Pool) ([]string, error) {
	pending, err := migrations.Pending(ctx, pool, migrations.FS)
	if err != nil {
		return nil, err
	}
	river, err := riverpilot.Pending(ctx, pool)
	if err != nil {
		return nil, err
	}
	if river != "" {
		pending = append(pending, "River: "+river)
	}
	return pending, nil
}
