package functions

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"darkroom/sql/taskdb"
)

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
func (d *Door) claimNextTask(c echo.Context) error {
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
	task, err := asked(d, c, pgx.ReadWrite, func(db *taskdb.DB) (task taskdb.Task, err error) {
		task, found, err = db.ClaimForSilentWorker(c.Request().Context(), body.WorkerID)
		return task, err
	})
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

// taskCounts has a body that says nothing to us: the caller's token tells what may be counted.
func (d *Door) taskCounts(c echo.Context) error {
	return answer(d, c, pgx.ReadOnly, func(db *taskdb.DB) (json.RawMessage, error) { return db.TaskCounts(c.Request().Context()) })
}

// updateTaskStatus takes the reports of workers. What W26 adds to them (attempts, clear_worker), and reset_generation_started_at, say nothing that the
// database does not know: it counts attempts itself, and each report of the holder counts as a sign of life.
func (d *Door) updateTaskStatus(c echo.Context) error {
	body, err := decode[struct {
		TaskID         string `json:"task_id"`
		Status         string `json:"status"`
		OutputLocation string `json:"output_location"`
		ThumbnailURL   string `json:"thumbnail_url"`
		ErrorDetails   string `json:"error_details"`
		ErrorMessage   string `json:"error_message"`
	}](c)
	if err != nil {
		return err
	}
	id, err := requireID("task_id", body.TaskID)
	if err != nil {
		return err
	}
	if body.ErrorDetails == "" {
		body.ErrorDetails = body.ErrorMessage
	}
	return answer(d, c, pgx.ReadWrite, func(db *taskdb.DB) (json.RawMessage, error) {
		return db.UpdateTaskStatus(c.Request().Context(), taskdb.StatusReport{
			TaskID: id, Status: body.Status, OutputLocation: body.OutputLocation, ThumbnailURL: body.ThumbnailURL, ErrorDetails: body.ErrorDetails,
		})
	})
}

// readTask answers what the database says of the task that one field of the body names.
func (d *Door) readTask(c echo.Context, field string, read func(db *taskdb.DB, ctx context.Context, id uuid.UUID) (json.RawMessage, error)) error {
	body, err := decode[map[string]json.RawMessage](c)
	if err != nil {
		return err
	}
	var text string
	if given := orNone(body[field]); given != nil {
		if err := json.Unmarshal(given, &text); err != nil {
			return notAText(field)
		}
	}
	id, err := requireID(field, text)
	if err != nil {
		return err
	}
	return answer(d, c, pgx.ReadOnly, func(db *taskdb.DB) (json.RawMessage, error) { return read(db, c.Request().Context(), id) })
}

func (d *Door) getPredecessorOutput(c echo.Context) error {
	return d.readTask(c, "task_id", (*taskdb.DB).GetPredecessorOutput)
}

func (d *Door) getTaskOutput(c echo.Context) error {
	return d.readTask(c, "task_id", (*taskdb.DB).GetTaskOutput)
}

func (d *Door) getTaskStatus(c echo.Context) error {
	return d.readTask(c, "task_id", (*taskdb.DB).GetTaskStatus)
}

func (d *Door) getOrchestratorChildren(c echo.Context) error {
	return d.readTask(c, "orchestrator_task_id", (*taskdb.DB).GetOrchestratorChildren)
}

func (d *Door) getCompletedSegments(c echo.Context) error {
	body, err := decode[struct {
		RunID     string `json:"run_id"`
		ProjectID string `json:"project_id"`
	}](c)
	if err != nil {
		return err
	}
	project, err := parseID("project_id", body.ProjectID)
	if err != nil {
		return err
	}
	return answer(d, c, pgx.ReadOnly, func(db *taskdb.DB) (json.RawMessage, error) {
		return db.GetCompletedSegments(c.Request().Context(), body.RunID, project)
	})
}

func (d *Door) updateShotPairPrompts(c echo.Context) error {
	body, err := decode[struct {
		ShotID          string          `json:"shot_id"`
		TaskID          string          `json:"task_id"`
		EnhancedPrompts json.RawMessage `json:"enhanced_prompts"`
	}](c)
	if err != nil {
		return err
	}
	shot, err := requireID("shot_id", body.ShotID)
	if err != nil {
		return err
	}
	task, err := requireID("task_id", body.TaskID)
	if err != nil {
		return err
	}
	return answer(d, c, pgx.ReadWrite, func(db *taskdb.DB) (json.RawMessage, error) {
		return db.UpdateShotPairPrompts(c.Request().Context(), task, shot, orNone(body.EnhancedPrompts))
	})
}

func (d *Door) updateWorkerModel(c echo.Context) error {
	body, err := decode[struct {
		WorkerID string `json:"worker_id"`
		Model    string `json:"model"`
	}](c)
	if err != nil {
		return err
	}
	if body.WorkerID == "" {
		return missing("worker_id")
	}
	return answer(d, c, pgx.ReadWrite, func(db *taskdb.DB) (json.RawMessage, error) {
		return db.UpdateWorkerModel(c.Request().Context(), body.WorkerID, body.Model)
	})
}
