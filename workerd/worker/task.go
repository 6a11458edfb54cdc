package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
	"darkroom/workerd/engine"
	"darkroom/workerd/outcome"
)

const (
	// memoryPause is how long a task waits after an engine had too little memory for it, so that another worker can take it.
	memoryPause = 10 * time.Second

	// finishFor limits how long a finished task is tried to be stored and completed, through outages of storage and database.
	finishFor = 10 * time.Minute
	// finishStopped limits the same for a worker that has drained and must go.
	finishStopped = 5 * time.Second
	firstPause    = 200 * time.Millisecond
	longestPause  = 15 * time.Second
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
		w.forget(ctx, j, log)
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
	s := w.roster.byType[task.TaskType]
	if s == nil {
		return fmt.Errorf("this worker has no engine for tasks of the type %q", task.TaskType)
	}
	folder, err := os.MkdirTemp(w.folder, "task-")
	if err != nil {
		return w.failed(ctx, s, task, err, log)
	}
	defer func() {
		if err := os.RemoveAll(folder); err != nil {
			log.WarnContext(ctx, "the work folder stays", "error", err)
		}
	}()
	made, err := w.make(ctx, j, s, task, folder, log)
	if err != nil {
		return w.failed(ctx, s, task, err, log)
	}
	return w.finish(ctx, j, task, made, log)
}

// make fetches the inputs, runs the engine and looks at what it made.
func (w *Worker) make(ctx context.Context, j *job, s *station, task taskdb.Task, folder string, log *slog.Logger) (*made, error) {
	ctx, cancel := context.WithTimeout(ctx, w.TaskTimeout)
	defer cancel()
	in, out := filepath.Join(folder, "in"), filepath.Join(folder, "out")
	for _, dir := range []string{in, out} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, fmt.Errorf("work folder: %w", err)
		}
	}
	inputs, err := w.inputs(ctx, task, in)
	if err != nil {
		return nil, err
	}

	telling, quiet := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer func() {
		quiet()
		group.Wait()
	}()
	group.Go(func() { w.tell(telling, j) })
	group.Go(func() { w.show(telling, j, task, log) })
	result, err := s.Run(ctx, engine.Task{
		ID: task.ID, Attempt: task.Attempt, Type: task.TaskType, Params: task.Params, Inputs: inputs, OutDir: out,
	}, sink{job: j, log: log})
	if err != nil {
		return nil, &engineError{err}
	}
	made, err := w.inspect(ctx, result, out, folder)
	if err != nil {
		return nil, &engineError{err}
	}
	w.roster.report(ctx, s, "", "")
	return made, nil
}

// engineError is an error that came when the engine had begun.
type engineError struct{ error }

// Unwrap returns the engine's own error.
func (e *engineError) Unwrap() error { return e.error }

// failed says what becomes of a task that could not be done, and of the engine.
func (w *Worker) failed(ctx context.Context, s *station, task taskdb.Task, err error, log *slog.Logger) error {
	class, message := engine.ClassOf(err), engine.MessageOf(err)
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	if full {
		class, message = engine.EngineDown, "The worker's disk is full; the task will be tried again."
	}
	log.WarnContext(ctx, "the work failed", "engine", s.info.Name, "class", string(class), "error", err)
	if ctx.Err() != nil { // the task was stopped, which says nothing of the engine
		return errors.New(message)
	}
	if full || errors.As(err, new(*engineError)) { // a full disk would fail the whole queue, as an engine that is down
		w.roster.report(ctx, s, class, message)
	}
	switch {
	case class == engine.BadInput:
		return outcome.Permanent(errors.New(message))
	case class == engine.OutOfMem && w.roster.outOfMemory(s, task.ID):
		device := s.info.Device
		if s.info.MemoryBytes > 0 {
			device += fmt.Sprintf(" with its %.0f GiB", float64(s.info.MemoryBytes)/(1<<30))
		}
		return outcome.Permanent(engine.Errorf(class, "The task needs more memory than %s has: choose a smaller size or fewer frames.", device))
	case class == engine.OutOfMem:
		return outcome.After(memoryPause, errors.New(message))
	}
	return errors.New(message)
}

// finish stores what the engine made and completes the task.
func (w *Worker) finish(ctx context.Context, j *job, task taskdb.Task, made *made, log *slog.Logger) error {
	ctx, cancel := w.finishing(ctx)
	defer cancel()
	output := taskdb.Output{Metadata: made.metadata}
	for _, file := range made.files {
		key := storage.OutputKey(task.OwnerID, task.ID, task.Attempt, file.name)
		if err := persist(ctx, log, func(ctx context.Context) error { return w.put(ctx, key, file) }); err != nil {
			return err
		}
		if file.role == engine.Output {
			output.Location = storage.URL(w.PublicURL, key)
		} else {
			output.ThumbnailURL = storage.URL(w.PublicURL, key)
		}
	}
	return persist(ctx, log, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		_, err := w.db.CompleteTask(ctx, j.hold, output)
		return err
	})
}

func (w *Worker) put(ctx context.Context, key string, file madeFile) error {
	content, err := file.open()
	if err != nil {
		return err
	}
	defer content.Close()
	_, err = w.Bucket.Put(ctx, key, content, engine.MaxOutputBytes)
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
	case errors.Is(err, storage.ErrMediaType):
		return errors.New("the engine made a file that is neither a picture nor a video")
	case errors.Is(err, storage.ErrKey), errors.Is(err, os.ErrNotExist):
		return errors.New("the engine made a result that cannot be stored")
	}
	return nil
}

// sink takes what an engine tells about a job.
type sink struct {
	job *job
	log *slog.Logger
}

// Log implements [engine.Sink].
func (s sink) Log(line string) { s.log.Info("engine", "line", line) }
