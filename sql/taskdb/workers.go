package taskdb

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Registration is what a worker says of itself when it starts.
type Registration struct {
	WorkerID     string
	Capabilities []string        // routes it serves besides "any", e.g. wan2gp
	TaskTypes    []string        // the only types it wants; nil: all that its capabilities allow
	LeaseTimeout time.Duration   // how long it may be silent, 1 s to 24 h; zero: 30 minutes
	Info         json.RawMessage // device, version, engines: shown, never read
	IfUnknown    bool            // leave a worker that is known as it is, with what it holds
}

// Hold is the fence of a claimed task: calls that carry an older attempt, or another worker, are refused with ErrLeaseLost.
type Hold struct {
	TaskID   uuid.UUID `json:"task_id"`
	WorkerID string    `json:"worker_id"`
	Attempt  int       `json:"attempt"`
}

// HoldOf is the hold of a task as the claim returned it.
func HoldOf(t Task) Hold {
	h := Hold{TaskID: t.ID, Attempt: t.Attempt}
	if t.WorkerID != nil {
		h.WorkerID = *t.WorkerID
	}
	return h
}

// Output is what a finished task made.
type Output struct {
	Location     string
	ThumbnailURL string
	Metadata     json.RawMessage // a JSON object of up to 64 kB
}

// Running is a task that a worker works on, as its heartbeat names it. Progress may be nil.
type Running struct {
	TaskID   uuid.UUID       `json:"task_id"`
	Attempt  int             `json:"attempt"`
	Progress json.RawMessage `json:"progress,omitempty"`
}

// Completion is one task of CompleteTasks.
type Completion struct {
	TaskID         uuid.UUID       `json:"task_id"`
	Attempt        int             `json:"attempt"`
	OutputLocation string          `json:"output_location,omitempty"`
	Metadata       json.RawMessage `json:"metadata,omitempty"`
	ThumbnailURL   string          `json:"thumbnail_url,omitempty"`
}

// RegisterWorker makes a worker known; what it held before is queued again. To be called before its first claim.
// Errors: ErrUnknownType, ErrInvalidParams.
func (db *DB) RegisterWorker(ctx context.Context, r Registration) (Worker, error) {
	return rowOf[Worker](ctx, db, callRegisterWorker, r.WorkerID, r.Capabilities, r.TaskTypes, orNull(r.LeaseTimeout), jsonOrNull(r.Info), r.IfUnknown)
}

// ListWorkers lists the workers that may run the caller's tasks, those that are alive first.
func (db *DB) ListWorkers(ctx context.Context) ([]WorkerStatus, error) {
	return rowsOf[WorkerStatus](ctx, db, callListWorkers)
}

// ClaimNextTask hands the worker the oldest task it may run; false when there is none. Errors: ErrUnknownWorker, ErrIsolation.
func (db *DB) ClaimNextTask(ctx context.Context, workerID string) (Task, bool, error) {
	list, err := rowsOf[Task](ctx, db, callClaimNextTask, workerID)
	if err != nil || len(list) == 0 {
		return Task{}, false, err
	}
	return list[0], true, nil
}

// ClaimNextTasks hands the worker up to maxTasks (1 to 1000) tasks, oldest first: of the given types only, or of all that it registered
// when taskTypes is nil.
// Errors: ErrUnknownWorker, ErrInvalidParams, ErrIsolation.
func (db *DB) ClaimNextTasks(ctx context.Context, workerID string, maxTasks int, taskTypes []string) ([]Task, error) {
	return rowsOf[Task](ctx, db, callClaimNextTasks, workerID, maxTasks, taskTypes)
}

// HeartbeatWorker says that the worker lives and what it runs, and returns what it must stop. A nil list of running tasks means
// that it does not say: then all that it holds stays held. info, if not nil, replaces what the registration said.
// Errors: ErrUnknownWorker, ErrInvalidParams.
func (db *DB) HeartbeatWorker(ctx context.Context, workerID string, running []Running, info json.RawMessage) ([]Verdict, error) {
	var list any
	if running != nil {
		data, err := json.Marshal(running)
		if err != nil {
			return nil, fmt.Errorf("taskdb: heartbeat_worker: %w", err)
		}
		list = json.RawMessage(data) // a plain []byte would be sent as bytea where pgx may not ask for types, as behind a pooler
	}
	return rowsOf[Verdict](ctx, db, callHeartbeatWorker, workerID, list, jsonOrNull(info))
}

// ReportProgress writes how far the attempt is: a JSON object {"percent", "value", "max", "phase", "preview"}.
// Errors: ErrInvalidParams, ErrTaskNotFound, ErrLeaseLost, ErrTaskEnded.
func (db *DB) ReportProgress(ctx context.Context, h Hold, progress json.RawMessage) error {
	_, err := valueOf[*string](ctx, db, callReportProgress, h.TaskID, h.WorkerID, h.Attempt, jsonOrNull(progress))
	return err
}

// CompleteTask completes a task: output, credits, generation, events, in one transaction. A repeat by the same attempt answers the
// same. A Hold without worker and attempt means the present holder.
// Errors: ErrMissingOutput, ErrInvalidParams, ErrTaskNotFound, ErrLeaseLost, ErrTaskEnded.
func (db *DB) CompleteTask(ctx context.Context, h Hold, out Output) (Task, error) {
	return rowOf[Task](ctx, db, callCompleteTask, h.TaskID, orNull(out.Location), orNull(h.WorkerID), orNull(h.Attempt),
		jsonOrNull(out.Metadata), orNull(out.ThumbnailURL))
}

// CompleteTasks completes several tasks of one worker, each on its own; the results are in the order given.
func (db *DB) CompleteTasks(ctx context.Context, workerID string, completions []Completion) ([]CompletionResult, error) {
	list, err := json.Marshal(append([]Completion{}, completions...)) // none is [], not null
	if err != nil {
		return nil, fmt.Errorf("taskdb: complete_tasks: %w", err)
	}
	return rowsOf[CompletionResult](ctx, db, callCompleteTasks, workerID, json.RawMessage(list))
}

// ProcessCompletedTask is the spec's form of the end of a task: output is a JSON object with output_location, metadata and
// thumbnail_url, or with success false and error_message. Errors as CompleteTask and FailTask.
func (db *DB) ProcessCompletedTask(ctx context.Context, h Hold, output json.RawMessage) (Task, error) {
	return rowOf[Task](ctx, db, callProcessCompletedTask, h.TaskID, jsonOrNull(output), orNull(h.WorkerID), orNull(h.Attempt))
}

// FailTask ends the attempt as failed: the task is Failed. A Hold without worker and attempt means the present holder.
// Errors: ErrTaskNotFound, ErrLeaseLost, ErrTaskEnded.
func (db *DB) FailTask(ctx context.Context, h Hold, message string) (Task, error) {
	return rowOf[Task](ctx, db, callFailTask, h.TaskID, message, orNull(h.WorkerID), orNull(h.Attempt), false, nil)
}

// RetryTask ends the attempt as failed, and queues the task again after a pause while attempts are left. A zero delay is the
// database's choice: from 1 s, doubling. Errors as FailTask.
func (db *DB) RetryTask(ctx context.Context, h Hold, message string, delay time.Duration) (Task, error) {
	return rowOf[Task](ctx, db, callFailTask, h.TaskID, message, orNull(h.WorkerID), orNull(h.Attempt), true, orNull(delay))
}

// ReleaseTask gives a task back; the attempt is not counted. Errors: ErrTaskNotFound, ErrLeaseLost, ErrTaskEnded.
func (db *DB) ReleaseTask(ctx context.Context, h Hold, reason string) (Task, error) {
	return rowOf[Task](ctx, db, callReleaseTask, h.TaskID, h.WorkerID, h.Attempt, orNull(reason))
}

// GetDependencyOutputs lists what the tasks that this one waits for have made, in order. Errors: ErrTaskNotFound.
func (db *DB) GetDependencyOutputs(ctx context.Context, task uuid.UUID) ([]DependencyOutput, error) {
	return rowsOf[DependencyOutput](ctx, db, callGetDependencyOutputs, task)
}

// ExpandTravelOrchestrator makes the tree of a claimed travel_orchestrator and returns its tasks. Afterwards the worker holds it no
// longer: it completes with its stitch. Errors: ErrInvalidParams, ErrTaskNotFound, ErrLeaseLost, ErrTaskEnded.
func (db *DB) ExpandTravelOrchestrator(ctx context.Context, h Hold) ([]Task, error) {
	return rowsOf[Task](ctx, db, callExpandOrchestrator, h.TaskID, h.WorkerID, h.Attempt)
}
