package server

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/problem"
	"darkroom/sql/taskdb"
)

const defaultGallery = 100

func (s *Server) getTask(c echo.Context) error {
	id, err := requireID("the id", c.Param("id"))
	if err != nil {
		return err
	}
	task, err := call(s, c, func(ctx context.Context, db *taskdb.DB) (taskdb.Task, error) { return db.GetTask(ctx, id) })
	return answer(c, task, err)
}

// listGenerations answers a list, newest first: of the project, or with shot_id of one shot of it.
func (s *Server) listGenerations(c echo.Context) error {
	gallery := taskdb.Gallery{MaxRows: defaultGallery}
	var err error
	if gallery.ProjectID, err = requireID("the project's id", c.Param("id")); err != nil {
		return err
	}
	if gallery.ShotID, err = parseID("shot_id", c.QueryParam("shot_id")); err != nil {
		return err
	}
	if text := c.QueryParam("limit"); text != "" {
		limit, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return problem.Refuse(problem.Malformed, fmt.Sprintf("limit is %q, which is not a number.", shortened(text)))
		}
		gallery.MaxRows = int(limit)
	}
	if text := c.QueryParam("older_than"); text != "" {
		text = strings.ReplaceAll(text, " ", "+") // a plus sign that was not escaped
		if gallery.OlderThan, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return problem.Refuse(problem.Malformed, fmt.Sprintf("older_than is %q, which is not a time such as 2026-01-31T12:00:00Z.", shortened(text)))
		}
	}
	list, err := call(s, c, func(ctx context.Context, db *taskdb.DB) ([]taskdb.Generation, error) {
		return db.ListGenerations(ctx, gallery)
	})
	if err == nil && list == nil {
		list = []taskdb.Generation{} // [] and not null
	}
	return answer(c, list, err)
}

func (s *Server) health(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]string{"status": "ok"})
}

// ready says yes when requests can be served: the database answers and is migrated, storage is there, and we are not stopping.
func (s *Server) ready(c echo.Context) error {
	if s.draining.Load() {
		return problem.Refuse(problem.Unavailable, "The gateway is stopping.")
	}
	ctx := c.Request().Context()
	pending, err := Pending(ctx, s.pool)
	if err != nil {
		return fmt.Errorf("%w: %w", problem.Refuse(problem.Unavailable, "The database does not answer."), err)
	}
	if len(pending) > 0 {
		return fmt.Errorf("%w: pending: %v", problem.Refuse(problem.Unavailable, "The database has migrations pending."), pending)
	}
	if err := s.bucket.Check(ctx); err != nil {
		return fmt.Errorf("%w: %w", problem.Refuse(problem.Unavailable, "The storage can't be reached."), err)
	}
	return c.JSON(http.StatusOK, map[string]string{"status": "ready"})
}
