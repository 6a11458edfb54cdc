package taskdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// EventChannel is the NOTIFY channel that is rung, without content, when the event log grows and a listener armed the bell.
const EventChannel = "darkroom_events"

const (
	rearmPause = 20 * time.Millisecond // at most this often a commit carries a NOTIFY
	slowPoll   = 2 * time.Second       // a rollback can swallow a ring
)

// Listen calls news whenever the event log may have grown: at once, after each ring, and every 2 s besides. It holds one
// connection of its own (not through a transaction pooler, where LISTEN is silently dead) and returns when ctx ends (nil), when the
// connection breaks, or with what news returns.
func Listen(ctx context.Context, url string, news func(context.Context) error) error {
	url, err := WithTLS(url)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("taskdb: listen: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "listen "+EventChannel); err != nil {
		return fmt.Errorf("taskdb: listen: %w", err)
	}

	db := New(conn)
	for {
		err := armAndRead(ctx, conn, db, news)
		switch {
		case ctx.Err() != nil:
			return nil // the caller asked for it
		case err != nil:
			return err
		}
	}
}

// armAndRead arms the bell, lets news look, and waits for a ring or the slow poll.
func armAndRead(ctx context.Context, conn *pgx.Conn, db *DB, news func(context.Context) error) error {
	if err := db.ArmEventBell(ctx); err != nil {
		return err
	}
	if err := news(ctx); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, slowPoll)
	defer cancel()
	if _, err := conn.WaitForNotification(wait); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("taskdb: listen: %w", err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(rearmPause):
	}
	return nil
}
