package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
	"darkroom/sql/taskdb"
)

// Workers that speak HTTP don't register and send no heartbeats; one that is unknown at its first claim is taken for this.
const (
	capabilityWan2GP = "wan2gp"
	silentLease      = 30 * time.Minute
)

// function finds the function that the address names. Its names are fixed; `-` and `_` are one.
func (s *Server) function(c echo.Context) error {
	switch strings.ReplaceAll(c.Param("name"), "-", "_") {
	case "create_task":
		return s.createTask(c)
	case "calculate_task_cost":
		return s.calculateTaskCost(c)
	case "claim_next_task":
		return s.claimNextTask(c)
	case "process_completed_task", "complete_task":
		return s.processCompletedTask(c)
	case "fail_task":
		return s.failTask(c)
	case "cancel_task":
		return s.cancelTask(c)
	}
	return problem.Refuse(problem.NoRoute, "There is no function of this name.")
}

// createTask takes the spec's {project_id, tool_id, input} and the worker's {task_id, project_id, task_type, params, dependant_on}.
func (s *Server) createTask(c echo.Context) error {
	body, err := decode[struct {
		ProjectID      string          `json:"project_id"`
		ToolID         string          `json:"tool_id"`
		Input          json.RawMessage `json:"input"`
		TaskID         string          `json:"task_id"`
		TaskType       string          `json:"task_type"`
		Params         json.RawMessage `json:"params"`
		DependantOn    oneOrMany       `json:"dependant_on"`
		IdempotencyKey string          `json:"idempotency_key"`
	}](c)
	if err != nil {
		return err
	}
	task := taskdb.NewTask{
		ToolID: body.ToolID, Input: orNone(body.Input), TaskType: body.TaskType, Params: orNone(body.Params), IdempotencyKey: body.IdempotencyKey,
	}
	if header := c.Request().Header.Get("Idempotency-Key"); header != "" {
		if task.IdempotencyKey != "" && task.IdempotencyKey != header {
			return problem.Refuse(problem.Malformed, "The header Idempotency-Key and the field idempotency_key differ.")
		}
		task.IdempotencyKey = header
	}
	if task.ProjectID, err = parseID("project_id", body.ProjectID); err != nil {
		return err
	}
	if task.TaskID, err = parseID("task_id", body.TaskID); err != nil {
		return err
	}
	for _, text := range body.DependantOn {
		dependency, err := requireID("dependant_on", text)
		if err != nil {
			return err
		}
		task.DependantOn = append(task.DependantOn, dependency)
	}
	created, err := call(s, c, func(ctx context.Context, db *taskdb.DB) (taskdb.Task, error) { return db.CreateTask(ctx, task) })
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, created) // never 201: Headless-Wan2GP takes only 200 for a success
}

func (s *Server) calculateTaskCost(c echo.Context) error {
	body, err := decode[struct {
		ToolID   string          `json:"tool_id"`
		Input    json.RawMessage `json:"input"`
		TaskType string          `json:"task_type"`
		Params   json.RawMessage `json:"params"`
	}](c)
	if err != nil {
		return err
	}
	cost, err := call(s, c, func(ctx context.Context, db *taskdb.DB) (taskdb.Credits, error) {
		return db.CalculateTaskCost(ctx, taskdb.NewTask{
			ToolID: body.ToolID, Input: orNone(body.Input), TaskType: body.TaskType, Params: orNone(body.Params),
		})
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		Cost taskdb.Credits `json:"cost"`
	}{cost})
}

// claimed is the answer to a claim. The first four fields are those that Headless-Wan2GP reads.
type claimed struct {
	TaskID      uuid.UUID       `json:"task_id"`
	Params      json.RawMessage `json:"params"`
	TaskType    string          `json:"task_type"`
	ProjectID   uuid.UUID       `json:"project_id"`
	WorkerID    string          `json:"worker_id"`
	Attempt     int             `json:"attempt"`
	DependantOn []uuid.UUID     `json:"dependant_on"`
}

// claimNextTask answers 204 when there is nothing to do. A worker that is unknown is made known at its first claim.
func (s *Server) claimNextTask(c echo.Context) error {
	body, err := decode[struct {
		WorkerID string `json:"worker_id"`
	}](c)
	if err != nil {
		return err
	}
	if body.WorkerID == "" {
		return missing("worker_id")
	}
	found := false
	claim := func(ctx context.Context, db *taskdb.DB) (task taskdb.Task, err error) {
		task, found, err = db.ClaimNextTask(ctx, body.WorkerID)
		return task, err
	}
	task, err := call(s, c, claim)
	if errors.Is(err, taskdb.ErrUnknownWorker) {
		if _, err = call(s, c, func(ctx context.Context, db *taskdb.DB) (taskdb.Worker, error) {
			return db.RegisterWorker(ctx, taskdb.Registration{
				WorkerID: body.WorkerID, Capabilities: []string{capabilityWan2GP}, LeaseTimeout: silentLease, IfUnknown: true,
			})
		}); err != nil {
			return err
		}
		task, err = call(s, c, claim)
	}
	if err != nil {
		return err
	}
	if !found {
		return c.NoContent(http.StatusNoContent)
	}
	return c.JSON(http.StatusOK, claimed{
		TaskID: task.ID, Params: task.Params, TaskType: task.TaskType, ProjectID: task.ProjectID,
		WorkerID: body.WorkerID, Attempt: task.Attempt, DependantOn: task.DependantOn,
	})
}

// fence is what a worker says of the task it holds. Headless-Wan2GP knows neither worker nor attempt: then the holder is meant.
type fence struct {
	TaskID   string `json:"task_id"`
	WorkerID string `json:"worker_id"`
	Attempt  *int32 `json:"attempt"`
}

func (f fence) hold() (taskdb.Hold, error) {
	id, err := requireID("task_id", f.TaskID)
	hold := taskdb.Hold{TaskID: id, WorkerID: f.WorkerID}
	if err == nil && f.Attempt != nil {
		if hold.Attempt = int(*f.Attempt); hold.Attempt < 1 {
			return hold, problem.Refuse(problem.Malformed, "attempt must be the number that the claim gave, 1 or more.")
		}
	}
	return hold, err
}

// result is what became of a task, as process_completed_task takes it.
type result struct {
	OutputLocation string          `json:"output_location,omitempty"`
	ThumbnailURL   string          `json:"thumbnail_url,omitempty"`
	Metadata       json.RawMessage `json:"metadata,omitempty"`
	Success        *bool           `json:"success,omitempty"`
	ErrorMessage   string          `json:"error_message,omitempty"`
}

// processCompletedTask ends a task as complete, or with success false as failed.
func (s *Server) processCompletedTask(c echo.Context) error {
	body, err := decode[struct {
		fence
		result

		FileData    json.RawMessage `json:"file_data"`
		StoragePath json.RawMessage `json:"storage_path"`
	}](c)
	if err != nil {
		return err
	}
	hold, err := body.hold()
	if err != nil {
		return err
	}
	if body.FileData != nil || body.StoragePath != nil {
		return problem.Refuse(problem.Malformed, "file_data and storage_path are not taken yet: store the file and send its output_location.")
	}
	body.Metadata = orNone(body.Metadata)
	output, err := json.Marshal(body.result)
	if err != nil {
		return fmt.Errorf("output of a task: %w", err)
	}
	task, err := call(s, c, func(ctx context.Context, db *taskdb.DB) (taskdb.Task, error) {
		return db.ProcessCompletedTask(ctx, hold, output)
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		taskdb.Task

		PublicURL *string `json:"public_url,omitempty"` // as Headless-Wan2GP reads it
	}{task, task.OutputLocation})
}

func (s *Server) failTask(c echo.Context) error {
	body, err := decode[struct {
		fence

		ErrorMessage string `json:"error_message"`
		Retryable    bool   `json:"retryable"`
	}](c)
	if err != nil {
		return err
	}
	hold, err := body.hold()
	if err != nil {
		return err
	}
	task, err := call(s, c, func(ctx context.Context, db *taskdb.DB) (taskdb.Task, error) {
		if body.Retryable {
			return db.RetryTask(ctx, hold, body.ErrorMessage, 0)
		}
		return db.FailTask(ctx, hold, body.ErrorMessage)
	})
	return answer(c, task, err)
}

func (s *Server) cancelTask(c echo.Context) error {
	body, err := decode[struct {
		TaskID string `json:"task_id"`
		Reason string `json:"reason"`
	}](c)
	if err != nil {
		return err
	}
	id, err := requireID("task_id", body.TaskID)
	if err != nil {
		return err
	}
	task, err := call(s, c, func(ctx context.Context, db *taskdb.DB) (taskdb.Task, error) {
		return db.CancelTask(ctx, id, body.Reason)
	})
	return answer(c, task, err)
}

// call runs do in the database as the caller, in a transaction.
func call[T any](s *Server, c echo.Context, do func(ctx context.Context, db *taskdb.DB) (T, error)) (answer T, err error) {
	ctx := c.Request().Context()
	err = s.as.As(ctx, identity.Of(c), pgx.ReadWrite, func(tx pgx.Tx) (err error) {
		answer, err = do(ctx, taskdb.New(tx))
		return err
	})
	return answer, err
}

// answer writes what the database returned.
func answer[T any](c echo.Context, row T, err error) error {
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, row)
}
