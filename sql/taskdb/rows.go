package taskdb

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Statuses of a task. Complete, Failed and Cancelled are final.
const (
	StatusQueued     = "Queued"
	StatusInProgress = "In Progress"
	StatusComplete   = "Complete"
	StatusFailed     = "Failed"
	StatusCancelled  = "Cancelled"
)

// Task is a row of tasks. Pointers are null where nothing was set yet.
type Task struct {
	ID                 uuid.UUID       `db:"id" json:"id"`
	JobNo              int64           `db:"job_no" json:"job_no"` // order of creation
	OwnerID            uuid.UUID       `db:"owner_id" json:"owner_id"`
	ProjectID          uuid.UUID       `db:"project_id" json:"project_id"`
	TaskType           string          `db:"task_type" json:"task_type"`
	ToolID             *string         `db:"tool_id" json:"tool_id"`
	Status             string          `db:"status" json:"status"`
	Params             json.RawMessage `db:"params" json:"params"`
	DependantOn        []uuid.UUID     `db:"dependant_on" json:"dependant_on"`
	OrchestratorTaskID *uuid.UUID      `db:"orchestrator_task_id" json:"orchestrator_task_id"`
	Cost               Credits         `db:"cost" json:"cost"`
	IdempotencyKey     *string         `db:"idempotency_key" json:"idempotency_key"`
	Attempt            int             `db:"attempt" json:"attempt"` // the fence
	FailedAttempts     int             `db:"failed_attempts" json:"failed_attempts"`
	WorkerID           *string         `db:"worker_id" json:"worker_id"`
	ClaimedAt          *time.Time      `db:"claimed_at" json:"claimed_at"`
	RunAfter           *time.Time      `db:"run_after" json:"run_after"`
	Progress           json.RawMessage `db:"progress" json:"progress"`
	OutputLocation     *string         `db:"output_location" json:"output_location"`
	ThumbnailURL       *string         `db:"thumbnail_url" json:"thumbnail_url"`
	Metadata           json.RawMessage `db:"metadata" json:"metadata"`
	ErrorMessage       *string         `db:"error_message" json:"error_message"`
	GenerationCreated  bool            `db:"generation_created" json:"generation_created"`
	CreatedAt          time.Time       `db:"created_at" json:"created_at"`
	UpdatedAt          time.Time       `db:"updated_at" json:"updated_at"`
	CompletedAt        *time.Time      `db:"completed_at" json:"completed_at"`
}

// Ended reports whether the task is in a final state.
func (t *Task) Ended() bool {
	return t.Status == StatusComplete || t.Status == StatusFailed || t.Status == StatusCancelled
}

// Generation is a row of generations: what a finished task made.
type Generation struct {
	ID           uuid.UUID       `db:"id" json:"id"`
	OwnerID      uuid.UUID       `db:"owner_id" json:"owner_id"`
	ProjectID    uuid.UUID       `db:"project_id" json:"project_id"`
	Type         string          `db:"type" json:"type"` // image or video
	Location     *string         `db:"location" json:"location"`
	ThumbnailURL *string         `db:"thumbnail_url" json:"thumbnail_url"`
	Params       json.RawMessage `db:"params" json:"params"`
	Metadata     json.RawMessage `db:"metadata" json:"metadata"`
	Tasks        json.RawMessage `db:"tasks" json:"tasks"` // JSON array with the task's id
	SourceTaskID *uuid.UUID      `db:"source_task_id" json:"source_task_id"`
	CreatedAt    time.Time       `db:"created_at" json:"created_at"`
}

// User is a row of users: an owner of projects and credits.
type User struct {
	ID    uuid.UUID `db:"id" json:"id"`
	Email *string   `db:"email" json:"email"`
	// StorageQuota is in bytes, of all uploads together; nil is no limit.
	StorageQuota *int64    `db:"storage_quota" json:"storage_quota"`
	CreatedAt    time.Time `db:"created_at" json:"created_at"`
}

// Project is a row of projects.
type Project struct {
	ID        uuid.UUID `db:"id" json:"id"`
	OwnerID   uuid.UUID `db:"owner_id" json:"owner_id"`
	Name      string    `db:"name" json:"name"`
	CreatedAt time.Time `db:"created_at" json:"created_at"`
}

// Shot is a row of shots.
type Shot struct {
	ID        uuid.UUID `db:"id" json:"id"`
	ProjectID uuid.UUID `db:"project_id" json:"project_id"`
	Name      string    `db:"name" json:"name"`
	CreatedAt time.Time `db:"created_at" json:"created_at"`
}

// Worker is a row of workers.
type Worker struct {
	ID            string          `db:"id" json:"id"`
	TokenID       *uuid.UUID      `db:"token_id" json:"token_id"` // nil: it logs in to the database
	Name          *string         `db:"name" json:"name"`         // what it calls itself, with a token
	OwnerID       *uuid.UUID      `db:"owner_id" json:"owner_id"` // the only user whose tasks it runs
	Capabilities  []string        `db:"capabilities" json:"capabilities"`
	TaskTypes     []string        `db:"task_types" json:"task_types"`
	LeaseTimeout  time.Duration   `db:"lease_timeout" json:"lease_timeout"`
	Running       []uuid.UUID     `db:"running" json:"running"`
	LastHeartbeat *time.Time      `db:"last_heartbeat" json:"last_heartbeat"`
	Info          json.RawMessage `db:"info" json:"info"`
	CreatedAt     time.Time       `db:"created_at" json:"created_at"`
}

// TaskExplanation says why a task is not running, or how it is.
type TaskExplanation struct {
	TaskID        uuid.UUID  `db:"task_id" json:"task_id"`
	Status        string     `db:"status" json:"status"`
	Runnable      bool       `db:"runnable" json:"runnable"`             // a claim may hand it out when its turn comes
	Reasons       []Reason   `db:"reasons" json:"reasons"`               // the most important first; none: the next claim may give it
	QueuePosition *int64     `db:"queue_position" json:"queue_position"` // of a runnable task; 1 is next, 1001 more than that
	ExpectedStart *time.Time `db:"expected_start" json:"expected_start"` // nil: not known
}

// Reason is one reason of a TaskExplanation. The codes stand in sql/README.md.
type Reason struct {
	Code    string          `json:"code"`
	Message string          `json:"message"` // for people; may change
	Detail  json.RawMessage `json:"detail"`
}

// WorkerStatus is what may be known of a worker.
type WorkerStatus struct {
	ID            string          `db:"id" json:"id"`
	Alive         bool            `db:"alive" json:"alive"`
	LastHeartbeat *time.Time      `db:"last_heartbeat" json:"last_heartbeat"` // nil: it sends none
	TaskTypes     []string        `db:"task_types" json:"task_types"`         // all that it takes
	Capabilities  []string        `db:"capabilities" json:"capabilities"`
	Info          json.RawMessage `db:"info" json:"info"`
	Running       json.RawMessage `db:"running" json:"running"` // the caller's tasks: [{"task_id", "task_type", "attempt", "claimed_at"}]
}

// AccessToken is a personal access token without its secret.
type AccessToken struct {
	ID         uuid.UUID  `db:"id" json:"id"`
	OwnerID    *uuid.UUID `db:"owner_id" json:"owner_id"` // nil: a worker of everybody's tasks
	Scope      string     `db:"scope" json:"scope"`       // "worker" or "user"
	Label      string     `db:"label" json:"label"`
	Prefix     string     `db:"prefix" json:"prefix"` // its first characters
	CreatedAt  time.Time  `db:"created_at" json:"created_at"`
	ExpiresAt  *time.Time `db:"expires_at" json:"expires_at"`
	RevokedAt  *time.Time `db:"revoked_at" json:"revoked_at"`
	LastUsedAt *time.Time `db:"last_used_at" json:"last_used_at"`
}

// NewAccessToken is a personal access token as it is shown once.
type NewAccessToken struct {
	ID        uuid.UUID  `db:"id" json:"id"`
	Token     string     `db:"token" json:"token"`
	Scope     string     `db:"scope" json:"scope"`
	Label     string     `db:"label" json:"label"`
	ExpiresAt *time.Time `db:"expires_at" json:"expires_at"`
}

// AuditEntry tells of one act of the service, or of a change of tokens.
type AuditEntry struct {
	ID        int64           `db:"id" json:"id"`
	CreatedAt time.Time       `db:"created_at" json:"created_at"`
	Login     string          `db:"login" json:"login"` // of the database: the gateway's, or a person's
	Role      string          `db:"role" json:"role"`
	Subject   *uuid.UUID      `db:"subject" json:"subject"`   // the user in the claims
	TokenID   *uuid.UUID      `db:"token_id" json:"token_id"` // the access token that was used
	Act       string          `db:"act" json:"act"`           // INSERT, UPDATE or DELETE
	Object    string          `db:"object" json:"object"`     // the table
	Target    string          `db:"target" json:"target"`     // its row
	Details   json.RawMessage `db:"details" json:"details"`
}

// LedgerEntry is a row of credit_ledger. The newest one of an owner is the account.
type LedgerEntry struct {
	OwnerID        uuid.UUID  `db:"owner_id" json:"owner_id"`
	Seq            int64      `db:"seq" json:"seq"`
	Kind           string     `db:"kind" json:"kind"` // grant, hold, settle, release
	Amount         Credits    `db:"amount" json:"amount"`
	BalanceAfter   Credits    `db:"balance_after" json:"balance_after"`
	HeldAfter      Credits    `db:"held_after" json:"held_after"`
	TaskID         *uuid.UUID `db:"task_id" json:"task_id"`
	Attempt        *int       `db:"attempt" json:"attempt"`
	IdempotencyKey *string    `db:"idempotency_key" json:"idempotency_key"`
	Note           *string    `db:"note" json:"note"`
	CreatedAt      time.Time  `db:"created_at" json:"created_at"`
}

// CreditAccount is what a user has: Available = Balance - Held.
type CreditAccount struct {
	OwnerID   uuid.UUID `db:"owner_id" json:"owner_id"`
	Balance   Credits   `db:"balance" json:"balance"`
	Held      Credits   `db:"held" json:"held"`
	Available Credits   `db:"available" json:"available"`
}

// DependencyOutput is what a task that another waits for has made.
type DependencyOutput struct {
	Ordinal        int             `db:"ordinal" json:"ordinal"` // place in dependant_on, from 1
	TaskID         uuid.UUID       `db:"task_id" json:"task_id"`
	TaskType       string          `db:"task_type" json:"task_type"`
	OutputLocation *string         `db:"output_location" json:"output_location"`
	Params         json.RawMessage `db:"params" json:"params"`
	Metadata       json.RawMessage `db:"metadata" json:"metadata"`
}

// Verdict tells a worker to stop a task: its Attempt was "cancelled" (the task has ended) or is "lost" (the lease is gone).
type Verdict struct {
	TaskID  uuid.UUID `db:"task_id" json:"task_id"`
	Attempt int       `db:"attempt" json:"attempt"`
	Verdict string    `db:"verdict" json:"verdict"`
}

// CompletionResult is the answer to one task of CompleteTasks: its status, or the code and message of the refusal.
type CompletionResult struct {
	TaskID       uuid.UUID `db:"task_id" json:"task_id"`
	Status       *string   `db:"status" json:"status"`
	ErrorCode    *string   `db:"error_code" json:"error_code"`
	ErrorMessage *string   `db:"error_message" json:"error_message"`
}

// Erasure is the end of a user. The rows are gone; the files were deleted at SweptAt, or are about to be.
type Erasure struct {
	UserID      uuid.UUID  `db:"user_id" json:"user_id"`
	RequestedAt time.Time  `db:"requested_at" json:"requested_at"`
	SweptAt     *time.Time `db:"swept_at" json:"swept_at"` // when storage was last looked at; nil: not yet
}

// SweepReport is what a sweep looked at and mended. Repaired above zero is a fault of ours.
type SweepReport struct {
	Checked  int `db:"checked" json:"checked"`   // owners looked at
	Repaired int `db:"repaired" json:"repaired"` // faults of the queue
	Admitted int `db:"admitted" json:"admitted"` // generations made that were missing
}

// Violation is a row of invariant_violations; there should be none.
type Violation struct {
	Rule      int        `db:"rule" json:"rule"` // number of the invariant in sql/README.md
	OwnerID   *uuid.UUID `db:"owner_id" json:"owner_id"`
	TaskID    *uuid.UUID `db:"task_id" json:"task_id"`
	Violation string     `db:"violation" json:"violation"`
}
