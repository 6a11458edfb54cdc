package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"

	"darkroom/sql/taskdb"
)

// Codes of what the gateway itself refuses. What SQL refuses has a code of class TD, what PostgreSQL refuses its SQLSTATE.
const (
	codeMalformed    = "GW001"
	codeMalformedID  = "GW002"
	codeUnauthorized = "GW003"
	codeNoRoute      = "GW004"
	codeNoFile       = "GW005"
	codeMethod       = "GW006"
	codeTooLarge     = "GW007"
	codeMediaType    = "GW008"
	codeRange        = "GW009"
	codeInternal     = "GW010"
	codeUnavailable  = "GW011"
)

// statusClientGone stands in the log for a caller that went away before its answer; nobody receives it.
const statusClientGone = 499

// httpStatus is the one table from error code to HTTP status. README.md shows it to users.
func httpStatus(code string) int {
	switch code {
	case codeMalformed, codeMalformedID, "TD001", "TD002", "TD003", "TD005", "TD006", "TD023":
		return http.StatusBadRequest
	case codeUnauthorized:
		return http.StatusUnauthorized
	case "TD010":
		return http.StatusPaymentRequired
	case codeNoRoute, codeNoFile, "TD020", "TD021", "TD022", "TD024", "TD025":
		return http.StatusNotFound
	case codeMethod:
		return http.StatusMethodNotAllowed
	case "TD030", "TD031", "TD032":
		return http.StatusConflict
	case codeTooLarge, "TD004":
		return http.StatusRequestEntityTooLarge
	case codeMediaType:
		return http.StatusUnsupportedMediaType
	case codeRange:
		return http.StatusRequestedRangeNotSatisfiable
	case codeUnavailable, "25006": // a standby: the primary is elsewhere
		return http.StatusServiceUnavailable
	case codeInternal, "TD050": // the database's settings are wrong, not the request
		return http.StatusInternalServerError
	}
	switch class(code) {
	case "22": // a value that can't be stored, such as \u0000 in a text
		return http.StatusBadRequest
	case "23":
		return http.StatusConflict
	case "54": // nested too deep, too long
		return http.StatusRequestEntityTooLarge
	case "08", "40", "53", "55", "57", "58": // no connection, deadlock, out of resources, locked, shutting down or timed out, disk
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// class is the class of an SQLSTATE, its first two characters.
func class(code string) string {
	if len(code) != 5 {
		return ""
	}
	return code[:2]
}

// problem is the body of every error, in the shape that supabase-js reads: all four keys are always there.
type problem struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Details *string `json:"details"`
	Hint    *string `json:"hint"`
}

// Error gives code and message, and makes a problem an error that handlers return.
func (p *problem) Error() string {
	if p.Details != nil {
		return fmt.Sprintf("%s: %s: %s", p.Code, p.Message, *p.Details)
	}
	return p.Code + ": " + p.Message
}

func newProblem(code, message, details, hint string) *problem {
	p := &problem{Code: code, Message: message}
	if details != "" {
		p.Details = &details
	}
	if hint != "" {
		p.Hint = &hint
	}
	return p
}

// refuse is the gateway's own refusal; details say what was wrong this time.
func refuse(code, details string) *problem {
	switch code {
	case codeMalformed:
		return newProblem(code, "Malformed request", details, "")
	case codeMalformedID:
		return newProblem(code, "Malformed id", details, "Ids look like 6f9619ff-8b86-d011-b42d-00c04fc964ff.")
	case codeUnauthorized:
		return newProblem(code, "Not authorized", details, "Send the service key as `Authorization: Bearer <key>` or `apikey: <key>`.")
	case codeNoRoute:
		return newProblem(code, "Nothing at this address", details, "The addresses stand in gateway/README.md.")
	case codeNoFile:
		return newProblem(code, "No such file", details, "")
	case codeMethod:
		return newProblem(code, "Method not allowed", details, "The header Allow lists those that are.")
	case codeTooLarge:
		return newProblem(code, "Body too large", fmt.Sprintf("A body may have up to %d bytes.", maxBodyBytes), "Upload large inputs and send their location.")
	case codeMediaType:
		return newProblem(code, "Unsupported media type", details, "Send JSON, with `Content-Type: application/json`.")
	case codeRange:
		return newProblem(code, "Range not satisfiable", details, "The header Content-Range has the file's size.")
	case codeUnavailable:
		return newProblem(code, "Temporarily unavailable", details, "Try again in a few seconds.")
	default:
		return newProblem(codeInternal, "Internal error", "", "The gateway's log has the reason under this answer's X-Request-Id.")
	}
}

// asProblem finds the answer to an error. What is not meant for callers becomes "Internal error" or "Temporarily unavailable".
func asProblem(err error) *problem {
	if known, ok := errors.AsType[*problem](err); ok {
		return known
	}
	if refusal, ok := errors.AsType[*taskdb.Error](err); ok {
		return newProblem(refusal.Code, refusal.Message, refusal.Detail, refusal.Hint)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch httpStatus(pg.Code) {
		case http.StatusBadRequest:
			return newProblem(pg.Code, "Invalid value", pg.Message, "") // speaks of the caller's own data
		case http.StatusConflict:
			return newProblem(pg.Code, "Conflict", "", "")
		case http.StatusRequestEntityTooLarge:
			return newProblem(pg.Code, "Too large or nested too deep", "", "Upload large inputs and send their location.")
		case http.StatusServiceUnavailable:
			return refuse(codeUnavailable, "The database can't answer just now.")
		}
		return refuse(codeInternal, "")
	}
	if isOutage(err) {
		return refuse(codeUnavailable, "The database does not answer.")
	}
	if web, ok := errors.AsType[*echo.HTTPError](err); ok {
		switch web.Code {
		case http.StatusNotFound:
			return refuse(codeNoRoute, "")
		case http.StatusMethodNotAllowed:
			return refuse(codeMethod, "")
		}
	}
	return refuse(codeInternal, "")
}

// isOutage reports whether the database could not be reached, or not in time.
func isOutage(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err)
}

// answerError writes the answer to an error, and logs what the caller is not told.
func (s *Server) answerError(err error, c echo.Context) {
	if c.Response().Committed {
		s.log.Warn("broken off after the answer had begun", "error", err, "request_id", idOf(c))
		return
	}
	if errors.Is(err, context.Canceled) && c.Request().Context().Err() != nil {
		c.Response().Status = statusClientGone
		return
	}
	p := asProblem(err)
	status := httpStatus(p.Code)
	switch status {
	case http.StatusInternalServerError:
		s.log.Error("internal error", "error", err, "path", c.Request().URL.Path, "request_id", idOf(c))
	case http.StatusServiceUnavailable:
		s.log.Warn("unavailable", "error", err, "path", c.Request().URL.Path, "request_id", idOf(c))
		c.Response().Header().Set(echo.HeaderRetryAfter, "2")
	}
	if c.Request().Method == http.MethodHead {
		err = c.NoContent(status)
	} else {
		err = c.JSON(status, p)
	}
	if err != nil {
		s.log.Debug("an error's answer was not written", "error", err, "request_id", idOf(c))
	}
}

func isTaken(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
