package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/sql/taskdb"
)

const (
	pause      = 20 * time.Millisecond  // between two reads: at most this often a commit carries a NOTIFY
	secondLook = 100 * time.Millisecond // what was committing while the bell was being armed rang nobody
	poll       = time.Second            // a rollback can swallow a ring
	pollDeaf   = 200 * time.Millisecond // where LISTEN does not work
	batchSize  = 1000                   // events
	selfTest   = 2 * time.Second        // that a notification may take
	readMost   = time.Minute            // that one reading may take: a server that hangs is given up
	retryFirst = 100 * time.Millisecond // after a connection broke
	retryMost  = 2 * time.Second
)

// Batch is what Follow hands over: events, and the position after them. Reset says that what came before is another history (the database was restored
// or moved, or this reader was away for longer than events are kept): everybody is to read anew and goes on from End.
type Batch struct {
	Events []*Event
	End    Position
	Reset  bool
}

// Follow hands over all events after from, in batches of which the last may be empty, until ctx ends. It holds one connection, waits on
// LISTEN darkroom_events, and looks every second besides. When the database is away it tries again until it is back, and goes on where it was.
func (l *Log) Follow(ctx context.Context, from Position, do func(Batch)) {
	wait := retryFirst
	for ctx.Err() == nil {
		err := l.follow(ctx, &from, func(b Batch) {
			wait = retryFirst
			do(b)
		})
		if ctx.Err() != nil {
			return
		}
		l.log.WarnContext(ctx, "the event log cannot be read: trying again", "error", err, "in", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMost)
	}
}

// follow does so over one connection, until that breaks.
func (l *Log) follow(ctx context.Context, at *Position, do func(Batch)) error {
	conn, err := l.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	hears, err := l.hears(ctx, conn)
	if err != nil {
		return err
	}
	quiet := poll
	if !hears {
		quiet = pollDeaf
		l.log.WarnContext(ctx, "LISTEN does not work over this connection, as through a pooler in transaction mode: events are looked for every "+
			pollDeaf.String()+" instead of at once; a DATABASE_URL that goes to PostgreSQL itself mends it")
	}
	looked := false // once more after the bell was armed
	for {
		began := time.Now()
		found, err := l.next(ctx, conn, at, do)
		if err != nil {
			return err
		}
		wait := time.Duration(0)
		switch {
		case found:
			looked = false
		case !looked:
			wait, looked = min(secondLook, quiet), true
		default:
			wait = quiet
		}
		if wait > 0 {
			rung, err := ring(ctx, conn, wait)
			if err != nil {
				return err
			}
			looked = looked && !rung
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("following the event log: %w", ctx.Err())
		case <-time.After(pause - time.Since(began)):
		}
	}
}

// connect opens the connection that listens. Nothing is prepared on it, so that it works through a pooler.
func (l *Log) connect(ctx context.Context) (*pgx.Conn, error) {
	url, err := taskdb.WithTLS(l.url)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.ParseConfig(url) // knows the settings that are the pool's
	if err != nil {
		return nil, fmt.Errorf("the database URL cannot be read: %w", err)
	}
	config := pool.ConnConfig
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to listen: %w", err)
	}
	return conn, nil
}

// hears begins to listen and tries whether a ring arrives: through a pooler LISTEN answers without error, and nothing ever comes.
func (l *Log) hears(ctx context.Context, conn *pgx.Conn) (bool, error) {
	if _, err := conn.Exec(ctx, "listen "+taskdb.EventChannel); err != nil {
		return false, fmt.Errorf("listening: %w", err)
	}
	if _, err := l.pool.Exec(ctx, "select pg_notify($1, '')", taskdb.EventChannel); err != nil {
		return false, fmt.Errorf("trying whether notifications arrive: %w", err)
	}
	return ring(ctx, conn, selfTest)
}

// ring waits for a ring, for so long at most.
func ring(ctx context.Context, conn *pgx.Conn, most time.Duration) (bool, error) {
	waiting, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	_, err := conn.WaitForNotification(waiting)
	if err != nil && (!errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil) {
		return false, fmt.Errorf("listening: %w", err)
	}
	return err == nil, nil
}

// next reads what is new, which arms the bell first, and hands it over. A position that is of another history is replaced by the present one.
func (l *Log) next(ctx context.Context, conn *pgx.Conn, at *Position, do func(Batch)) (found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readMost)
	defer cancel()
	var events []*Event
	from := *at
	hand := func(end Position) {
		do(Batch{Events: events, End: end})
		*at, events = end, nil
	}
	until, err := l.read(ctx, conn, from, from.Upto, Scope{}, 0, func(until string, e *Event) error {
		found = true
		events = append(events, e)
		if len(events) == batchSize {
			hand(Position{Epoch: from.Epoch, Seen: from.Seen, Upto: until, After: e.ID, Floor: from.Floor})
		}
		return nil
	})
	switch {
	case errors.Is(err, ErrGone):
		now, err := l.now(ctx, conn)
		if err != nil {
			return false, err
		}
		l.log.WarnContext(ctx, "the event log begins anew: the database was restored or moved, or this gateway was away for long")
		*at = now
		do(Batch{End: now, Reset: true})
		return false, nil
	case err != nil:
		return false, err
	}
	hand(Position{Epoch: from.Epoch, Seen: until, Floor: max(from.Floor, l.floors.of(until))})
	if found && l.floors.due() {
		return found, l.mark(ctx, conn)
	}
	return found, nil
}
