// Package eventlog reads Darkroom's log of changes, in an order in which each row's changes follow each other as they were committed.
//
// [Log.Follow] hands over every event as it comes; [Log.Missed] reads what somebody has missed since a [Position]. Both lose nothing and repeat
// nothing: see sql/auth/read_events.sql for how a place in a log is kept whose transactions commit out of order.
package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/sql/taskdb"
)

// ErrGone says that a position cannot be gone on from: the events after it are no longer kept, or it is of another database. Whoever was there reads
// anew what it shows.
var ErrGone = errors.New("events since that position cannot be read any more")

// Log reads the event log of one database. It is safe for concurrent use, but for [Log.Follow], which one caller runs.
type Log struct {
	pool *pgxpool.Pool
	url  string
	log  *slog.Logger

	floors floors
}

// New returns a Log over the gateway's pool, and the URL of the same database for a connection that listens.
func New(pool *pgxpool.Pool, url string, log *slog.Logger) *Log {
	return &Log{pool: pool, url: url, log: log}
}

// Now is the position at which everything committed so far has been seen.
func (l *Log) Now(ctx context.Context) (Position, error) { return l.now(ctx, l.pool) }

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (l *Log) now(ctx context.Context, db querier) (Position, error) {
	var p Position
	rows, err := db.Query(ctx, "select epoch, upto::text from auth.open_event_log()")
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&p.Epoch, &p.Seen}, func() error { return nil })
	}
	if err != nil {
		return Position{}, fmt.Errorf("opening the event log: %w", err)
	}
	p.Floor = l.floors.of(p.Seen)
	return p, nil
}

// Scope says whose events are wanted.
type Scope struct {
	Owner   uuid.UUID // uuid.Nil: everybody's
	Project uuid.UUID // of the owner's; uuid.Nil: all
}

// Missed reads up to most events that come after from, as far as upto, which is [Log.Now] or the position of a [Batch]. It returns the position after
// them; done says that it is upto, and no more is to come. The error is [ErrGone], or the database's.
func (l *Log) Missed(ctx context.Context, from, upto Position, scope Scope, most int) (events []*Event, next Position, done bool, err error) {
	if from.Epoch != upto.Epoch {
		return nil, Position{}, false, ErrGone
	}
	target, last := upto.Seen, int64(math.MaxInt64)
	switch {
	case older(upto.Seen, from.Seen) && upto.Upto == "":
		return nil, upto, true, nil
	case older(upto.Seen, from.Seen): // the half that upto has seen
		if from.Upto == "" || !older(upto.Upto, from.Upto) {
			from.After = 0
		}
		target, last = upto.Upto, upto.After
	case from.Upto != "" && older(from.Upto, upto.Seen): // the half that from has not seen
		target = from.Upto
	}
	next = from
	n := 0
	_, err = l.read(ctx, l.pool, from, target, scope, most, func(_ string, e *Event) error {
		if n++; e.ID <= last {
			events = append(events, e)
			next = Position{Epoch: from.Epoch, Seen: from.Seen, Upto: target, After: e.ID, Floor: from.Floor}
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, Position{}, false, err
	case n == most && len(events) == n: // there may be more
		return events, next, false, nil
	case last != math.MaxInt64 || target == upto.Seen && upto.Upto == "":
		return events, upto, true, nil
	}
	return events, Position{Epoch: from.Epoch, Seen: target, Floor: from.Floor}, false, nil
}

// Probe asks whether all events after from, as far as upto, can still be read: else the error is [ErrGone].
func (l *Log) Probe(ctx context.Context, from, upto Position) error {
	_, _, _, err := l.Missed(ctx, from, upto, Scope{Owner: uuid.New()}, 1) //nolint:dogsled // nobody's events: only whether it can be
	return err
}

// read hands over the events after from that the snapshot upto shows, or what is committed now where it is "". It returns that snapshot.
func (l *Log) read(ctx context.Context, db querier, from Position, upto string, scope Scope, most int, each func(until string, e *Event) error) (until string, err error) {
	rows, err := db.Query(ctx, `select id, created_at, owner_id, project_id, table_name, kind, row_id, record, old_record, visible_upto::text
		from auth.read_events($1, $2::text::pg_snapshot, nullif($3::text, '')::pg_snapshot, $4, $5, $6, $7, nullif($8, 0))`,
		from.Epoch, from.Seen, upto, from.After, from.Floor, idOrNull(scope.Owner), idOrNull(scope.Project), most)
	if err != nil {
		return "", asError(err)
	}
	var (
		id             int64
		at             *time.Time
		owner, project *uuid.UUID
		table, kind    *string
		row, snapshot  *string
		record, old    []byte
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &at, &owner, &project, &table, &kind, &row, &record, &old, &snapshot}, func() error {
		if snapshot != nil {
			until = *snapshot
			return nil
		}
		e := &Event{ID: id, At: *at, Owner: *owner, Table: *table, Kind: Kind(*kind), Row: *row, Record: clone(record), Old: clone(old)}
		if project != nil {
			e.Project = *project
		}
		return each(until, e)
	})
	return until, asError(err)
}

func clone(data []byte) []byte {
	if data == nil {
		return nil
	}
	return append(make([]byte, 0, len(data)), data...)
}

func idOrNull(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

func asError(err error) error {
	if err == nil {
		return nil
	}
	if refusal := (*pgconn.PgError)(nil); errors.As(err, &refusal) && refusal.Code == taskdb.ErrEventsGone.Code {
		return fmt.Errorf("%w: %s", ErrGone, refusal.Detail)
	}
	return fmt.Errorf("reading the event log: %w", err)
}

// floors remembers what numbers were given when, so that a search for unseen events need not begin at the first: see sql/auth/event_floor.sql.
type floors struct {
	mu    sync.Mutex
	marks []mark
}

type mark struct {
	xid   uint64 // events of transactions from here on
	last  int64  // have numbers above this
	taken time.Time
}

// markEvery is how often a mark is set while events come.
const markEvery = time.Second

// due tells whether it is time for another mark.
func (f *floors) due() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.marks)
	return n == 0 || time.Since(f.marks[n-1].taken) > markEvery
}

func (f *floors) add(xid uint64, last int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.marks = append(f.marks, mark{xid, last, time.Now()})
}

// of returns a number that all events exceed that the snapshot does not show. Marks below its are forgotten.
func (f *floors) of(snapshot string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	low, _ := bounds(snapshot)
	for len(f.marks) > 1 && f.marks[1].xid <= low {
		f.marks = f.marks[1:]
	}
	if len(f.marks) > 0 && f.marks[0].xid <= low {
		return f.marks[0].last
	}
	return 0
}

// mark sets a mark.
func (l *Log) mark(ctx context.Context, db querier) error {
	var last int64
	var xid uint64
	rows, err := db.Query(ctx, "select last_id, xid::text::bigint from auth.event_floor()")
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&last, &xid}, func() error { return nil })
	}
	if err != nil {
		return fmt.Errorf("asking for the event log's floor: %w", err)
	}
	l.floors.add(xid, last)
	return nil
}
