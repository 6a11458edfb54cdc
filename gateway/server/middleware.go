package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/functions"
	"darkroom/gateway/objects"
	"darkroom/gateway/realtime"
	"darkroom/gateway/web"
)

// requestIDPattern is what a caller's own request id may look like; others are replaced.
var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// requestID gives each request an id, the caller's own where it has one, that the answer and the log carry.
func requestID(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(echo.HeaderXRequestID)
		if !requestIDPattern.MatchString(id) {
			id = uuid.NewString()
		}
		c.Response().Header().Set(echo.HeaderXRequestID, id)
		return next(c)
	}
}

// accessLog writes a line per request. Headers, query and body stay out of it: they hold keys and people's texts.
func (s *Server) accessLog(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := time.Now()
		if err := next(c); err != nil {
			c.Error(err) // answered here, so that the line has the status
		}
		level := slog.LevelInfo
		if c.Path() == pathHealth || c.Path() == pathReady {
			level = slog.LevelDebug
		}
		s.log.Log(c.Request().Context(), level, "request",
			"method", c.Request().Method, "path", c.Request().URL.Path, "status", c.Response().Status, "bytes", c.Response().Size,
			"ms", time.Since(began).Milliseconds(), "ip", c.RealIP(), "request_id", idOf(c))
		return nil
	}
}

func idOf(c echo.Context) string { return c.Response().Header().Get(echo.HeaderXRequestID) }

// recoverPanic turns a panic into an internal error: the stack goes to the log.
func (s *Server) recoverPanic(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			switch thrown := recover(); thrown {
			case nil:
			case http.ErrAbortHandler:
				panic(thrown)
			default:
				err = fmt.Errorf("panic: %v\n%s", thrown, debug.Stack())
			}
		}()
		return next(c)
	}
}

// securityHeaders tells browsers to take answers for what they are and to run, frame and keep nothing. Files set their own.
func securityHeaders(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		header := c.Response().Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-store")
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		return next(c)
	}
}

// limits bounds what one request may cost: its body, its time in the database, and how slowly its answer is read.
func limits(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if r := c.Request(); !objects.Owns(c.Path()) && !realtime.Streams(c.Path()) { // files and streams have limits of their own
			ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
			defer cancel()
			most := int64(maxBodyBytes)
			if c.Path() == functions.Path {
				most = functions.MaxBytes(c.Param("name"))
			}
			r = r.WithContext(ctx)
			r.Body = http.MaxBytesReader(c.Response(), r.Body, most)
			c.SetRequest(r)
		}
		// Not every writer has deadlines: a test's recorder has none.
		if err := http.NewResponseController(c.Response()).SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return fmt.Errorf("setting the deadline of the answer: %w", err)
		}
		return next(c)
	}
}

// openPaths begin the patterns of routes that are open to all: sign-in, public files, and addresses that carry a signature of their own.
var openPaths = []string{
	"/auth/v1/",
	"GET " + realtime.PathSocket, // finds out by itself: browsers send the key in the address
	"/storage/v1/object/public/", "/storage/v1/render/image/public/",
	"GET /storage/v1/object/sign/", "HEAD /storage/v1/object/sign/", "GET /storage/v1/render/image/sign/", "HEAD /storage/v1/render/image/sign/",
	"PUT /storage/v1/object/upload/sign/",
}

// isOpen reports whether a request needs no key. The pattern of the route decides, not what the caller wrote.
func isOpen(c echo.Context) bool {
	method, pattern := c.Request().Method, c.Path()
	if pattern == pathHealth || pattern == pathReady || method == http.MethodOptions || web.IsOpen(pattern) {
		return true
	}
	return slices.ContainsFunc(openPaths, func(prefix string) bool {
		return strings.HasPrefix(pattern, prefix) || strings.HasPrefix(method+" "+pattern, prefix)
	})
}
