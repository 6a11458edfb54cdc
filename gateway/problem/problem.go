// Package problem is how the gateway says no: stable codes, their HTTP statuses, and the body in the shape that supabase-js reads.
//
// A handler returns a [*Error], or any error of the database; [From] finds the answer to it and [Write] sends it.
package problem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"

	"darkroom/sql/taskdb"
)

// Codes of what the gateway itself refuses. What SQL refuses has a code of class TD, what PostgreSQL refuses its SQLSTATE.
const (
	Malformed    = "GW001"
	MalformedID  = "GW002"
	Unauthorized = "GW003"
	NoRoute      = "GW004"
	NoFile       = "GW005"
	Method       = "GW006"
	TooLarge     = "GW007"
	MediaType    = "GW008"
	Range        = "GW009"
	Internal     = "GW010"
	Unavailable  = "GW011"
	TooMany      = "GW012"
	BadUpstream  = "GW013"
	NotOffered   = "GW030"
)

// statusClientGone stands in the log for a caller that went away before its answer; nobody receives it.
const statusClientGone = 499

// Status is the one table from error code to HTTP status; 500 for a code that it does not know. README.md shows it to users.
func Status(code string) int {
	switch code {
	case Malformed, MalformedID, "TD001", "TD002", "TD003", "TD005", "TD006", "TD023":
		return http.StatusBadRequest
	case Unauthorized, "TD040":
		return http.StatusUnauthorized
	case "TD041", "TD089":
		return http.StatusForbidden
	case "TD010":
		return http.StatusPaymentRequired
	case NoRoute, NoFile, "TD020", "TD021", "TD022", "TD024", "TD025", "TD026":
		return http.StatusNotFound
	case Method:
		return http.StatusMethodNotAllowed
	case "TD030", "TD031", "TD032", "TD033":
		return http.StatusConflict
	case "TD080", "TD090":
		return http.StatusGone
	case TooLarge, "TD004", "TD070":
		return http.StatusRequestEntityTooLarge
	case "TD071":
		return http.StatusLocked
	case MediaType:
		return http.StatusUnsupportedMediaType
	case Range:
		return http.StatusRequestedRangeNotSatisfiable
	case TooMany, "TD011":
		return http.StatusTooManyRequests
	case BadUpstream:
		return http.StatusBadGateway
	case NotOffered:
		return http.StatusNotImplemented
	case Unavailable, "25006": // a standby: the primary is elsewhere
		return http.StatusServiceUnavailable
	case Internal, "TD050": // the database's settings are wrong, not the request
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

// Error is the body of every error, in the shape that supabase-js reads: all four keys are always there.
type Error struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Details *string `json:"details"`
	Hint    *string `json:"hint"`
}

// Error gives code and message, and makes a problem an error that handlers return.
func (p *Error) Error() string {
	if p.Details != nil {
		return fmt.Sprintf("%s: %s: %s", p.Code, p.Message, *p.Details)
	}
	return p.Code + ": " + p.Message
}

// New makes an answer; details and hint may be "".
func New(code, message, details, hint string) *Error {
	p := &Error{Code: code, Message: message}
	if details != "" {
		p.Details = &details
	}
	if hint != "" {
		p.Hint = &hint
	}
	return p
}

// Refuse is the gateway's own refusal; details say what was wrong this time.
func Refuse(code, details string) *Error {
	switch code {
	case Malformed:
		return New(code, "Malformed request", details, "")
	case MalformedID:
		return New(code, "Malformed id", details, "Ids look like 6f9619ff-8b86-d011-b42d-00c04fc964ff.")
	case Unauthorized:
		return New(code, "Not authorized", details, "Send a key or an access token as `Authorization: Bearer <key>` or `apikey: <key>`.")
	case NoRoute:
		return New(code, "Nothing at this address", details, "The addresses stand in gateway/README.md.")
	case NoFile:
		return New(code, "No such file", details, "")
	case Method:
		return New(code, "Method not allowed", details, "The header Allow lists those that are.")
	case TooLarge:
		return New(code, "Body too large", details, "Upload large inputs and send their location.")
	case MediaType:
		return New(code, "Unsupported media type", details, "Send JSON, with `Content-Type: application/json`.")
	case Range:
		return New(code, "Range not satisfiable", details, "The header Content-Range has the file's size.")
	case NotOffered:
		return New(code, "Not offered", details, "What is offered stands in gateway/README.md.")
	case Unavailable:
		return New(code, "Temporarily unavailable", details, "Try again in a few seconds.")
	case TooMany:
		return New(code, "Too many requests", details, "The header Retry-After says in how many seconds to try again.")
	case BadUpstream:
		return New(code, "The server behind does not answer", details, "Try again in a few seconds.")
	default:
		return New(Internal, "Internal error", "", "The gateway's log has the reason under this answer's X-Request-Id.")
	}
}

// From finds the answer to an error. What is not meant for callers becomes "Internal error" or "Temporarily unavailable".
func From(err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	if refusal, ok := errors.AsType[*taskdb.Error](err); ok {
		return New(refusal.Code, refusal.Message, refusal.Detail, refusal.Hint)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		if strings.HasPrefix(pg.Code, "TD") { // from a COMMIT, of which package taskdb knows nothing
			return New(pg.Code, pg.Message, pg.Detail, pg.Hint)
		}
		switch Status(pg.Code) {
		case http.StatusBadRequest:
			return New(pg.Code, "Invalid value", pg.Message, "") // speaks of the caller's own data
		case http.StatusConflict:
			return New(pg.Code, "Conflict", "", "")
		case http.StatusRequestEntityTooLarge:
			return New(pg.Code, "Too large or nested too deep", "", "Upload large inputs and send their location.")
		case http.StatusServiceUnavailable:
			return Refuse(Unavailable, "The database can't answer just now.")
		}
		return Refuse(Internal, "")
	}
	if isOutage(err) {
		return Refuse(Unavailable, "The database does not answer.")
	}
	if web, ok := errors.AsType[*echo.HTTPError](err); ok {
		switch web.Code {
		case http.StatusNotFound:
			return Refuse(NoRoute, "")
		case http.StatusMethodNotAllowed:
			return Refuse(Method, "")
		}
	}
	return Refuse(Internal, "")
}

// isOutage reports whether the database could not be reached, or not in time.
func isOutage(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err)
}

// Codes are those of the gateway's own refusals.
func Codes() []string {
	return []string{
		Malformed, MalformedID, Unauthorized, NoRoute, NoFile, Method, TooLarge, MediaType, Range, Internal, Unavailable,
		TooMany, BadUpstream, NotOffered,
	}
}

// Write answers an error with a status and a body, in the shape of the surface that was called, and logs what the caller is not told. err is what the
// handler returned.
func Write(c echo.Context, log *slog.Logger, err error, status int, body any) {
	id := c.Response().Header().Get(echo.HeaderXRequestID)
	if c.Response().Committed {
		log.Warn("broken off after the answer had begun", "error", err, "request_id", id)
		return
	}
	if errors.Is(err, context.Canceled) && c.Request().Context().Err() != nil {
		c.Response().Status = statusClientGone
		return
	}
	switch status {
	case http.StatusInternalServerError:
		log.Error("internal error", "error", err, "path", c.Request().URL.Path, "request_id", id)
	case http.StatusBadGateway:
		log.Warn("the server behind does not answer", "error", err, "path", c.Request().URL.Path, "request_id", id)
	case http.StatusServiceUnavailable:
		log.Warn("unavailable", "error", err, "path", c.Request().URL.Path, "request_id", id)
		c.Response().Header().Set(echo.HeaderRetryAfter, "2")
	case http.StatusUnauthorized:
		c.Response().Header().Set(echo.HeaderWWWAuthenticate, "Bearer")
	}
	if c.Request().Method == http.MethodHead {
		err = c.NoContent(status)
	} else {
		err = c.JSON(status, body)
	}
	if err != nil {
		log.Debug("an error's answer was not written", "error", err, "request_id", id)
	}
}
