package taskdb

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"
)

// What Headless-Wan2GP and workers like it ask, which name neither worker nor attempt: the token in the transaction's claims tells whose a task is.
// JSON answers are passed on as the database makes them.

// ClaimForSilentWorker is ClaimNextTask for a worker that never registers: its first claim makes it known.
// Errors: ErrInvalidParams (its name), ErrIsolation.
func (db *DB) ClaimForSilentWorker(ctx context.Context, workerID string) (Task, bool, error) {
	list, err := rowsOf[Task](ctx, db, callClaimForSilentWorker, workerID)
	if err != nil || len(list) == 0 {
		return Task{}, false, err
	}
	return list[0], true, nil
}

// SilentHeartbeat is what Headless-Wan2GP sends every 20 s.
type SilentHeartbeat struct {
	WorkerID    string
	VRAMTotalMB float64
	VRAMUsedMB  float64
	Logs        json.RawMessage // a JSON array of up to 100 rows, or nil
	Status      string          // "active" or "crashed"
}

// WorkerHeartbeat says that a worker is alive; "crashed" queues what it held again. Errors: ErrInvalidParams (its name).
func (db *DB) WorkerHeartbeat(ctx context.Context, h SilentHeartbeat) (json.RawMessage, error) {
	return valueOf[json.RawMessage](ctx, db, callWorkerHeartbeat, h.WorkerID, h.VRAMTotalMB, h.VRAMUsedMB, jsonOrNull(h.Logs), h.Status)
}

// StatusReport is what a worker says of its task. OutputLocation is an output, a progress text or a reason, as Status has it.
type StatusReport struct {
	TaskID         uuid.UUID
	Status         string
	OutputLocation string
	ThumbnailURL   string
	ErrorDetails   string
}

// UpdateTaskStatus takes a report; one of somebody who does not hold the task changes nothing.
// Errors: ErrInvalidParams, ErrTaskNotFound, and with StatusComplete those of CompleteTask.
func (db *DB) UpdateTaskStatus(ctx context.Context, r StatusReport) (json.RawMessage, error) {
	return valueOf[json.RawMessage](ctx, db, callUpdateTaskStatus, r.TaskID, r.Status, orNull(r.OutputLocation), orNull(r.ThumbnailURL), orNull(r.ErrorDetails))
}

// Completable is a task that its caller may complete, and where its files go.
type Completable struct {
	Folder         string    `json:"folder"` // "{owner}/tasks/{task}/{attempt}"
	OwnerID        uuid.UUID `json:"owner_id"`
	Status         string    `json:"status"`
	OutputLocation *string   `json:"output_location"` // of a task that is Complete already
	ThumbnailURL   *string   `json:"thumbnail_url"`
}

// CheckCompletion asks where files of a task go that the caller holds, or held last, and whether stored ones may be its output.
// Errors: ErrTaskNotFound, ErrLeaseLost, ErrTaskEnded, ErrNotAllowed.
func (db *DB) CheckCompletion(ctx context.Context, task uuid.UUID, storagePaths []string) (Completable, error) {
	return valueOf[Completable](ctx, db, callCheckCompletion, task, append([]string{}, storagePaths...))
}

// TaskCounts says how much there is to do, each number 1000 at most.
func (db *DB) TaskCounts(ctx context.Context) (json.RawMessage, error) {
	return valueOf[json.RawMessage](ctx, db, callTaskCounts)
}

// GetPredecessorOutput reads what the task made that this one waits for; nil when it waits for none. Errors: ErrTaskNotFound.
func (db *DB) GetPredecessorOutput(ctx context.Context, task uuid.UUID) (json.RawMessage, error) {
	return valueOf[json.RawMessage](ctx, db, callGetPredecessorOutput, task)
}

// GetCompletedSegments lists the finished segments of a run that the caller works on. Errors: ErrMissingFields.
func (db *DB) GetCompletedSegments(ctx context.Context, runID string, project uuid.UUID) (json.RawMessage, error) {
	return valueOf[json.RawMessage](ctx, db, callGetCompletedSegments, orNull(runID), orNull(project))
}

// GetOrchestratorChildren lists the tasks of an orchestrator's tree. Errors: ErrTaskNotFound.
func (db *DB) GetOrchestratorChildren(ctx context.Context, orchestrator uuid.UUID) (json.RawMessage, error) {
	return valueOf[json.RawMessage](ctx, db, callGetOrchestratorChildren, orchestrator)
}

// GetTaskOutput reads status, output and params of a task. Errors: ErrTaskNotFound.
func (db *DB) GetTaskOutput(ctx context.Context, task uuid.UUID) (json.RawMessage, error) {
	return valueOf[json.RawMessage](ctx, db, callGetTaskOutput, task)
}

// GetTaskStatus reads the status of a task. Errors: ErrTaskNotFound.
func (db *DB) GetTaskStatus(ctx context.Context, task uuid.UUID) (json.RawMessage, error) {
	return valueOf[json.RawMessage](ctx, db, callGetTaskStatus, task)
}

// UpdateShotPairPrompts keeps the prompts that a worker wrote for a shot, in the task that it holds.
// Errors: ErrInvalidParams, ErrTaskNotFound, ErrShotNotFound, ErrLeaseLost, ErrTaskEnded.
func (db *DB) UpdateShotPairPrompts(ctx context.Context, task, shot uuid.UUID, prompts json.RawMessage) (json.RawMessage, error) {
	return valueOf[json.RawMessage](ctx, db, callUpdateShotPairPrompts, task, shot, jsonOrNull(prompts))
}

// UpdateWorkerModel notes which model a worker has loaded. Errors: ErrInvalidParams (its name).
func (db *DB) UpdateWorkerModel(ctx context.Context, workerID, model string) (json.RawMessage, error) {
	return valueOf[json.RawMessage](ctx, db, callUpdateWorkerModel, workerID, model)
}
