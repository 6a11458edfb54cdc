package dev

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
)

// door is what the console shows a newcomer and only `gateway dev` has: what to paste, and a button that kills a worker.
//
// It ends processes of this machine, so a caller needs the header Authorization of somebody who is signed in, or of the service, and pages of
// other sites are turned away even with that: by the Host that they called, in case their name leads here now, and by their Origin.
type door struct {
	crew  crew
	lines atomic.Pointer[lines]
}

// lines are what a run tells at its start, to be pasted into a shell.
type lines struct {
	PSQL string `json:"psql"`
	Curl string `json:"curl"`
}

// Routes implements the server's door.
func (d *door) Routes(e *echo.Echo) {
	group := e.Group("/dev", ownPagesOnly, signedInOnly)
	group.GET("/info", d.info)
	group.POST("/workers/:id/kill", d.kill)
}

func (d *door) info(c echo.Context) error {
	told := d.lines.Load()
	if told == nil {
		return problem.Refuse(problem.Unavailable, "This run is being started.")
	}
	return c.JSON(http.StatusOK, struct {
		lines

		Workers []workerState `json:"workers"`
	}{*told, d.crew.states()})
}

// kill ends a worker as a power cut would. It is started again once others have taken over what it did.
func (d *door) kill(c echo.Context) error {
	state, err := d.crew.kill(c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusAccepted, map[string]any{"id": state.ID, "pid": state.PID})
}

func signedInOnly(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if role := identity.Of(c).Role; role != identity.Authenticated && role != identity.Service {
			return problem.New("TD041", "Not allowed", "Only somebody who is signed in may do this.", "")
		}
		return next(c)
	}
}

func ownPagesOnly(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		request := c.Request()
		if !isLoopback(request.Host) {
			return problem.New("TD041", "Not allowed", "This is for this machine only, by the name localhost, 127.0.0.1 or ::1.", "")
		}
		if origins := request.Header.Values(echo.HeaderOrigin); len(origins) > 0 && !slices.Equal(origins, []string{"http://" + request.Host}) {
			return problem.New("TD041", "Not allowed", "This is for the console's own page only.", "")
		}
		return next(c)
	}
}

// isLoopback reports whether a Host, as a request has it, means this machine whatever a name server says.
func isLoopback(host string) bool {
	u, err := url.Parse("http://" + host)
	return err == nil && u.Host == host && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback())
}
