package functions

import (
	"encoding/json"
	"net/http"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/problem"
	"darkroom/sql/taskdb"
)

// createTask takes the spec's {project_id, tool_id, input} and the worker's {task_id, project_id, task_type, params, dependant_on}.
func (d *Door) createTask(c echo.Context) error {
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
	return answer(d, c, pgx.ReadWrite, func(db *taskdb.DB) (taskdb.Task, error) { return db.CreateTask(c.Request().Context(), task) })
}

func (d *Door) calculateTaskCost(c echo.Context) error {
	body, err := decode[struct {
		ToolID   string          `json:"tool_id"`
		Input    json.RawMessage `json:"input"`
		TaskType string          `json:"task_type"`
		Params   json.RawMessage `json:"params"`
	}](c)
	if err != nil {
		return err
	}
	cost, err := asked(d, c, pgx.ReadOnly, func(db *taskdb.DB) (taskdb.Credits, error) {
		return db.CalculateTaskCost(c.Request().Context(), taskdb.NewTask{
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

func (d *Door) cancelTask(c echo.Context) error {
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
	return answer(d, c, pgx.ReadWrite, func(db *taskdb.DB) (taskdb.Task, error) { return db.CancelTask(c.Request().Context(), id, body.Reason) })
}

// fence is what a worker says of the task it holds. Headless-Wan2GP knows neither worker nor attempt: then its token tells whether it is the holder.
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

func (d *Door) failTask(c echo.Context) error {
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
	return answer(d, c, pgx.ReadWrite, func(db *taskdb.DB) (taskdb.Task, error) {
		if body.Retryable {
			return db.RetryTask(c.Request().Context(), hold, body.ErrorMessage, 0)
		}
		return db.FailTask(c.Request().Context(), hold, body.ErrorMessage)
	})
}
