package clients_test

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// method calls a function through package taskdb; with is its arguments in JSON.
type method func(ctx context.Context, db *taskdb.DB, with []byte) (any, error)

// arguments are those of all functions that the scenarios call.
type arguments struct {
	taskdb.NewTask
	WorkerID       string              `json:"worker_id"`
	Attempt        int                 `json:"attempt"`
	Tasks          []taskdb.NewTask    `json:"tasks"`
	UserID         uuid.UUID           `json:"user_id"`
	TokenID        uuid.UUID           `json:"token_id"`
	ShotID         uuid.UUID           `json:"shot_id"`
	Name           string              `json:"name"`
	Email          string              `json:"email"`
	SilentWorker   string              `json:"worker_id_param"`
	SilentStatus   string              `json:"status_param"`
	VRAMTotal      float64             `json:"vram_total_mb_param"`
	VRAMUsed       float64             `json:"vram_used_mb_param"`
	Status         string              `json:"status"`
	ErrorDetails   string              `json:"error_details"`
	StoragePaths   []string            `json:"storage_paths"`
	RunID          string              `json:"run_id"`
	Orchestrator   uuid.UUID           `json:"orchestrator_task_id"`
	Prompts        json.RawMessage     `json:"enhanced_prompts"`
	Model          string              `json:"model"`
	Scope          string              `json:"scope"`
	Label          string              `json:"label"`
	ExpiresIn      string              `json:"expires_in"`
	Amount         *taskdb.Credits     `json:"amount"`
	Note           string              `json:"note"`
	MaxRows        *int                `json:"max_rows"`
	MaxTasks       int                 `json:"max_tasks"`
	OlderThan      time.Time           `json:"older_than"`
	Capabilities   []string            `json:"capabilities"`
	TaskTypes      []string            `json:"task_types"`
	LeaseTimeout   string              `json:"lease_timeout"`
	Info           json.RawMessage     `json:"info"`
	Running        []taskdb.Running    `json:"running"`
	Progress       json.RawMessage     `json:"progress"`
	Completions    []taskdb.Completion `json:"completions"`
	OutputLocation string              `json:"output_location"`
	ThumbnailURL   string              `json:"thumbnail_url"`
	Metadata       json.RawMessage     `json:"metadata"`
	Output         json.RawMessage     `json:"output"`
	ErrorMessage   string              `json:"error_message"`
	Reason         string              `json:"reason"`
	Retryable      bool                `json:"retryable"`
	RetryDelay     string              `json:"retry_delay"`
	IfUnknown      bool                `json:"if_unknown"`
	Target         string              `json:"target"`
	MaxQueued      int                 `json:"max_queued"`
	Whole          bool                `json:"whole"`
	Folders        []string            `json:"folders"`
}

func (a *arguments) hold() taskdb.Hold {
	return taskdb.Hold{TaskID: a.TaskID, WorkerID: a.WorkerID, Attempt: a.Attempt}
}

// of makes a method of a call that reads the arguments it wants.
func of[T any](do func(ctx context.Context, db *taskdb.DB, a *arguments) (T, error)) method {
	return func(ctx context.Context, db *taskdb.DB, with []byte) (any, error) {
		var a arguments
		if err := json.Unmarshal(with, &a); err != nil {
			return nil, fmt.Errorf("arguments %s: %w", with, err)
		}
		return do(ctx, db, &a)
	}
}

// methods are those of taskdb, by function.
var methods = map[string]method{
	"calculate_task_cost": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Credits, error) {
		return db.CalculateTaskCost(ctx, a.NewTask)
	}),
	"create_task": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Task, error) {
		return db.CreateTask(ctx, a.NewTask)
	}),
	"create_tasks": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.Task, error) {
		return db.CreateTasks(ctx, a.Tasks)
	}),
	"get_task": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Task, error) {
		return db.GetTask(ctx, a.TaskID)
	}),
	"explain_task": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.TaskExplanation, error) {
		return db.ExplainTask(ctx, a.TaskID)
	}),
	"retry_task": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Task, error) {
		return db.CreateTaskAgain(ctx, a.TaskID, a.IdempotencyKey)
	}),
	"list_workers": of(func(ctx context.Context, db *taskdb.DB, _ *arguments) ([]taskdb.WorkerStatus, error) {
		return db.ListWorkers(ctx)
	}),
	"cancel_task": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Task, error) {
		return db.CancelTask(ctx, a.TaskID, a.Reason)
	}),
	"list_generations": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.Generation, error) {
		rows := 100
		if a.MaxRows != nil {
			rows = *a.MaxRows
		}
		return db.ListGenerations(ctx, taskdb.Gallery{ProjectID: a.ProjectID, ShotID: a.ShotID, MaxRows: rows, OlderThan: a.OlderThan})
	}),
	"create_user": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.User, error) {
		return db.CreateUser(ctx, a.UserID, a.Email)
	}),
	"create_project": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Project, error) {
		return db.CreateProject(ctx, a.UserID, a.Name)
	}),
	"create_shot": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Shot, error) {
		return db.CreateShot(ctx, a.ProjectID, a.Name)
	}),
	"grant_credits": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.LedgerEntry, error) {
		return db.GrantCredits(ctx, a.UserID, *a.Amount, a.IdempotencyKey, a.Note)
	}),
	"get_credits": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.CreditAccount, error) {
		return db.GetCredits(ctx, a.UserID)
	}),
	"create_access_token": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.NewAccessToken, error) {
		return db.CreateAccessToken(ctx, a.Scope, a.Label, duration(a.ExpiresIn), a.UserID)
	}),
	"list_access_tokens": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.AccessToken, error) {
		return db.ListAccessTokens(ctx, a.UserID)
	}),
	"revoke_access_token": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.AccessToken, error) {
		return db.RevokeAccessToken(ctx, a.TokenID)
	}),
	"register_worker": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (row, error) {
		w, err := db.RegisterWorker(ctx, taskdb.Registration{
			WorkerID: a.WorkerID, Capabilities: a.Capabilities, TaskTypes: a.TaskTypes, LeaseTimeout: duration(a.LeaseTimeout), Info: a.Info, IfUnknown: a.IfUnknown,
		})
		if err != nil {
			return nil, err
		}
		worker, err := rowOf(mustJSON(w))
		worker["lease_timeout"] = time.Time{}.Add(w.LeaseTimeout).Format(time.TimeOnly) // as SQL writes it
		return worker, err
	}),
	"claim_next_task": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.Task, error) {
		task, found, err := db.ClaimNextTask(ctx, a.WorkerID)
		if !found {
			return nil, err
		}
		return []taskdb.Task{task}, err
	}),
	"claim_next_tasks": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.Task, error) {
		return db.ClaimNextTasks(ctx, a.WorkerID, a.MaxTasks, a.TaskTypes)
	}),
	"heartbeat_worker": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.Verdict, error) {
		return db.HeartbeatWorker(ctx, a.WorkerID, a.Running, a.Info)
	}),
	"report_progress": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (any, error) {
		return nil, db.ReportProgress(ctx, a.hold(), a.Progress)
	}),
	"complete_task": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Task, error) {
		return db.CompleteTask(ctx, a.hold(), taskdb.Output{Location: a.OutputLocation, ThumbnailURL: a.ThumbnailURL, Metadata: a.Metadata})
	}),
	"complete_tasks": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.CompletionResult, error) {
		return db.CompleteTasks(ctx, a.WorkerID, a.Completions)
	}),
	"process_completed_task": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Task, error) {
		return db.ProcessCompletedTask(ctx, a.hold(), a.Output)
	}),
	"fail_task": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Task, error) {
		if a.Retryable {
			return db.RetryTask(ctx, a.hold(), a.ErrorMessage, duration(a.RetryDelay))
		}
		return db.FailTask(ctx, a.hold(), a.ErrorMessage)
	}),
	"release_task": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Task, error) {
		return db.ReleaseTask(ctx, a.hold(), a.Reason)
	}),
	"get_dependency_outputs": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.DependencyOutput, error) {
		return db.GetDependencyOutputs(ctx, a.TaskID)
	}),
	"expand_travel_orchestrator": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.Task, error) {
		return db.ExpandTravelOrchestrator(ctx, a.hold())
	}),
	"requeue_expired_tasks": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.Task, error) {
		return db.RequeueExpiredTasks(ctx, a.MaxTasks)
	}),
	"admit_due_tasks": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (int, error) {
		return db.AdmitDueTasks(ctx, a.MaxTasks)
	}),
	"admit_tasks": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (int, error) {
		return db.AdmitTasks(ctx, a.UserID)
	}),
	"sweep_tasks": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.SweepReport, error) {
		return db.SweepTasks(ctx, a.MaxTasks)
	}),
	"tick_ready_mark": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (bool, error) {
		return db.TickReadyMark(ctx, a.Whole)
	}),
	"orphaned_outputs": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (row, error) {
		folders, err := db.OrphanedOutputs(ctx, a.Folders)
		return row{"value": folders}, err // one row with a list
	}),
	"repair_generations": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.Generation, error) {
		return db.RepairGenerations(ctx, a.ProjectID, a.MaxTasks)
	}),
	"claim_for_silent_worker": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.Task, error) {
		task, found, err := db.ClaimForSilentWorker(ctx, a.WorkerID)
		if !found {
			return nil, err
		}
		return []taskdb.Task{task}, err
	}),
	"func_worker_heartbeat_with_logs": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (json.RawMessage, error) {
		return db.WorkerHeartbeat(ctx, taskdb.SilentHeartbeat{WorkerID: a.SilentWorker, VRAMTotalMB: a.VRAMTotal, VRAMUsedMB: a.VRAMUsed, Status: a.SilentStatus})
	}),
	"update_task_status": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (json.RawMessage, error) {
		return db.UpdateTaskStatus(ctx, taskdb.StatusReport{TaskID: a.TaskID, Status: a.Status, OutputLocation: a.OutputLocation, ErrorDetails: a.ErrorDetails})
	}),
	"check_completion": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Completable, error) {
		return db.CheckCompletion(ctx, a.TaskID, a.StoragePaths)
	}),
	"task_counts": of(func(ctx context.Context, db *taskdb.DB, _ *arguments) (json.RawMessage, error) {
		return db.TaskCounts(ctx)
	}),
	"get_predecessor_output": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (json.RawMessage, error) {
		return db.GetPredecessorOutput(ctx, a.TaskID)
	}),
	"get_completed_segments": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (json.RawMessage, error) {
		return db.GetCompletedSegments(ctx, a.RunID, a.ProjectID)
	}),
	"get_orchestrator_children": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (json.RawMessage, error) {
		return db.GetOrchestratorChildren(ctx, a.Orchestrator)
	}),
	"get_task_output": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (json.RawMessage, error) {
		return db.GetTaskOutput(ctx, a.TaskID)
	}),
	"get_task_status": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (json.RawMessage, error) {
		return db.GetTaskStatus(ctx, a.TaskID)
	}),
	"update_shot_pair_prompts": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (json.RawMessage, error) {
		return db.UpdateShotPairPrompts(ctx, a.TaskID, a.ShotID, a.Prompts)
	}),
	"update_worker_model": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (json.RawMessage, error) {
		return db.UpdateWorkerModel(ctx, a.WorkerID, a.Model)
	}),
	"due_erasures": of(func(ctx context.Context, db *taskdb.DB, _ *arguments) ([]taskdb.Erasure, error) {
		return db.DueErasures(ctx)
	}),
	"mark_erasure_swept": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Erasure, error) {
		return db.MarkErasureSwept(ctx, a.UserID)
	}),
	"purge_expired": of(func(ctx context.Context, db *taskdb.DB, _ *arguments) (int64, error) { return db.PurgeExpired(ctx) }),
	"erase_user": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (taskdb.Erasure, error) {
		return db.EraseUser(ctx, a.UserID)
	}),
	"list_audit": of(func(ctx context.Context, db *taskdb.DB, a *arguments) ([]taskdb.AuditEntry, error) {
		rows := 100
		if a.MaxRows != nil {
			rows = *a.MaxRows
		}
		return db.ListAudit(ctx, a.Target, rows, 0)
	}),
	"set_queue_limit": of(func(ctx context.Context, db *taskdb.DB, a *arguments) (int, error) {
		return db.SetQueueLimit(ctx, a.UserID, a.MaxQueued)
	}),
	"arm_event_bell": of(func(ctx context.Context, db *taskdb.DB, _ *arguments) (any, error) { return nil, db.ArmEventBell(ctx) }),
}

// duration reads the intervals of the scenarios, such as "90s", which SQL reads alike; "" is zero.
func duration(interval string) time.Duration {
	if interval == "" {
		return 0
	}
	d, err := time.ParseDuration(interval)
	if err != nil {
		panic(err)
	}
	return d
}
