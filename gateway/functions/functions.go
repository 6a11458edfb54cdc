// Package functions is the door /functions/v1/{name}: what apps and GPU workers ask by name, each name one call of an SQL function as the
// caller. `-` and `_` in a name are one. Workers are those of Headless-Wan2GP, unmodified, which know neither workers nor attempts: their
// token tells whose a task is. Two addresses for apps stand beside it: /tasks/{id} and /projects/{id}/generations.
//
// Success is always 200, because these workers take no other status for one, and 204 for a claim that found nothing.
package functions

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
)

// Path is the address of the functions, as Echo has it.
const Path = "/functions/v1/:name"

const (
	maxBodyBytes       = 2 << 20 // params may have 1 MiB
	maxCompletionBytes = 8 << 20 // a file of under 2 MiB and its first frame, in base64; older workers send larger ones
)

// Signer makes addresses to which anybody may PUT one new file, of up to maxBytes, until they expire. The base is the gateway's public URL.
type Signer interface {
	UploadURL(base, key string, expires time.Duration, maxBytes int64) string
}

// Config is what a Door needs.
type Config struct {
	DB     *identity.DB
	Bucket *storage.Bucket
	Signer Signer
	// PublicURL is where callers find the gateway, for the addresses of files, such as https://tasks.example.com. "": as each request says,
	// by its Host.
	PublicURL string
	Log       *slog.Logger
}

// Door answers the functions. It is safe for concurrent use.
type Door struct {
	as        *identity.DB
	bucket    *storage.Bucket
	signer    Signer
	publicURL string
	log       *slog.Logger
	handlers  map[string]func(*Door, echo.Context) error
}

// New makes a door.
func New(config Config) *Door {
	return &Door{
		as: config.DB, bucket: config.Bucket, signer: config.Signer, publicURL: strings.TrimRight(config.PublicURL, "/"), log: config.Log,
		handlers: map[string]func(*Door, echo.Context) error{
			// apps
			"create_task":         (*Door).createTask, // and workers, in the trees that they run
			"calculate_task_cost": (*Door).calculateTaskCost,
			"cancel_task":         (*Door).cancelTask,
			// workers
			"task_counts":               (*Door).taskCounts,
			"claim_next_task":           (*Door).claimNextTask,
			"complete_task":             (*Door).completeTask,
			"process_completed_task":    (*Door).completeTask,
			"fail_task":                 (*Door).failTask,
			"generate_upload_url":       (*Door).generateUploadURL,
			"update_task_status":        (*Door).updateTaskStatus,
			"get_predecessor_output":    (*Door).getPredecessorOutput,
			"get_completed_segments":    (*Door).getCompletedSegments,
			"get_orchestrator_children": (*Door).getOrchestratorChildren,
			"get_task_output":           (*Door).getTaskOutput,
			"get_task_status":           (*Door).getTaskStatus,
			"update_shot_pair_prompts":  (*Door).updateShotPairPrompts,
			"update_worker_model":       (*Door).updateWorkerModel,
		},
	}
}

// Routes adds the door's addresses.
func (d *Door) Routes(e *echo.Echo) {
	e.POST(Path, d.answering(d.function))
	e.GET("/tasks/:id", d.answering(d.getTask))
	e.GET("/projects/:id/generations", d.answering(d.listGenerations))
}

// MaxBytes is how large the body of a request to an address below /functions/v1/ may be, by the function's name.
func MaxBytes(name string) int64 {
	switch spelled(name) {
	case "complete_task", "process_completed_task":
		return maxCompletionBytes
	}
	return maxBodyBytes
}

// spelled is the one spelling of a function's name.
func spelled(name string) string { return strings.ReplaceAll(name, "-", "_") }

func (d *Door) function(c echo.Context) error {
	handle, known := d.handlers[spelled(c.Param("name"))]
	if !known {
		return problem.Refuse(problem.NoRoute, "There is no function of this name.")
	}
	return handle(d, c)
}

// answering writes the answer to an error in the shape of all our own addresses.
func (d *Door) answering(handle echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := handle(c); err != nil {
			p := refusal(identity.Of(c), err)
			problem.Write(c, d.log, err, problem.Status(p.Code), p)
		}
		return nil
	}
}

// refusal is the answer to an error. That a role may not call a function is PostgreSQL's own word, and no fault of ours.
func refusal(who identity.Identity, err error) *problem.Error {
	const insufficientPrivilege = "42501"
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok || pg.Code != insufficientPrivilege:
		return problem.From(err)
	case who.Role == identity.Anon:
		return problem.New(taskdb.ErrNotSignedIn.Code, taskdb.ErrNotSignedIn.Message, "This needs a user or a token.", "")
	}
	return problem.New(taskdb.ErrNotAllowed.Code, taskdb.ErrNotAllowed.Message, "This function is not for callers of your kind.", "")
}

// asked runs one call of the database as the caller and gives its result.
func asked[T any](d *Door, c echo.Context, access pgx.TxAccessMode, call func(db *taskdb.DB) (T, error)) (T, error) {
	var result T
	err := d.as.As(c.Request().Context(), identity.Of(c), access, func(tx pgx.Tx) (err error) {
		result, err = call(taskdb.New(tx))
		return err
	})
	return result, err //nolint:wrapcheck // refusal reads it as it is
}

// answer runs one call as the caller and answers what it gives.
func answer[T any](d *Door, c echo.Context, access pgx.TxAccessMode, call func(db *taskdb.DB) (T, error)) error {
	result, err := asked(d, c, access, call)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, result) // never 201: Headless-Wan2GP takes only 200 for a success
}
