package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
	"darkroom/workerd/engine"
	"darkroom/workerd/fetch"
	"darkroom/workerd/outcome"
)

const (
	stitch = "travel_stitch"

	maxOutputBytes = 4 << 30

	// finishFor limits how long a finished task is tried to be stored and completed, through outages of storage and database.
	finishFor = 10 * time.Minute
	// finishStopped limits the same for a worker that has drained and must go.
	finishStopped = 5 * time.Second
	firstPause    = 200 * time.Millisecond
	longestPause  = 15 * time.Second

	checkEvery   = 5 * time.Second
	checkTimeout = 10 * time.Second
)

// handle is the [outcome.Handler] of all tasks.
func (w *Worker) handle(ctx context.Context, task taskdb.Task) error {
	log := w.Log.With("task_id", task.ID, "attempt", task.Attempt)
	log.InfoContext(ctx, "task started", "task_type", task.TaskType)
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	j, done := w.begin(taskdb.HoldOf(task), cancel)
	defer done()

	var err error
	if task.TaskType == orchestrator {
		err = w.expand(ctx, j, log)
	} else {
		err = w.run(ctx, j, task, log)
	}
	if cause := context.Cause(ctx); err != nil && outcome.IsOver(cause) {
		return fmt.Errorf("told to stop: %w", cause)
	}
	if err == nil {
		log.InfoContext(ctx, "task done", "task_type", task.TaskType, "seconds", time.Since(began).Seconds())
	}
	return err
}

// expand makes the tree of an orchestrator. It is free, so it is tried like the end of a task.
func (w *Worker) expand(ctx context.Context, j *job, log *slog.Logger) error {
	ctx, cancel := w.finishing(ctx)
	defer cancel()
	return persist(ctx, log, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		_, err := w.db.ExpandTravelOrchestrator(ctx, j.hold)
		return err
	})
}

func (w *Worker) run(ctx context.Context, j *job, task taskdb.Task, log *slog.Logger) error {
	e := w.engines[task.TaskType]
	if e == nil {
		return fmt.Errorf("this worker has no engine for tasks of the type %q", task.TaskType)
	}
	folder, err := os.MkdirTemp(w.folder, "task-")
	if err != nil {
		log.ErrorContext(ctx, "no work folder", "error", err)
		return errors.New("the worker has no place to work in")
	}
	defer func() {
		if err := os.RemoveAll(folder); err != nil {
			log.WarnContext(ctx, "the work folder stays", "error", err)
		}
	}()

	result, err := w.make(ctx, j, e, task, folder, log)
	if err != nil {
		class := engine.ClassOf(err)
		log.WarnContext(ctx, "the work failed", "class", string(class), "error", err)
		if class == engine.EngineDown {
			w.suspect(ctx, e)
		}
		message := errors.New(engine.MessageOf(err))
		if class == engine.BadInput {
			return outcome.Permanent(message)
		}
		return message
	}
	return w.finish(ctx, j, task, result, log)
}

// make fetches the inputs and runs the engine.
func (w *Worker) make(ctx context.Context, j *job, e engine.Engine, task taskdb.Task, folder string, log *slog.Logger) (engine.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, w.TaskTimeout)
	defer cancel()
	in, out := filepath.Join(folder, "in"), filepath.Join(folder, "out")
	for _, dir := range []string{in, out} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return engine.Result{}, fmt.Errorf("work folder: %w", err)
		}
	}
	inputs, err := w.inputs(ctx, task, in)
	if err != nil {
		return engine.Result{}, err
	}

	telling, quiet := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer func() {
		quiet()
		group.Wait()
	}()
	group.Go(func() { w.tell(telling, j) })
	return e.Run(ctx, engine.Task{ID: task.ID, Type: task.TaskType, Params: task.Params, Inputs: inputs, OutDir: out}, sink{job: j, log: log})
}

// inputs fetches what the task works on: for a stitch the outputs of the tasks it waited for, else its start and end image.
func (w *Worker) inputs(ctx context.Context, task taskdb.Task, folder string) ([]engine.Input, error) {
	type wanted struct {
		reference string
		role      engine.Role
		kind      fetch.Kind
	}
	var list []wanted
	if task.TaskType == stitch {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		outputs, err := w.db.GetDependencyOutputs(call, task.ID)
		if err != nil {
			return nil, &engine.Error{Class: engine.EngineDown, Message: "The database could not be read; the task will be tried again.", Err: err}
		}
		for _, output := range outputs {
			if output.OutputLocation == nil {
				return nil, engine.Errorf(engine.BadInput, "Segment %d has no output.", output.Ordinal)
			}
			list = append(list, wanted{*output.OutputLocation, engine.Segment, fetch.Video})
		}
	} else {
		var params struct {
			Start string `json:"start_image"`
			End   string `json:"end_image"`
		}
		if err := json.Unmarshal(task.Params, &params); err != nil {
			return nil, &engine.Error{Class: engine.BadInput, Message: "The params start_image and end_image must be texts.", Err: err}
		}
		if params.Start != "" {
			list = append(list, wanted{params.Start, engine.StartImage, fetch.Image})
		}
		if params.End != "" {
			list = append(list, wanted{params.End, engine.EndImage, fetch.Image})
		}
	}

	inputs := make([]engine.Input, 0, len(list))
	for _, want := range list {
		file, err := w.fetcher.Fetch(ctx, want.reference, task.OwnerID, folder, want.kind)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, engine.Input{Path: file.Path, MediaType: file.MediaType, Role: want.role})
	}
	return inputs, nil
}

// finish stores what the engine made and completes the task.
func (w *Worker) finish(ctx context.Context, j *job, task taskdb.Task, result engine.Result, log *slog.Logger) error {
	ctx, cancel := w.finishing(ctx)
	defer cancel()
	var output taskdb.Output
	if result.Metadata != nil {
		var err error
		if output.Metadata, err = json.Marshal(result.Metadata); err != nil {
			return fmt.Errorf("the engine's metadata: %w", err)
		}
	}
	for role, location := range map[engine.Role]*string{engine.Output: &output.Location, engine.Thumbnail: &output.ThumbnailURL} {
		file, ok := result.File(role)
		if !ok {
			continue
		}
		key := storage.OutputKey(task.OwnerID, task.ID, task.Attempt, filepath.Base(file.Path))
		if err := persist(ctx, log, func(ctx context.Context) error { return w.put(ctx, key, file.Path) }); err != nil {
			return err
		}
		*location = storage.URL(w.PublicURL, key)
	}
	return persist(ctx, log, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		_, err := w.db.CompleteTask(ctx, j.hold, output)
		return err
	})
}

func (w *Worker) put(ctx context.Context, key, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading an output: %w", err)
	}
	defer file.Close()
	_, err = w.Bucket.Put(ctx, key, file, maxOutputBytes)
	if errors.Is(err, storage.ErrExists) { // the key holds the attempt: it was us, and the answer was lost
		return nil
	}
	return err
}

// finishing returns a context for the end of a task, whose work is done and must not be lost: it outlives ctx for a moment when that ends because the
// worker stops, but not when the task is no longer ours.
func (w *Worker) finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	finishing, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishFor)
	var timer *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-w.stopping:
			if !outcome.IsOver(context.Cause(ctx)) {
				mu.Lock()
				defer mu.Unlock()
				timer = time.AfterFunc(finishStopped, cancel)
				return
			}
		default:
		}
		cancel()
	})
	return finishing, func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
		cancel()
	}
}

// persist repeats do with growing pauses until it succeeds, is refused or ctx ends.
func persist(ctx context.Context, log *slog.Logger, do func(context.Context) error) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := do(ctx)
		if err == nil || outcome.IsOver(err) {
			return err
		}
		if refused := refusal(err); refused != nil {
			log.ErrorContext(ctx, "the result was refused", "error", err)
			return outcome.Permanent(refused)
		}
		log.WarnContext(ctx, "the result could not be written yet", "error", err)
		select {
		case <-ctx.Done():
			return errors.New("the task was done, but its result could not be stored")
		case <-time.After(pause):
		}
	}
}

// refusal returns, in words for the owner, why repeating is of no use; nil where it may be.
func refusal(err error) error {
	var refused *taskdb.Error
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, storage.ErrTooLarge):
		return errors.New("the result is too large to be stored")
	case errors.Is(err, storage.ErrMediaType), errors.Is(err, storage.ErrKey), errors.Is(err, os.ErrNotExist):
		return errors.New("the engine made a result that cannot be stored")
	}
	return nil
}

// ready says whether tasks may be claimed: an engine that is down would go through the whole queue and fail it.
func (w *Worker) ready() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.down) == 0
}

// suspect looks whether an engine that failed is down. If so nothing is claimed until it is up again.
func (w *Worker) suspect(ctx context.Context, e engine.Engine) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	err := e.Health(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	name := e.Info().Name
	if err == nil || w.down[name] {
		return
	}
	w.down[name] = true
	w.Log.ErrorContext(ctx, "an engine is down: no task is claimed until it is up", "engine", name, "error", err)
	w.checks.Go(func() {
		for {
			select {
			case <-w.stopping:
				return
			case <-time.After(checkEvery):
			}
			ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
			err := e.Health(ctx)
			cancel()
			if err == nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				delete(w.down, name)
				w.Log.Info("the engine is up again", "engine", name)
				return
			}
		}
	})
}

// sink takes what an engine tells about a job.
type sink struct {
	job *job
	log *slog.Logger
}

// Preview implements [engine.Sink]. There is no place for unfinished results.
func (s sink) Preview([]byte, string) {}

// Log implements [engine.Sink].
func (s sink) Log(line string) { s.log.Info("engine", "line", line) }
