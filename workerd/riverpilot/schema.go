package riverpilot

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Migrate makes or updates River's tables and lets the role worker use them. Darkroom's migrations, which make that role, come first.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := newMigrator(pool)
	if err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, "create schema if not exists "+Schema); err != nil {
		return fmt.Errorf("river: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("river: %w", err)
	}
	_, err = pool.Exec(ctx, "grant usage on schema "+Schema+" to worker; grant all on all tables in schema "+Schema+" to worker; "+
		"grant usage, select on all sequences in schema "+Schema+" to worker; "+
		"grant usage on schema "+Schema+" to authenticator; grant select on "+Schema+".river_migration to authenticator")
	if err != nil {
		return fmt.Errorf("river: %w", err)
	}
	return nil
}

// Pending says in words which of River's migrations the database lacks; "" when none.
func Pending(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	migrator, err := newMigrator(pool)
	if err != nil {
		return "", err
	}
	result, err := migrator.Validate(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("river: %w", err)
	}
	return strings.Join(result.Messages, ", "), nil
}

func newMigrator(pool *pgxpool.Pool) (*rivermigrate.Migrator[pgx.Tx], error) {
	config := &rivermigrate.Config{Schema: Schema, Logger: slog.New(slog.DiscardHandler)}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), config)
	if err != nil {
		return nil, fmt.Errorf("river: %w", err)
	}
	return migrator, nil
}
