package taskdb

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
)

// NewTask is what create_task takes: a tool and its input as apps send them, or a type and its params as workers do. Zero values
// are left out.
type NewTask struct {
	ProjectID      uuid.UUID       `json:"project_id"`
	ToolID         string          `json:"tool_id,omitempty"`
	Input          json.RawMessage `json:"input,omitempty"`
	TaskID         uuid.UUID       `json:"task_id,omitzero"` // made by the database unless given
	TaskType       string          `json:"task_type,omitempty"`
	Params         json.RawMessage `json:"params,omitempty"`
	DependantOn    []uuid.UUID     `json:"dependant_on,omitempty"`
	IdempotencyKey string          `json:"idempotency_key,omitempty"`
}

// CalculateTaskCost asks what the task would cost now; nothing is written.
// Errors: ErrMissingFields, ErrUnknownType, ErrInvalidParams, ErrParamsTooLarge.
func (db *DB) CalculateTaskCost(ctx context.Context, t NewTask) (Credits, error) {
	return valueOf[Credits](ctx, db, callCalculateTaskCost, orNull(t.ToolID), jsonOrNull(t.Input), orNull(t.TaskType), jsonOrNull(t.Params))
}

// CreateTask creates one task, Queued. A repeat with the same id or key returns the task that is there.
// Errors: ErrMissingFields, ErrUnknownType, ErrInvalidParams, ErrParamsTooLarge, ErrInsufficientCredits, ErrProjectNotFound,
// ErrInvalidDependency, ErrTaskEnded (its orchestrator), ErrConflict, ErrTooManyQueued.
func (db *DB) CreateTask(ctx context.Context, t NewTask) (Task, error) {
	return rowOf[Task](ctx, db, callCreateTask, orNull(t.ProjectID), orNull(t.ToolID), jsonOrNull(t.Input), orNull(t.TaskID),
		orNull(t.TaskType), jsonOrNull(t.Params), t.DependantOn, orNull(t.IdempotencyKey))
}

// CreateTasks creates several tasks of one owner, all or none, and returns them in the order given. Errors as CreateTask.
func (db *DB) CreateTasks(ctx context.Context, tasks []NewTask) ([]Task, error) {
	list, err := json.Marshal(append([]NewTask{}, tasks...)) // none is [], not null
	if err != nil {
		return nil, fmt.Errorf("taskdb: create_tasks: %w", err)
	}
	return rowsOf[Task](ctx, db, callCreateTasks, json.RawMessage(list))
}

// GetTask reads one task. Errors: ErrTaskNotFound.
func (db *DB) GetTask(ctx context.Context, id uuid.UUID) (Task, error) {
	return rowOf[Task](ctx, db, callGetTask, id)
}

// ExplainTask says why a task is not running, or how it is. Errors: ErrTaskNotFound.
func (db *DB) ExplainTask(ctx context.Context, id uuid.UUID) (TaskExplanation, error) {
	return rowOf[TaskExplanation](ctx, db, callExplainTask, id)
}

// CreateTaskAgain makes a Failed or Cancelled task again, as a new one (retry_task); RetryTask is the worker's, who gives one back. The key may be empty; with one, a repeat
// returns the task that is there. Errors: ErrTaskNotFound, ErrNothingToRetry, and those of CreateTask.
func (db *DB) CreateTaskAgain(ctx context.Context, id uuid.UUID, idempotencyKey string) (Task, error) {
	return rowOf[Task](ctx, db, callRetryTask, id, orNull(idempotencyKey))
}

// CancelTask cancels a Queued or running task with its tree; nothing is charged. reason may be empty.
// Errors: ErrTaskNotFound, ErrTaskEnded (Complete or Failed).
func (db *DB) CancelTask(ctx context.Context, id uuid.UUID, reason string) (Task, error) {
	return rowOf[Task](ctx, db, callCancelTask, id, orNull(reason))
}

// Gallery says which generations to list: of a project, or of one shot of it; at most MaxRows (1 to 1000), older than a time.
type Gallery struct {
	ProjectID uuid.UUID
	ShotID    uuid.UUID // zero: of the whole project
	MaxRows   int
	OlderThan time.Time // zero: from the newest
}

// ListGenerations lists generations, newest first. Errors: ErrProjectNotFound, ErrInvalidParams.
func (db *DB) ListGenerations(ctx context.Context, g Gallery) ([]Generation, error) {
	return rowsOf[Generation](ctx, db, callListGenerations, g.ProjectID, orNull(g.ShotID), g.MaxRows, orNull(g.OlderThan))
}

// RepairGenerations makes the generations that finished tasks of a project (zero: of all) lack, and returns them.
func (db *DB) RepairGenerations(ctx context.Context, project uuid.UUID, maxTasks int) ([]Generation, error) {
	return rowsOf[Generation](ctx, db, callRepairGenerations, orNull(project), maxTasks)
}

// CreateUser makes a user known; one that exists is returned as it is. A zero id is made by the database.
func (db *DB) CreateUser(ctx context.Context, id uuid.UUID, email string) (User, error) {
	return rowOf[User](ctx, db, callCreateUser, orNull(id), orNull(email))
}

// EraseUser deletes a user with all rows; the ledger stays, anonymous, and files are deleted soon after by workerd. A repeat within a day answers the same.
// Errors: ErrUserNotFound, ErrIsolation.
func (db *DB) EraseUser(ctx context.Context, id uuid.UUID) (Erasure, error) {
	return rowOf[Erasure](ctx, db, callEraseUser, id)
}

// CreateProject makes a project; uuid.Nil is the caller, where one is signed in. Errors: ErrUserNotFound, ErrNotSignedIn.
func (db *DB) CreateProject(ctx context.Context, owner uuid.UUID, name string) (Project, error) {
	return rowOf[Project](ctx, db, callCreateProject, orNull(owner), name)
}

// CreateShot makes a shot. Errors: ErrProjectNotFound.
func (db *DB) CreateShot(ctx context.Context, project uuid.UUID, name string) (Shot, error) {
	return rowOf[Shot](ctx, db, callCreateShot, project, name)
}

// GrantCredits adds credits. The same key with the same amount adds once. Errors: ErrInvalidAmount, ErrUserNotFound, ErrConflict.
func (db *DB) GrantCredits(ctx context.Context, user uuid.UUID, amount Credits, idempotencyKey, note string) (LedgerEntry, error) {
	return rowOf[LedgerEntry](ctx, db, callGrantCredits, user, amount, orNull(idempotencyKey), orNull(note))
}

// CreateAccessToken makes a personal access token of scope "worker" or "user", for the caller or, for the service, any user; uuid.Nil with scope "worker"
// is a worker of everybody's tasks. expiresIn 0 is no end. Errors: ErrInvalidParams, ErrUserNotFound, ErrNotSignedIn, ErrNotAllowed (a token cannot make
// tokens).
func (db *DB) CreateAccessToken(ctx context.Context, scope, label string, expiresIn time.Duration, user uuid.UUID) (NewAccessToken, error) {
	return rowOf[NewAccessToken](ctx, db, callCreateAccessToken, scope, label, orNull(expiresIn), orNull(user))
}

// ListAccessTokens lists the caller's tokens, newest first; for the service those of the user, or with uuid.Nil all.
func (db *DB) ListAccessTokens(ctx context.Context, user uuid.UUID) ([]AccessToken, error) {
	return rowsOf[AccessToken](ctx, db, callListAccessTokens, orNull(user))
}

// RevokeAccessToken ends a token. Errors: ErrTokenNotFound.
func (db *DB) RevokeAccessToken(ctx context.Context, id uuid.UUID) (AccessToken, error) {
	return rowOf[AccessToken](ctx, db, callRevokeAccessToken, id)
}

// ListAudit lists who changed users, tokens, prices and tools, and who granted credits, newest first: all, or with target what was done to one row.
// olderThan is the ID of the last entry seen; 0 begins at the newest. Errors: ErrInvalidParams.
func (db *DB) ListAudit(ctx context.Context, target string, maxRows int, olderThan int64) ([]AuditEntry, error) {
	return rowsOf[AuditEntry](ctx, db, callListAudit, orNull(target), maxRows, orNull(olderThan))
}

// GetCredits reads a user's account; uuid.Nil is the caller. Errors: ErrUserNotFound, ErrNotSignedIn.
func (db *DB) GetCredits(ctx context.Context, user uuid.UUID) (CreditAccount, error) {
	return rowOf[CreditAccount](ctx, db, callGetCredits, orNull(user))
}

// orNull passes a zero value as NULL.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// jsonOrNull passes empty JSON as NULL.
func jsonOrNull(data json.RawMessage) any {
	if len(data) == 0 {
		return nil
	}
	return data
}

// NoQueueLimit is a limit for [DB.SetQueueLimit] that nobody reaches.
const NoQueueLimit = math.MaxInt32

// SetQueueLimit says how many queued tasks a user may have, or with a zero id how many everybody may have for whom nothing else was said. 0 is the
// standard again. It returns the limit that holds now. Errors: ErrInvalidParams, ErrUserNotFound.
func (db *DB) SetQueueLimit(ctx context.Context, user uuid.UUID, maxQueued int) (int, error) {
	return valueOf[int](ctx, db, callSetQueueLimit, orNull(maxQueued), orNull(user))
}
