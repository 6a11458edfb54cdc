// Package worker runs claimed tasks: it fetches their inputs, has an engine do the work, stores what it made and completes them. It registers the
// worker, sends its heartbeats and does its part of the upkeep.
package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/storage"
	"darkroom/migrations"
	"darkroom/sql/taskdb"
	"darkroom/workerd/engine"
	"darkroom/workerd/fetch"
	"darkroom/workerd/keeper"
	"darkroom/workerd/outcome"
	"darkroom/workerd/riverpilot"
)

const (
	orchestrator = "travel_orchestrator"
	capability   = "wan2gp" // what the travel types ask for

	callTimeout = 30 * time.Second // of one call of the database
	stopTimeout = 20 * time.Second // after the drain
)

// ErrNow is the cause of a context given to [Worker.Run] that asks for a stop without a drain: running tasks are given back at once.
var ErrNow = errors.New("stop now")

// Config says how a worker works. All fields are needed.
type Config struct {
	Pool     *pgxpool.Pool
	Bucket   *storage.Bucket
	Engines  []engine.Engine // each task type belongs to one of them
	WorkerID string          // of no other process: a worker that registers gives back what its id held

	PublicURL   string        // base of the addresses of outputs, see [storage.URL]
	TempDir     string        // where tasks have their work folders
	Slots       int           // tasks at the same time
	Lease       time.Duration // how long the worker may be silent before its tasks are given to others
	Poll        time.Duration // between two looks for tasks when nobody calls
	Drain       time.Duration // how long a stop waits for running tasks
	TaskTimeout time.Duration // the longest that fetching and the engine may take
	Upkeep      keeper.Intervals
	Log         *slog.Logger
}

// Worker is one worker.
type Worker struct {
	Config
	db      *taskdb.DB
	fetcher *fetch.Fetcher
	engines map[string]engine.Engine // by task type
	folder  string

	stopping <-chan struct{}

	mu      sync.Mutex
	running map[uuid.UUID]*job
	down    map[string]bool // names of engines that are not healthy
	heard   atomic.Int64    // time of the last heartbeat that was answered, in Unix nanoseconds
	checks  sync.WaitGroup
}

// New makes a worker; nothing happens before Run.
func New(c Config) *Worker {
	w := &Worker{
		Config: c, db: taskdb.New(c.Pool), fetcher: fetch.New(c.Bucket, c.PublicURL), engines: map[string]engine.Engine{},
		running: map[uuid.UUID]*job{}, down: map[string]bool{},
	}
	for _, e := range c.Engines {
		for _, taskType := range e.Info().TaskTypes {
			w.engines[taskType] = e
		}
	}
	// An id may hold anything, and what a killed worker of this id left is deleted.
	digest := sha256.Sum256([]byte(c.WorkerID))
	w.folder = filepath.Join(c.TempDir, "darkroom-"+hex.EncodeToString(digest[:8]))
	return w
}

// Run registers the worker and works until ctx ends. Then it claims no more, waits up to Drain for running tasks (not when the cause is [ErrNow]),
// and gives back the rest. While the database does not answer it goes on trying.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.checkSchema(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(w.folder); err != nil {
		return fmt.Errorf("clearing the work folder: %w", err)
	}
	if err := os.MkdirAll(w.folder, 0o700); err != nil {
		return fmt.Errorf("making the work folder: %w", err)
	}
	defer os.RemoveAll(w.folder)
	if err := w.register(ctx); err != nil {
		return err
	}

	w.stopping = ctx.Done()
	loop := keeper.NewLoop(w.db, w.Log)
	workers, periodic := keeper.Jobs(w.db, w.Log, w.Upkeep)
	client, err := riverpilot.New(w.Pool, riverpilot.Config{
		WorkerID: w.WorkerID, Slots: w.Slots, PollInterval: w.Poll, Drain: max(w.Drain, time.Nanosecond),
		Work: outcome.Writer(w.db, w.Log, w.handle), Ready: w.ready, Claimed: loop.Claimed,
		Workers: workers, Periodic: periodic, Log: slog.New(quiet{w.Log.Handler()}),
	})
	if err != nil {
		return err
	}

	// Tasks are named in heartbeats until the last has ended.
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	defer func() {
		end()
		group.Wait()
		w.checks.Wait()
	}()
	group.Go(func() { w.beat(background) })
	group.Go(func() { loop.Run(background) })
	if err := client.Start(background); err != nil {
		return fmt.Errorf("starting River: %w", err)
	}
	w.Log.InfoContext(ctx, "ready", "slots", w.Slots, "task_types", w.taskTypes(), "lease", w.Lease.String())

	<-ctx.Done()
	limit, cancel := context.WithTimeout(background, w.Drain+stopTimeout)
	defer cancel()
	if errors.Is(context.Cause(ctx), ErrNow) {
		w.Log.InfoContext(background, "stopping at once")
		err = client.StopAndCancel(limit)
	} else {
		w.Log.InfoContext(background, "stopping", "drain", w.Drain.String(), "running", len(w.report()))
		err = client.Stop(limit)
	}
	if err != nil {
		return fmt.Errorf("some tasks did not end in time; their leases will end them: %w", err)
	}
	w.Log.InfoContext(background, "stopped")
	return nil
}

// Check returns nil while the worker works: it is registered, and its last heartbeat was answered less than a lease ago.
func (w *Worker) Check() error {
	heard := w.heard.Load()
	if heard == 0 {
		return errors.New("the worker is not registered yet")
	}
	if silent := time.Since(time.Unix(0, heard)); silent > w.Lease {
		return fmt.Errorf("the database has not answered for %s", silent.Round(time.Second))
	}
	return nil
}

func (w *Worker) checkSchema(ctx context.Context) error {
	pending, err := migrations.Pending(ctx, w.Pool, migrations.FS)
	if err != nil {
		return err
	}
	if len(pending) > 0 {
		return fmt.Errorf("the database lacks migrations (%s): run `gateway migrate` first", strings.Join(pending, ", "))
	}
	river, err := riverpilot.Pending(ctx, w.Pool)
	if err != nil {
		return err
	}
	if river != "" {
		return fmt.Errorf("the database lacks River's migrations (%s): run `gateway migrate` first", river)
	}
	return nil
}

// taskTypes lists what the worker asks for.
func (w *Worker) taskTypes() []string {
	types := []string{orchestrator}
	for taskType := range w.engines {
		types = append(types, taskType)
	}
	slices.Sort(types)
	return types
}

func (w *Worker) register(ctx context.Context) error {
	var infos []engine.Info
	for _, e := range w.Engines {
		infos = append(infos, e.Info())
	}
	info, err := json.Marshal(map[string]any{"engines": infos, "slots": w.Slots})
	if err != nil {
		return fmt.Errorf("registering the worker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = w.db.RegisterWorker(ctx, taskdb.Registration{
		WorkerID: w.WorkerID, Capabilities: []string{capability}, TaskTypes: w.taskTypes(), LeaseTimeout: w.Lease, Info: info,
	})
	if err != nil {
		return fmt.Errorf("registering the worker: %w", err)
	}
	w.heard.Store(time.Now().UnixNano())
	return nil
}

// quiet passes on River's warnings and errors only: what it tells besides is about its own jobs.
type quiet struct{ slog.Handler }

// Enabled implements [slog.Handler].
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}
