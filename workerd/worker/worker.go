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
	segment      = "travel_segment"
	stitch       = "travel_stitch"
	capability   = "wan2gp" // what the travel types ask for

	callTimeout = 30 * time.Second // of one call of the database
	stopTimeout = 20 * time.Second // after the drain
)

// ErrNow is the cause of a context given to [Worker.Run] that asks for a stop without a drain: running tasks are given back at once.
var ErrNow = errors.New("stop now")

// Engine is an engine as a worker has it.
type Engine struct {
	engine.Engine

	Kind      string   // what it is made from, such as "comfyui"; for people
	TaskTypes []string // what it is to do; nil: all that it can. A type belongs to the first engine that does it
}

// Config says how a worker works. All fields are needed but Inputs and Capabilities.
type Config struct {
	Pool     *pgxpool.Pool
	Bucket   *storage.Bucket
	Engines  []Engine
	WorkerID string // of no other process: a worker that registers gives back what its id held

	PublicURL    string             // base of the addresses of outputs, see [storage.URL]
	TempDir      string             // where tasks have their work folders
	Inputs       map[string][]Input // by task type: params that name files to fetch; see [DefaultInputs] for types that are not here
	Capabilities []string           // routes it serves besides that of the travel types
	Slots        int                // tasks of all engines at the same time
	Lease        time.Duration      // how long the worker may be silent before its tasks are given to others
	Poll         time.Duration      // between two looks for tasks when nobody calls
	Drain        time.Duration      // how long a stop waits for running tasks
	TaskTimeout  time.Duration      // the longest that fetching and the engine may take
	CheckEvery   time.Duration      // how often an engine that is down is asked how it is
	PreviewEvery time.Duration      // the least time between two previews of a task
	Upkeep       keeper.Intervals
	Log          *slog.Logger

	// Thumbnail writes a JPEG poster of a picture or a video, see [media.Tools.Thumbnail]. Its errors of class bad_input say what is wrong with the file.
	Thumbnail func(ctx context.Context, from, to string) error
}

// Worker is one worker.
type Worker struct {
	Config

	db      *taskdb.DB
	fetcher *fetch.Fetcher
	roster  *roster
	folder  string

	stopping <-chan struct{}

	mu      sync.Mutex
	running map[uuid.UUID]*job
	heard   atomic.Int64 // time of the last heartbeat that was answered, in Unix nanoseconds
	told    []byte       // what the database has been told of this worker; only beat and what goes before it touches it

	forgetting sync.WaitGroup // deletions of previews
}

// New makes a worker; nothing happens before Run.
func New(c Config) *Worker {
	w := &Worker{
		Config: c, db: taskdb.New(c.Pool), fetcher: fetch.New(c.Bucket, c.PublicURL), roster: newRoster(c.Log, c.Engines, c.Slots, c.CheckEvery),
		running: map[uuid.UUID]*job{},
	}
	// An id may hold anything, and what a killed worker of this id left is deleted.
	digest := sha256.Sum256([]byte(c.WorkerID))
	w.folder = filepath.Join(c.TempDir, "darkroom-"+hex.EncodeToString(digest[:8]))
	return w
}

// Run registers the worker and works until ctx ends. Then it claims no more, waits up to Drain for running tasks (not when the cause is [ErrNow]),
// and gives back the rest. While the database does not answer it goes on trying.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.checkDatabase(ctx); err != nil {
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
	write := outcome.Writer(w.db, w.Log, w.handle)
	workers, periodic := keeper.Jobs(w.db, w.Bucket, w.Log, w.Upkeep)
	client, err := riverpilot.New(w.Pool, riverpilot.Config{
		WorkerID: w.WorkerID, Slots: w.roster.slots, PollInterval: w.Poll, Drain: max(w.Drain, time.Nanosecond),
		Work: func(ctx context.Context, task taskdb.Task) {
			defer w.roster.release(task.TaskType)
			write(ctx, task)
		},
		Want: w.roster.want,
		Claimed: func(tasks []taskdb.Task) {
			w.roster.reserve(tasks)
			loop.Claimed()
		},
		Wake:    w.roster.wake,
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
		w.forgetting.Wait()
	}()
	group.Go(func() { w.beat(background) })
	group.Go(func() { loop.Run(background) })
	for _, s := range w.roster.stations {
		group.Go(func() { w.roster.watch(ctx, s) })
	}
	if err := client.Start(background); err != nil {
		return fmt.Errorf("starting River: %w", err)
	}
	w.Log.InfoContext(ctx, "ready", "slots", w.roster.slots, "task_types", w.roster.taskTypes(), "lease", w.Lease.String())

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

func (w *Worker) checkDatabase(ctx context.Context) error {
	if err := taskdb.CheckLogin(ctx, w.Pool, "worker"); err != nil {
		return err
	}
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

// Status says how the worker and its engines are.
func (w *Worker) Status() Status { return w.roster.status() }

// Do runs a task that no queue knows, such as a request for a picture, on the engine for its type. It waits for one of the slots that claimed tasks
// use, too. Its errors are those of [engine.Engine.Run].
func (w *Worker) Do(ctx context.Context, task engine.Task, sink engine.Sink) (engine.Result, error) {
	s := w.roster.byType[task.Type]
	if s == nil {
		return engine.Result{}, engine.Errorf(engine.BadInput, "This worker has no engine for tasks of the type %q.", task.Type)
	}
	if err := w.roster.borrow(ctx, s); err != nil {
		return engine.Result{}, err
	}
	defer w.roster.release(task.Type)
	ctx, cancel := context.WithTimeout(ctx, w.TaskTimeout)
	defer cancel()
	result, err := s.Run(ctx, task, sink)
	if class := engine.ClassOf(err); ctx.Err() == nil || class == engine.Timeout {
		w.roster.report(ctx, s, class, engine.MessageOf(err))
	}
	return result, err
}

func (w *Worker) register(ctx context.Context) error {
	types := w.roster.taskTypes()
	if len(types) == 0 {
		return errors.New("none of the engines does any task type: there is nothing to work on")
	}
	info, err := json.Marshal(w.Status())
	if err != nil {
		return fmt.Errorf("registering the worker: %w", err)
	}
	capabilities := slices.Clone(w.Capabilities)
	if w.roster.expands {
		capabilities = append(capabilities, capability)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = w.db.RegisterWorker(ctx, taskdb.Registration{
		WorkerID: w.WorkerID, Capabilities: capabilities, TaskTypes: types, LeaseTimeout: w.Lease, Info: info,
	})
	if err != nil {
		return fmt.Errorf("registering the worker: %w", err)
	}
	w.told = info
	w.heard.Store(time.Now().UnixNano())
	return nil
}

// quiet passes on River's warnings and errors only: what it tells besides is about its own jobs.
type quiet struct{ slog.Handler }

// Enabled implements [slog.Handler].
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}
