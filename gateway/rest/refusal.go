package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
)

// Codes of PostgREST, which its clients know. https://docs.postgrest.org/en/stable/references/errors.html
const (
	codeNoDatabase    = "PGRST001"
	codeBusy          = "PGRST003"
	codeQuery         = "PGRST100"
	codeMethodOfRPC   = "PGRST101"
	codeBody          = "PGRST102"
	codeRange         = "PGRST103"
	codeSchema        = "PGRST106"
	codeMedia         = "PGRST107"
	codeSingle        = "PGRST116"
	codeMethod        = "PGRST117"
	codePreference    = "PGRST122"
	codeAggregate     = "PGRST123"
	codeMaxAffected   = "PGRST124"
	codePath          = "PGRST125"
	codeRoot          = "PGRST126"
	codeFeature       = "PGRST127"
	codeFunction      = "PGRST202"
	codeOverload      = "PGRST203"
	codeColumn        = "PGRST204"
	codeTable         = "PGRST205"
	codeToken         = "PGRST301"
	codeAnswer        = "PGRST128" // not PostgREST's: the answer is too large
	codeNoWhere       = "21000"    // as the extension safeupdate says it, which Supabase loads
	codeUnknownColumn = "42703"
	codeUndefined     = "42883"
	codeDenied        = "42501"
)

// refusal is an answer with its status.
type refusal struct {
	status int
	body   *problem.Error
}

func (r *refusal) Error() string { return r.body.Error() }

// refuse makes a refusal that names what is refused; details and hint may be "".
func refuse(code, message, details, hint string) error {
	return &refusal{status: statusOf(code), body: problem.New(code, message, details, hint)}
}

// unserved refuses a part of the dialect that this door does not speak.
func unserved(feature string) error {
	return refuse(codeFeature, "Feature not implemented: "+feature, "", "What is served stands in gateway/rest/README.md.")
}

// badQuery refuses a query parameter.
func badQuery(format string, args ...any) error {
	return refuse(codeQuery, fmt.Sprintf(format, args...), "", "")
}

func statusOf(code string) int {
	switch code {
	case codeNoDatabase:
		return http.StatusServiceUnavailable
	case codeBusy:
		return http.StatusGatewayTimeout
	case codeMethodOfRPC, codeMethod, "25006":
		return http.StatusMethodNotAllowed
	case codeRange:
		return http.StatusRequestedRangeNotSatisfiable
	case codeDenied:
		return http.StatusForbidden
	case codeSchema, codeMedia, codeSingle:
		return http.StatusNotAcceptable
	case codePath, codeRoot, codeFunction, codeTable, codeUndefined, "42P01":
		return http.StatusNotFound
	case codeOverload:
		return http.StatusMultipleChoices
	case codeToken:
		return http.StatusUnauthorized
	case codeAnswer:
		return http.StatusRequestEntityTooLarge
	case "23503", "23505":
		return http.StatusConflict
	case "P0001":
		return http.StatusBadRequest
	case "53400":
		return http.StatusInternalServerError
	}
	if rest, ok := strings.CutPrefix(code, "PT"); ok {
		if status, err := strconv.Atoi(rest); err == nil && status >= http.StatusBadRequest && status < 600 {
			return status
		}
		return http.StatusInternalServerError
	}
	if strings.HasPrefix(code, "TD") || strings.HasPrefix(code, "GW") {
		return problem.Status(code)
	}
	if len(code) != 5 {
		return http.StatusBadRequest
	}
	switch code[:2] {
	case "54": // the caller's own value nests too deep or is too long; PostgREST says 500
		return http.StatusRequestEntityTooLarge
	case "40", "55", "57", "58", "XX", "P0":
		return http.StatusInternalServerError
	case "08", "53":
		return http.StatusServiceUnavailable
	case "28", "0L", "0P":
		return http.StatusForbidden
	}
	return http.StatusBadRequest
}

// Answer is the status and body with which this door answers an error, also one that was met before the request came here. who made the request.
func Answer(err error, who identity.Identity) (int, *problem.Error) {
	if known, ok := errors.AsType[*refusal](err); ok {
		return known.status, known.body
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return answerPostgres(pg, who)
	}
	if errors.Is(err, identity.ErrBusy) {
		return statusOf(codeBusy), problem.New(codeBusy, "Timed out acquiring connection from connection pool.", "", "Try again in a few seconds.")
	}
	if web, ok := errors.AsType[*echo.HTTPError](err); ok && web.Code == http.StatusNotFound {
		return http.StatusNotFound, problem.New(codePath, "Invalid path specified in request URL", "", "")
	}
	p := problem.From(err)
	switch p.Code {
	case problem.Unauthorized:
		p.Code = codeToken
		return http.StatusUnauthorized, p
	case problem.Unavailable:
		p.Code = codeNoDatabase
		return http.StatusServiceUnavailable, p
	}
	return problem.Status(p.Code), p
}

// answerPostgres passes on what the database refused. What is no fault of the caller keeps its code only.
func answerPostgres(pg *pgconn.PgError, who identity.Identity) (int, *problem.Error) {
	status := statusOf(pg.Code)
	if pg.Code == codeDenied && (who.Role == identity.Anon || who.Role == "") {
		status = http.StatusUnauthorized
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "XX", "58", "F0", "08":
		return status, problem.New(pg.Code, "Internal error", "", "The gateway's log has the reason under this answer's X-Request-Id.")
	}
	return status, problem.New(pg.Code, pg.Message, pg.Detail, pg.Hint)
}

// write answers an error.
func (d *Door) write(c echo.Context, err error) {
	if errors.Is(err, context.DeadlineExceeded) && c.Request().Context().Err() != nil {
		err = fmt.Errorf("%w: %w", problem.Refuse(problem.Unavailable, "The database did not answer in time."), err)
	}
	status, body := Answer(err, identity.Of(c))
	problem.Write(c, d.log, err, status, body)
}
