package objects

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/problem"
	"darkroom/gateway/storage"
)

// refusal is an error in the words of Supabase Storage, whose clients tell errors apart by its code.
type refusal struct {
	status     int // the true one
	code, name string
	message    string
	details    string
}

// Error implements [error].
func (r *refusal) Error() string { return r.code + ": " + r.message }

func (r *refusal) because(format string, args ...any) *refusal {
	with := *r
	with.details = fmt.Sprintf(format, args...)
	return &with
}

var (
	errNoObject   = &refusal{http.StatusNotFound, "NoSuchKey", "not_found", "Object not found", ""}
	errNoBucket   = &refusal{http.StatusNotFound, "NoSuchBucket", "Bucket not found", "Bucket not found", ""}
	errTaken      = &refusal{http.StatusConflict, "KeyAlreadyExists", "Duplicate", "The resource already exists", ""}
	errDenied     = &refusal{http.StatusForbidden, "AccessDenied", "Unauthorized", "You may not do this here", ""}
	errInvalidKey = &refusal{http.StatusBadRequest, "InvalidKey", "InvalidKey", "Invalid key", ""}
	errTooLarge   = &refusal{http.StatusRequestEntityTooLarge, "EntityTooLarge", "Payload too large", "The object exceeded the maximum allowed size", ""}
	errType       = &refusal{http.StatusUnsupportedMediaType, "InvalidMimeType", "invalid_mime_type", "The file is not of a type that may be stored", ""}
	errBadToken   = &refusal{http.StatusBadRequest, "InvalidJWT", "InvalidJWT", "The token is not one for this address", ""}
	errOldToken   = &refusal{http.StatusBadRequest, "InvalidJWT", "InvalidJWT", "The token has expired", ""}
	errRequest    = &refusal{http.StatusBadRequest, "InvalidRequest", "InvalidRequest", "Malformed request", ""}
)

const allowedTypes = "PNG, JPEG, WebP, GIF and AVIF images, MP4, WebM and QuickTime videos, WAV and MP3 sounds may be stored."

// body is what storage-js reads, and details and hint as all errors of the gateway have them.
type body struct {
	StatusCode string  `json:"statusCode"` //nolint:tagliatelle // Supabase's
	Error      string  `json:"error"`
	Code       string  `json:"code"`
	Message    string  `json:"message"`
	Details    *string `json:"details"`
	Hint       *string `json:"hint"`
}

// explain finds the answer to an error, and its true status.
func explain(err error) (body, int) {
	known := storeError(err)
	if r, ok := errors.AsType[*refusal](known); ok {
		p := problem.New(r.code, r.message, r.details, "")
		return body{strconv.Itoa(r.status), r.name, p.Code, p.Message, p.Details, p.Hint}, r.status
	}
	p := problem.From(known)
	status := problem.Status(p.Code)
	return body{strconv.Itoa(status), http.StatusText(status), p.Code, p.Message, p.Details, p.Hint}, status
}

// storeError gives errors of the store and of our functions their answers.
func storeError(err error) error {
	switch {
	case errors.Is(err, storage.ErrKey):
		return errInvalidKey.because("A key has segments of letters, digits and _!-.*'() &$@=;:+, between single slashes.")
	case errors.Is(err, storage.ErrNotFound):
		return errNoObject
	case errors.Is(err, storage.ErrExists):
		return errTaken
	case errors.Is(err, storage.ErrInTheWay):
		return errTaken.because("A file and a folder cannot have one name.")
	case errors.Is(err, storage.ErrTooLarge):
		return errTooLarge
	case errors.Is(err, storage.ErrMediaType):
		return errType.because(allowedTypes)
	case errors.Is(err, storage.ErrFull):
		return problem.Refuse(problem.Unavailable, "The storage is full.")
	case errors.Is(err, errToken):
		return errBadToken
	case errors.Is(err, errTokenExpired):
		return errOldToken
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(pg.Code, "TD") {
		return problem.New(pg.Code, pg.Message, pg.Detail, pg.Hint)
	}
	return err
}

// exactly is how a request wants its errors: as Supabase does, with 400 for what the caller did wrong and the true status in the body, or with
// the true status, for those who look at nothing else.
type exactly bool

func (d *Door) answerError(c echo.Context, err error, exact exactly) {
	answer, status := explain(err)
	shown := status
	if !exact && status > http.StatusBadRequest && status < http.StatusInternalServerError && status != http.StatusUnauthorized {
		shown = http.StatusBadRequest
	}
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	problem.Write(c, d.log, err, shown, answer)
}

// handle makes a handler answer its own errors.
func (d *Door) handle(exact exactly, h echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := h(c); err != nil {
			d.answerError(c, err, exact)
		}
		return nil
	}
}
