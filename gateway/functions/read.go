package functions

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/problem"
	"darkroom/sql/taskdb"
)

const defaultGallery = 100

func (d *Door) getTask(c echo.Context) error {
	id, err := requireID("the id", c.Param("id"))
	if err != nil {
		return err
	}
	return answer(d, c, pgx.ReadOnly, func(db *taskdb.DB) (taskdb.Task, error) { return db.GetTask(c.Request().Context(), id) })
}

// listGenerations answers a list, newest first: of the project, or with shot_id of one shot of it.
func (d *Door) listGenerations(c echo.Context) error {
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
	return answer(d, c, pgx.ReadOnly, func(db *taskdb.DB) ([]taskdb.Generation, error) {
		list, err := db.ListGenerations(c.Request().Context(), gallery)
		if list == nil {
			list = []taskdb.Generation{} // [] and not null
		}
		return list, err
	})
}
