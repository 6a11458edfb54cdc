// Package outcome writes what became of an attempt at a task that its handler has not completed.
package outcome

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"darkroom/sql/taskdb"
)

const (
	// tryFor limits how long the outcome is tried to be written, e.g. while the database restarts; afterwards the lease settles it.
	tryFor        = time.Minute
	tryForStopped = 5 * time.Second // of a worker that stops
	firstPause    = 200 * time.Millisecond
)

// Handler works on one claimed task and completes it. Its error says what becomes of the task:
//   - nil: nothing, since the handler has written the outcome
//   - [taskdb.ErrLeaseLost], [taskdb.ErrTaskEnded]: nothing, since the task is no longer ours
//   - any other after the end of ctx: the task is released, the attempt not counted
//   - [Permanent]: Failed, with the error's text
//   - the rest: queued again while attempts are left, with the error's text; after a pause of the database's choice, or that of [After]
//
// The text is read by the owner of the task.
type Handler func(ctx context.Context, task taskdb.Task) error

// Permanent marks an error that another attempt would meet again.
func Permanent(err error) error { return permanentError{err} }

type permanentError struct{ error }

// Unwrap returns the marked error.
func (e permanentError) Unwrap() error { return e.error }

// After marks an error for which the next attempt should wait so long.
func After(pause time.Duration, err error) error { return laterError{err, pause} }

type laterError struct {
	error

	pause time.Duration
}

// Unwrap returns the marked error.
func (e laterError) Unwrap() error { return e.error }

// IsOver reports whether the error says that a worker has no say in the task any more.
func IsOver(err error) bool {
	return errors.Is(err, taskdb.ErrLeaseLost) || errors.Is(err, taskdb.ErrTaskEnded) || errors.Is(err, taskdb.ErrTaskNotFound)
}

// Writer returns a function that runs the handler, also through a panic, and then writes the outcome.
func Writer(db *taskdb.DB, log *slog.Logger, handle Handler) func(context.Context, taskdb.Task) {
	return func(ctx context.Context, task taskdb.Task) {
		log := log.With("task_id", task.ID, "attempt", task.Attempt)
		if err := call(ctx, handle, task, log); err != nil {
			write(ctx, db, log, taskdb.HoldOf(task), err)
		}
	}
}

func call(ctx context.Context, handle Handler, task taskdb.Task, log *slog.Logger) (err error) {
	defer func() {
		if value := recover(); value != nil {
			log.ErrorContext(ctx, "panic", "value", value, "stack", string(debug.Stack()))
			err = errors.New("the worker crashed while it ran this task")
		}
	}()
	return handle(ctx, task)
}

func write(ctx context.Context, db *taskdb.DB, log *slog.Logger, hold taskdb.Hold, err error) {
	limit := tryFor
	stopped := ctx.Err() != nil
	if stopped {
		limit = tryForStopped
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	for pause := firstPause; !IsOver(err); pause *= 2 {
		answer := writeOnce(ctx, db, log, hold, err, stopped)
		switch {
		case answer == nil:
			return
		case IsOver(answer):
			err = answer
			continue
		}
		log.WarnContext(ctx, "the outcome of a task could not be written yet", "error", answer)
		select {
		case <-ctx.Done():
			log.ErrorContext(ctx, "gave up writing the outcome of a task: its lease will end it", "outcome", err)
			return
		case <-time.After(pause):
		}
	}
	log.InfoContext(ctx, "the task is no longer ours", "reason", err)
}

func writeOnce(ctx context.Context, db *taskdb.DB, log *slog.Logger, hold taskdb.Hold, err error, stopped bool) error {
	var task taskdb.Task
	var answer error
	switch {
	case stopped: // or cancelled, and then the database does not take it back
		task, answer = db.ReleaseTask(ctx, hold, "The worker stopped.")
	case errors.As(err, new(permanentError)):
		task, answer = db.FailTask(ctx, hold, err.Error())
	default:
		later, _ := errors.AsType[laterError](err)
		task, answer = db.RetryTask(ctx, hold, err.Error(), later.pause)
	}
	if answer == nil {
		log.InfoContext(ctx, "attempt ended", "error", err, "status", task.Status)
	}
	return answer
}
