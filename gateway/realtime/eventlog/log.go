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
	var last int64
	rows, err := db.Query(ctx, "select epoch, upto::text, last_id from auth.open_event_log()")
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&p.Epoch, &p.Seen, &last}, func() error { return nil })
	}
	if err != nil {
		return Position{}, fmt.Errorf("opening the event log: %w", err)
	}
	p.Floor = l.floors.note(p.Seen, last)
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
	_, _, err = l.read(ctx, l.pool, from, target, scope, most, func(_ string, e *Event) error {
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

// read hands over the events after from that the snapshot upto shows, or what is committed now where it is "". It returns that snapshot and a number
// that all later transactions' events exceed.
func (l *Log) read(ctx context.Context, db querier, from Position, upto string, scope Scope, most int, each func(until string, e *Event) error) (until string, last int64, err error) {
	rows, err := db.Query(ctx, `select id, created_at, owner_id, project_id, table_name, kind, row_id, record, old_record, visible_upto::text
		from auth.read_events($1, $2::text::pg_snapshot, nullif($3::text, '')::pg_snapshot, $4, $5, $6, $7, nullif($8, 0))`,
		from.Epoch, from.Seen, upto, from.After, from.Floor, idOrNull(scope.Owner), idOrNull(scope.Project), most)
	if err != nil {
		return "", 0, asError(err)
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
			until, last = *snapshot, id
			return nil
		}
		e := &Event{ID: id, At: *at, Owner: *owner, Table: *table, Kind: Kind(*kind), Row: *row, Record: clone(record), Old: clone(old)}
		if project != nil {
			e.Project = *project
		}
		return each(until, e)
	})
	return until, last, asError(err)
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

// floors remembers what numbers were given when, so that a search for unseen events need not begin at the first: a transaction that had not begun at
// some moment gives its events greater numbers than were given by then.
type floors struct {
	mu    sync.Mutex
	marks []mark
}

type mark struct {
	high  uint64 // transactions from here on had not begun
	last  int64  // the last number given then
	taken time.Time
}

// markEvery bounds how many marks a transaction that stays open for long makes us keep.
const markEvery = time.Second

// note remembers a snapshot and the last number that was given before it, and returns a number that all events exceed that the snapshot does not show.
func (f *floors) note(snapshot string, last int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	low, high := bounds(snapshot)
	if n := len(f.marks); n == 0 || time.Since(f.marks[n-1].taken) > markEvery {
		f.marks = append(f.marks, mark{high, last, time.Now()})
	}
	for len(f.marks) > 1 && f.marks[1].high <= low {
		f.marks = f.marks[1:]
	}
	if f.marks[0].high <= low {
		return f.marks[0].last
	}
	return 0
}
