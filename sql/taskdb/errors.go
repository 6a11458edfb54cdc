package taskdb

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Error is a refusal by one of Darkroom's SQL functions. Codes are SQLSTATEs of the class TD; the table in sql/README.md has
// them all. Match with errors.Is and one of the Err values, which compares the code alone.
type Error struct {
	Code    string // SQLSTATE, e.g. TD010
	Message string // short and stable, e.g. "Insufficient credits"
	Detail  string // what was wrong this time
	Hint    string // what to do
}

// The refusals, by code.
var (
	ErrMissingFields       = &Error{Code: "TD001", Message: "Missing required fields"}
	ErrUnknownType         = &Error{Code: "TD002", Message: "Unknown task type"}
	ErrInvalidParams       = &Error{Code: "TD003", Message: "Invalid params"}
	ErrParamsTooLarge      = &Error{Code: "TD004", Message: "Params too large"}
	ErrInvalidAmount       = &Error{Code: "TD005", Message: "Invalid amount"}
	ErrMissingOutput       = &Error{Code: "TD006", Message: "Missing output"}
	ErrInsufficientCredits = &Error{Code: "TD010", Message: "Insufficient credits"}
	ErrTooManyQueued       = &Error{Code: "TD011", Message: "Too many queued tasks"}
	ErrProjectNotFound     = &Error{Code: "TD020", Message: "Project not found"}
	ErrTaskNotFound        = &Error{Code: "TD021", Message: "Task not found"}
	ErrUnknownWorker       = &Error{Code: "TD022", Message: "Unknown worker"}
	ErrInvalidDependency   = &Error{Code: "TD023", Message: "Invalid dependency"}
	ErrShotNotFound        = &Error{Code: "TD024", Message: "Shot not found"}
	ErrUserNotFound        = &Error{Code: "TD025", Message: "User not found"}
	ErrTokenNotFound       = &Error{Code: "TD026", Message: "Token not found"}
	ErrConflict            = &Error{Code: "TD030", Message: "Already created with another body"}
	ErrLeaseLost           = &Error{Code: "TD031", Message: "Lease lost"}
	ErrTaskEnded           = &Error{Code: "TD032", Message: "Task has ended"}
	ErrNothingToRetry      = &Error{Code: "TD033", Message: "Nothing to retry"}
	ErrNotSignedIn         = &Error{Code: "TD040", Message: "Not signed in"}
	ErrNotAllowed          = &Error{Code: "TD041", Message: "Not allowed"}
	ErrIsolation           = &Error{Code: "TD050", Message: "Wrong transaction isolation"}
	ErrStorageQuota        = &Error{Code: "TD070", Message: "Storage quota exceeded"}
	ErrObjectBusy          = &Error{Code: "TD071", Message: "Object is being written"}
	ErrErased              = &Error{Code: "TD080", Message: "User was erased"}
	ErrAppendOnly          = &Error{Code: "TD089", Message: "Append-only"}
	ErrEventsGone          = &Error{Code: "TD090", Message: "Events cannot be resumed"}
)

// Errors lists every refusal once, in the order of the codes.
func Errors() []*Error {
	return []*Error{
		ErrMissingFields,
		ErrUnknownType,
		ErrInvalidParams,
		ErrParamsTooLarge,
		ErrInvalidAmount,
		ErrMissingOutput,
		ErrInsufficientCredits,
		ErrTooManyQueued,
		ErrProjectNotFound,
		ErrTaskNotFound,
		ErrUnknownWorker,
		ErrInvalidDependency,
		ErrShotNotFound,
		ErrUserNotFound,
		ErrTokenNotFound,
		ErrConflict,
		ErrLeaseLost,
		ErrTaskEnded,
		ErrNothingToRetry,
		ErrNotSignedIn,
		ErrNotAllowed,
		ErrIsolation,
		ErrStorageQuota,
		ErrObjectBusy,
		ErrErased,
		ErrAppendOnly,
		ErrEventsGone,
	}
}

// Error gives code, message and detail in one line.
func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Code + ": " + e.Message
	}
	return fmt.Sprintf("%s: %s: %s", e.Code, e.Message, e.Detail)
}

// Is reports whether target is an Error of the same code.
func (e *Error) Is(target error) bool {
	var other *Error
	return errors.As(target, &other) && other.Code == e.Code
}

// asError turns what PostgreSQL answered into an *Error where one of our functions refused; other errors keep their type and get
// the name of the call.
func asError(call string, err error) error {
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && strings.HasPrefix(pg.Code, "TD") {
		return &Error{Code: pg.Code, Message: pg.Message, Detail: pg.Detail, Hint: pg.Hint}
	}
	return fmt.Errorf("taskdb: %s: %w", call, err)
}
