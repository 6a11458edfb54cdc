package objects

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
	"darkroom/gateway/storage"
)

const (
	// DefaultMaxUpload is the largest upload of a user, in bytes, unless a setting says otherwise.
	DefaultMaxUpload = 50 << 20

	maxOutputBytes = 4 << 30 // of a worker's file; workerd has the same limit
	maxJSONBytes   = 2 << 20

	callTimeout = time.Minute // of all but files; a removal of many takes its time
	fileTimeout = time.Hour   // of a file on its way out
)

// Config is what a Door needs.
type Config struct {
	Bucket    *storage.Bucket
	DB        *identity.DB
	Signer    *Signer
	MaxUpload int64 // of a user's file, in bytes
	Log       *slog.Logger
}

// Door answers /storage/v1. It is safe for concurrent use.
type Door struct {
	bucket    *storage.Bucket
	db        *identity.DB
	signer    *Signer
	maxUpload int64
	log       *slog.Logger

	patience patience
}

// New makes a Door. [Door.Run] has to run beside it.
func New(config Config) *Door {
	return &Door{
		bucket: config.Bucket, db: config.DB, signer: config.Signer, maxUpload: config.MaxUpload, log: config.Log,
		patience: patience{idle: 30 * time.Second, start: time.Minute, bytesPerSecond: 64 << 10, margin: time.Minute},
	}
}

// Routes adds the addresses. They set their own limits of size and time: those of the server must leave requests alone that [Owns] knows.
func (d *Door) Routes(e *echo.Echo) {
	const named = "/:bucket/*"
	g := e.Group(prefix)
	files := []string{http.MethodGet, http.MethodHead}

	// For everybody who has the address. The true status is for browsers and caches, and for workers, which know no other.
	g.Match(files, "/object/public"+named, d.handle(true, d.public))
	g.Match(files, "/object/sign"+named, d.handle(true, d.signed))
	g.PUT("/object/upload/sign"+named, d.handle(true, d.signedUpload))

	known := g.Group("", d.signedIn)
	known.Match(files, "/object"+named, d.handle(false, d.download))
	known.Match(files, "/object/authenticated"+named, d.handle(false, d.download))
	known.Match(files, "/object/info"+named, d.handle(false, d.info))
	known.POST("/object"+named, d.handle(false, d.upload))
	known.PUT("/object"+named, d.handle(false, d.upload))
	known.DELETE("/object"+named, d.handle(false, d.removeOne))
	known.DELETE("/object/:bucket", d.handle(false, d.remove))
	known.POST("/object/sign"+named, d.handle(false, d.sign))
	known.POST("/object/sign/:bucket", d.handle(false, d.signMany))
	known.POST("/object/upload/sign"+named, d.handle(false, d.signUpload))
	known.POST("/object/list/:bucket", d.handle(false, d.list))
	known.POST("/object/list-v2/:bucket", d.handle(false, notOffered)) // or it would be an upload to a bucket of that name
	known.POST("/object/copy", d.handle(false, d.copy))
	known.POST("/object/move", d.handle(false, d.move))
	known.GET("/bucket", d.handle(false, d.buckets))
	known.GET("/bucket/:bucket", d.handle(false, d.describeBucket))

	g.Any("", d.handle(false, notOffered))
	g.Any("/*", d.handle(false, notOffered))
}

// Owns says whether a path is one of this package's: then limits, deadlines and refusals are its own.
func Owns(path string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

// NeedsNoKey says whether a request may come without a key: for public and signed files.
func NeedsNoKey(method, path string) bool {
	switch method {
	case http.MethodGet, http.MethodHead:
		return strings.HasPrefix(path, prefix+"/object/public/") || strings.HasPrefix(path, prefix+"/object/sign/")
	case http.MethodPut:
		return strings.HasPrefix(path, prefix+"/object/upload/sign/")
	}
	return false
}

// signedIn refuses requests of nobody.
func (d *Door) signedIn(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if identity.Of(c).Role == "" {
			d.answerError(c, problem.Refuse(problem.Unauthorized, ""), false)
			return nil
		}
		return next(c)
	}
}

// notOffered names what is asked for.
func notOffered(c echo.Context) error {
	return problem.Refuse(problem.NotOffered, c.Request().Method+" "+c.Request().URL.Path+" is not offered.")
}

// keyOf returns the key that a route's address ends with, else errNoBucket or errInvalidKey.
func keyOf(c echo.Context, route string) (string, error) {
	escaped, ok := strings.CutPrefix(c.Request().URL.EscapedPath(), prefix+route+"/"+bucketName+"/")
	if !ok {
		return "", errNoBucket
	}
	key, ok := storage.KeyFromPath(escaped)
	if !ok {
		return "", storage.ErrKey
	}
	return key, nil
}

// mayRead says whether somebody reads this object by who he is.
func mayRead(who identity.Identity, key string) bool {
	switch who.Role {
	case identity.Service:
		return true
	case identity.Authenticated:
		return isOf(who.Subject, key)
	case identity.Anon, identity.Worker:
	}
	return false
}

// mayWrite refuses those who may not store or delete an object. Below a task nothing is ever replaced or deleted.
func mayWrite(who identity.Identity, key string, create bool) error {
	switch {
	case who.Role == identity.Service && (create || !storage.OfTask(key)):
		return nil
	case who.Role == identity.Authenticated && isOf(who.Subject, key) && !storage.OfTask(key):
		return nil
	case who.Role == identity.Service || who.Role == identity.Authenticated && isOf(who.Subject, key):
		return errDenied.because("Files of tasks never change.")
	case who.Role == identity.Authenticated:
		return errDenied.because("Users write below %s/ only.", who.Subject)
	}
	return errDenied
}

func isOf(user uuid.UUID, key string) bool {
	return user != uuid.Nil && strings.HasPrefix(key, user.String()+"/")
}

// mayStoreOutput refuses workers that do not run the attempt whose folder the key is in.
func (d *Door) mayStoreOutput(ctx context.Context, who identity.Identity, key string) error {
	if _, ok := storage.OutputFolder(key); !ok {
		return errDenied.because("Workers store below {owner}/tasks/{task}/{attempt}/ only.")
	}
	parts := strings.SplitN(key, "/", 5)
	attempt, err := strconv.ParseInt(parts[3], 10, 32)
	if err != nil {
		return errDenied
	}
	holds := false
	err = d.db.As(ctx, who, pgx.ReadOnly, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, "select auth.holds_attempt(owner_id => $1, task_id => $2, attempt => $3)", parts[0], parts[2], attempt).Scan(&holds) //nolint:wrapcheck // answered as it is
	})
	if err == nil && !holds {
		return errDenied.because("The worker does not run this attempt.")
	}
	return err
}

// decode reads a JSON body. Fields that it does not know are passed over.
func decode[T any](c echo.Context) (T, error) {
	var into T
	deadlines := http.NewResponseController(c.Response())
	_ = deadlines.SetReadDeadline(time.Now().Add(callTimeout)) // not every connection has deadlines: a test's recorder has none
	_ = deadlines.SetWriteDeadline(time.Now().Add(2 * callTimeout))
	data, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, maxJSONBytes))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return into, errTooLarge.because("The request has more than %d bytes.", maxJSONBytes)
		}
		return into, errRequest.because("The body did not arrive whole.")
	}
	if len(data) == 0 {
		return into, nil
	}
	if err := json.Unmarshal(data, &into); err != nil {
		return into, errRequest.because("The body is not JSON of the right shape.")
	}
	return into, nil
}

// inBucket is errNoBucket for every name but that of the one bucket.
func inBucket(name string) error {
	if name != bucketName {
		return errNoBucket
	}
	return nil
}

func (d *Door) bucketInfo() map[string]any {
	return map[string]any{
		"id": bucketName, "name": bucketName, "owner": "", "public": true, "type": "STANDARD", "file_size_limit": d.maxUpload,
		"allowed_mime_types": []string{
			"image/png", "image/jpeg", "image/webp", "image/gif", "image/avif", "video/mp4", "video/webm", "video/quicktime", "audio/wav", "audio/mpeg",
		},
	}
}

func (d *Door) buckets(c echo.Context) error { return c.JSON(http.StatusOK, []any{d.bucketInfo()}) }

func (d *Door) describeBucket(c echo.Context) error {
	if err := inBucket(c.Param("bucket")); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, d.bucketInfo())
}
