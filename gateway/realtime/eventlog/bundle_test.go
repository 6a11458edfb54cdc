package eventlog_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"darkroom/gateway/realtime/eventlog"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

const awhile = 20 * time.Second

// bundle is a database with a user's project.
type bundle struct {
	t       *testing.T
	pg      *taskdbtest.DB
	events  *eventlog.Log
	log     *logged
	owner   uuid.UUID
	project uuid.UUID
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, pg: taskdbtest.New(t), owner: uuid.New(), log: &logged{}}
	db := taskdb.New(b.pg.Pool)
	_, err := db.CreateUser(t.Context(), b.owner, "")
	b.must(err)
	project, err := db.CreateProject(t.Context(), b.owner, "test")
	b.must(err)
	b.project = project.ID
	b.events = b.open(b.pg.URL)
	return b
}

func (b *bundle) open(url string) *eventlog.Log {
	pool, err := taskdb.OpenPool(b.t.Context(), url)
	b.must(err)
	b.t.Cleanup(pool.Close)
	return eventlog.New(pool, url, slog.New(slog.NewTextHandler(b.log, nil)))
}

func (b *bundle) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) now() eventlog.Position {
	b.t.Helper()
	at, err := b.events.Now(b.t.Context())
	b.must(err)
	return at
}

// begin begins a transaction on a connection of its own.
func (b *bundle) begin() pgx.Tx {
	b.t.Helper()
	tx, err := b.pg.Conn(b.t).Begin(b.t.Context())
	b.must(err)
	return tx
}

type execer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// shot makes an event whose row has a name.
func (b *bundle) shot(on execer, name string) {
	b.t.Helper()
	rows, err := on.Query(b.t.Context(), "insert into shots (project_id, name) values ($1, $2)", b.project, name)
	b.must(err)
	rows.Close()
	b.must(rows.Err())
}

// follower collects what Follow hands over.
type follower struct {
	t    *testing.T
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	batches []eventlog.Batch
	resets  int
	more    chan struct{}
}

func (b *bundle) follow(log *eventlog.Log, from eventlog.Position) *follower {
	ctx, stop := context.WithCancel(b.t.Context())
	f := &follower{t: b.t, stop: stop, done: make(chan struct{}), more: make(chan struct{}, 1)}
	go func() {
		defer close(f.done)
		log.Follow(ctx, from, func(batch eventlog.Batch) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.batches = append(f.batches, batch)
			if batch.Reset {
				f.resets++
			}
			select {
			case f.more <- struct{}{}:
			default:
			}
		})
	}()
	b.t.Cleanup(func() {
		stop()
		<-f.done
	})
	return f
}

// until waits until what came so far is enough, and returns it.
func (f *follower) until(what string, enough func(events []*eventlog.Event, resets int) bool) []*eventlog.Event {
	f.t.Helper()
	end := time.After(awhile)
	for {
		f.mu.Lock()
		var events []*eventlog.Event
		for _, batch := range f.batches {
			events = append(events, batch.Events...)
		}
		resets := f.resets
		f.mu.Unlock()
		if enough(events, resets) {
			return events
		}
		select {
		case <-f.more:
		case <-end:
			f.t.Fatalf("%s: not in %s; got %q", what, awhile, names(events))
		}
	}
}

func (f *follower) name(name string) []string {
	f.t.Helper()
	return names(f.until(name, func(events []*eventlog.Event, _ int) bool { return slices.Contains(names(events), name) }))
}

// names are the names of the shots that events are of.
func names(events []*eventlog.Event) []string {
	list := make([]string, len(events))
	for i, e := range events {
		_, rest, _ := strings.Cut(string(e.Record), `"name": "`)
		list[i], _, _ = strings.Cut(rest, `"`)
	}
	return list
}

type logged struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.data.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.data.String()
}
