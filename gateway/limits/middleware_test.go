package limits_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/limits"
	"darkroom/gateway/problem"
	"darkroom/sql/taskdbtest"
)

// door is an Echo with a limiter before it, that answers 200 to everything. Callers say who they are by headers.
type door struct {
	*gateway

	t    *testing.T
	echo *echo.Echo
}

func newDoor(t *testing.T, settings limits.Settings) *door {
	t.Helper()
	d := &door{gateway: newGateway(t, taskdbtest.New(t).Login(t, "authenticator"), settings), t: t, echo: echo.New()}
	d.echo.IPExtractor = echo.ExtractIPDirect()
	d.echo.HTTPErrorHandler = func(err error, c echo.Context) {
		p := problem.From(err)
		status := problem.Status(p.Code)
		must(t, c.JSON(status, problem.Shape(c.Request().URL.Path, status, p)))
	}
	who := func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			h := c.Request().Header
			subject, _ := uuid.Parse(h.Get("Subject"))
			identity.Set(c, identity.Identity{Role: identity.Role(h.Get("Role")), Subject: subject, Key: h.Get("Key")})
			return next(c)
		}
	}
	d.echo.Use(d.ByAddress(func(r *http.Request) bool { return r.Header.Get("Role") == string(identity.Service) }), who, d.ByCaller)
	d.echo.Any("/*", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
	d.echo.POST("/sign-in", func(c echo.Context) error {
		if err := d.SignIn(c, c.QueryParam("email")); err != nil {
			return err
		}
		return c.NoContent(http.StatusOK)
	})
	return d
}

// send sends a request such as "GET /tasks" from an address, as a caller given by header names and values.
func (d *door) send(request, address string, header ...string) *httptest.ResponseRecorder {
	method, target, _ := strings.Cut(request, " ")
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = address
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.echo.ServeHTTP(w, r)
	return w
}

const (
	here  = "192.0.2.1:5000"
	there = "192.0.2.2:5000"
)

// slow has two requests and no more for as long as a test takes.
var slow = limits.Rate{PerSecond: 0.01, Burst: 2}

// want wants so many requests to pass and the next one to be refused; -1 is all of them.
func (d *door) want(passes int, request, address string, header ...string) {
	d.t.Helper()
	const many = 6
	for i := range many {
		w := d.send(request, address, header...)
		switch refused := passes >= 0 && i >= passes; {
		case !refused && w.Code != http.StatusOK:
			d.t.Fatalf("%s from %s as %v: request %d: %d %s", request, address, header, i, w.Code, w.Body)
		case refused:
			seconds, err := strconv.Atoi(w.Header().Get("Retry-After"))
			if w.Code != http.StatusTooManyRequests || err != nil || seconds < 1 || !strings.Contains(w.Body.String(), "Too many requests") {
				d.t.Fatalf("%s from %s as %v: request %d: %d, Retry-After %d (%v), %s", request, address, header, i, w.Code, seconds, err, w.Body)
			}
			return
		}
	}
}

func TestS24EachKeyOwnerAndAddressHasItsLimit(t *testing.T) {
	t.Parallel()
	alice, bob := uuid.NewString(), uuid.NewString()
	d := newDoor(t, limits.Settings{Key: slow})
	d.want(2, "GET /tasks", here, "Role", "authenticated", "Key", "user:"+alice, "Subject", alice)
	d.want(2, "GET /tasks", here, "Role", "authenticated", "Key", "token:1", "Subject", alice)
	d.want(0, "GET /tasks", here, "Role", "authenticated", "Key", "token:2", "Subject", alice) // her third key: together they have twice as many
	d.want(2, "GET /tasks", here, "Role", "authenticated", "Key", "user:"+bob, "Subject", bob)
	d.want(2, "GET /tasks", here, "Role", "worker", "Key", "token:3") // a worker of nobody's
	d.want(2, "GET /tasks", there, "Role", "worker", "Key", "token:4")
	d.want(0, "GET /tasks", there, "Role", "worker", "Key", "token:3")
	d.want(-1, "GET /tasks", here, "Role", "service_role", "Key", "service")
	d.want(-1, "GET /tasks", here, "Role", "anon", "Key", "anon") // told apart by address

	byAddress := newDoor(t, limits.Settings{Address: slow})
	byAddress.want(2, "GET /tasks", here, "Role", "anon")
	byAddress.want(0, "GET /tasks", "192.0.2.1:6000", "Role", "authenticated", "Key", "user:"+bob, "Subject", bob)
	byAddress.want(2, "GET /tasks", there)
	byAddress.want(-1, "GET /tasks", here, "Role", "service_role")
	byAddress.want(-1, "GET /healthz", here)
	byAddress.want(2, "GET /tasks", "[2001:db8:1:2:3::1]:5000")
	byAddress.want(0, "GET /tasks", "[2001:db8:1:2:4::9]:5000") // the same customer
	byAddress.want(2, "GET /tasks", "[2001:db8:1:3::1]:5000")
	byAddress.want(0, "GET /tasks", "[::ffff:192.0.2.1]:5000") // an IPv4 address in disguise
}

// Work that is done must not be thrown away: contract of the workers, section 4.
func TestS24WhatFinishesATaskIsNeverLimited(t *testing.T) {
	t.Parallel()
	d := newDoor(t, limits.Settings{Key: slow, Address: slow})
	worker := []string{"Role", "worker", "Key", "token:1", "Subject", uuid.NewString()}
	d.want(2, "POST /functions/v1/claim-next-task", here, worker...)
	for _, request := range []string{
		"POST /functions/v1/complete_task", "POST /functions/v1/complete-task", "POST /functions/v1/process-completed-task",
		"POST /functions/v1/update-task-status", "POST /functions/v1/fail_task", "POST /functions/v1/generate-upload-url", "POST /functions/v1/release-task",
		"POST /rest/v1/rpc/complete_task", "POST /rest/v1/rpc/complete_tasks", "POST /rest/v1/rpc/process_completed_task", "POST /rest/v1/rpc/fail_task",
		"POST /rest/v1/rpc/func_worker_heartbeat_with_logs", "POST /rest/v1/rpc/heartbeat_worker", "POST /rest/v1/rpc/report_progress",
		"PUT /storage/v1/object/upload/sign/image_uploads/a/b.png?token=x",
	} {
		d.want(-1, request, here, worker...)
	}
	for _, request := range []string{
		"POST /functions/v1/create-task", "POST /functions/v1/complete_task/", "POST /functions/v1/complete_task/../create_task", "GET /functions/v1/complete_task",
		"POST /rest/v1/complete_task", "PUT /storage/v1/object/image_uploads/a.png", "POST /functions/v1/rpc/complete_task", "POST /rest/v1/rpc/create_task",
	} {
		d.want(0, request, here, worker...)
	}
}

// The shapes of the surfaces: supabase-surface, sections 2 and 4; auth-js reads code, error_code and msg.
func TestARefusalHasTheShapeOfItsSurface(t *testing.T) {
	t.Parallel()
	d := newDoor(t, limits.Settings{Address: slow})
	d.want(2, "GET /", here)
	for path, want := range map[string]string{
		"/rest/v1/tasks":                      `{"code":"GW012","message":"Too many requests","details":"This address sends too many requests.","hint":"The header Retry-After says in how many seconds to try again."}`,
		"/functions/v1/create_task":           `{"code":"GW012","message":"Too many requests","details":"This address sends too many requests.","hint":"The header Retry-After says in how many seconds to try again."}`,
		"/auth/v1/token?grant_type=password":  `{"code":429,"error_code":"over_request_rate_limit","msg":"Too many requests"}`,
		"/storage/v1/object/image_uploads/a.": `"statusCode":"429","error":"Too Many Requests"`,
	} {
		w := d.send("GET "+path, here)
		if w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s, want %s", path, w.Code, w.Body, want)
		}
	}
}

func TestSignInIsTriedTenTimesForAnEmailAndThirtyFromAnAddress(t *testing.T) {
	t.Parallel()
	d := newDoor(t, limits.Settings{})
	tries := func(address, email string) (passed int) {
		for range 40 {
			w := d.send("POST /sign-in?email="+email, address)
			if w.Code != http.StatusOK {
				if seconds, err := strconv.Atoi(w.Header().Get("Retry-After")); w.Code != http.StatusTooManyRequests || err != nil || seconds < 1 || seconds > 300 {
					t.Errorf("%d, Retry-After %d (%v)", w.Code, seconds, err)
				}
				return passed
			}
			passed++
		}
		return passed
	}
	if got := tries(here, "alice@example.com"); got != 10 {
		t.Errorf("%d tries of one e-mail address, want 10", got)
	}
	if got := tries(there, "%20ALICE@example.com"); got != 0 {
		t.Errorf("%d more from elsewhere, want none", got)
	}
	if got := tries(here, "bob@example.com"); got != 10 {
		t.Errorf("%d tries of another, want 10", got)
	}
	// 22 are used up: those that were refused for the e-mail address counted for the address
	for _, want := range []int{8, 0} {
		passed := 0
		for i := range 20 {
			if d.send(fmt.Sprintf("POST /sign-in?email=%d-%d@example.com", want, i), here).Code == http.StatusOK {
				passed++
			}
		}
		if passed != want {
			t.Errorf("%d tries of more e-mail addresses, want %d", passed, want)
		}
	}
}

// A caller whose request ended while it waited for its turn is not served.
func TestARequestThatIsGoneDoesNotWait(t *testing.T) {
	t.Parallel()
	g := newGateway(t, taskdbtest.New(t).Login(t, "authenticator"), limits.Settings{})
	rate := limits.Rate{PerSecond: 2, Burst: 1}
	g.Take(t.Context(), "x", rate)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, ok := g.Take(ctx, "x", rate); ok || time.Since(began) > 400*time.Millisecond {
		t.Errorf("served %v after %s", ok, time.Since(began))
	}
}

// S24. Who may be limited by address may not choose the address.
func TestS24AClientCannotChooseItsAddress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		proxies               []string
		from, forwarded, want string
	}{
		{nil, "192.0.2.1:1", "198.51.100.1", "192.0.2.1"},
		{nil, "127.0.0.1:1", "198.51.100.1", "127.0.0.1"},
		{[]string{"192.0.2.0/24"}, "192.0.2.1:1", "198.51.100.1", "198.51.100.1"},
		{[]string{"192.0.2.1"}, "192.0.2.1:1", "198.51.100.1", "198.51.100.1"},
		{[]string{"192.0.2.1"}, "192.0.2.2:1", "198.51.100.1", "192.0.2.2"},
		{[]string{"192.0.2.0/24"}, "192.0.2.1:1", "203.0.113.9, 198.51.100.1", "198.51.100.1"}, // the first is what the client made up
		{[]string{"192.0.2.0/24", "10.0.0.0/8"}, "192.0.2.1:1", "203.0.113.9, 198.51.100.1, 10.1.2.3", "198.51.100.1"},
		{[]string{"192.0.2.0/24"}, "10.0.0.1:1", "198.51.100.1", "10.0.0.1"}, // private is not trusted by itself
		{[]string{"192.0.2.0/24"}, "127.0.0.1:1", "198.51.100.1", "127.0.0.1"},
		{[]string{"2001:db8::/32"}, "[2001:db8::1]:1", "2001:db9::5", "2001:db9::5"},
	} {
		extract, err := limits.ClientAddress(test.proxies)
		must(t, err)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = test.from
		r.Header.Set("X-Forwarded-For", test.forwarded)
		r.Header.Set("X-Real-IP", "203.0.113.77")
		if got := extract(r); got != test.want {
			t.Errorf("from %s by %s, trusting %v: %s, want %s", test.from, test.forwarded, test.proxies, got, test.want)
		}
	}
	for _, wrong := range []string{"10.0.0.0/33", "example.com", "10.0.0"} {
		if _, err := limits.ClientAddress([]string{wrong}); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}
