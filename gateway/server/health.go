package server

import (
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/problem"
)

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
