package functions

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/problem"
	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
)

// publicPath stands in every address of a stored file. Workers look for it, and take what follows it as the file's key.
const publicPath = "/storage/v1/object/public/image_uploads/"

// completion is the body of complete_task: the spec's, or one of the three forms of Headless-Wan2GP: A with the file in it, B with the key of a file
// that was uploaded, C with a text or an address elsewhere.
type completion struct {
	fence

	OutputLocation string          `json:"output_location"`
	ThumbnailURL   string          `json:"thumbnail_url"`
	Metadata       json.RawMessage `json:"metadata"`
	Success        *bool           `json:"success"`
	ErrorMessage   string          `json:"error_message"`

	FileData           []byte `json:"file_data"`
	Filename           string `json:"filename"`
	FirstFrameData     []byte `json:"first_frame_data"`
	FirstFrameFilename string `json:"first_frame_filename"`

	StoragePath          string `json:"storage_path"`
	ThumbnailStoragePath string `json:"thumbnail_storage_path"`
}

// completeTask ends a task as complete, or with success false as failed. A repeat answers as the first did, also where a file was stored meanwhile.
func (d *Door) completeTask(c echo.Context) error {
	body, err := decode[completion](c)
	if err != nil {
		return err
	}
	hold, err := body.hold()
	if err != nil {
		return err
	}
	forms := 0
	for _, given := range []bool{body.FileData != nil, body.StoragePath != "", body.OutputLocation != ""} {
		if given {
			forms++
		}
	}
	if forms > 1 {
		return problem.Refuse(problem.Malformed, "Send one of file_data, storage_path and output_location.")
	}
	out := taskdb.Output{Location: body.OutputLocation, ThumbnailURL: body.ThumbnailURL, Metadata: orNone(body.Metadata)}
	failed := body.Success != nil && !*body.Success
	switch {
	case failed:
	case body.FileData != nil:
		out, err = d.storeOutput(c, hold, body, out)
	case body.StoragePath != "":
		out, err = d.findOutput(c, hold, body, out)
	}
	if err != nil {
		return err
	}
	task, err := asked(d, c, pgx.ReadWrite, func(db *taskdb.DB) (taskdb.Task, error) {
		if failed {
			return db.FailTask(c.Request().Context(), hold, body.ErrorMessage)
		}
		return db.CompleteTask(c.Request().Context(), hold, out)
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		taskdb.Task

		PublicURL *string `json:"public_url,omitempty"` // as Headless-Wan2GP reads it
	}{task, task.OutputLocation})
}

// storeOutput is form A. The key holds a hash of the bytes: so a repeat finds its file, and other bytes never meet it.
func (d *Door) storeOutput(c echo.Context, hold taskdb.Hold, body completion, out taskdb.Output) (taskdb.Output, error) {
	if len(body.FileData) == 0 {
		return out, problem.Refuse(problem.Malformed, "file_data is empty.")
	}
	task, err := d.completable(c, hold)
	if err != nil {
		return out, err
	}
	name := hashOf(body.FileData) + "/" + cleanName(body.Filename)
	if task.Status == taskdb.StatusComplete { // by this very file, or complete_task refuses it
		return repeated(task, func(key string) bool { return strings.HasSuffix(key, "/"+name) }, out, d.address(c, task.Folder+"/"+name)), nil
	}
	ctx := c.Request().Context()
	if err := d.store(ctx, task.Folder+"/"+name, body.FileData); err != nil {
		return out, err
	}
	out.Location = d.address(c, task.Folder+"/"+name)
	if len(body.FirstFrameData) > 0 {
		key := task.Folder + "/thumbnails/" + hashOf(body.FirstFrameData) + "/" + cleanName(body.FirstFrameFilename)
		if err := d.store(ctx, key, body.FirstFrameData); err != nil { // the result is good without it
			d.log.Warn("a thumbnail was not stored", "error", err, "task", hold.TaskID)
		} else {
			out.ThumbnailURL = d.address(c, key)
		}
	}
	return out, nil
}

// findOutput is form B. A path cut out of an address may be percent-encoded and have a query.
func (d *Door) findOutput(c echo.Context, hold taskdb.Hold, body completion, out taskdb.Output) (taskdb.Output, error) {
	key, ok := keyOf(body.StoragePath)
	if !ok {
		return out, problem.Refuse(problem.Malformed, "storage_path can't be the path of a stored file.")
	}
	task, err := d.completable(c, hold, key)
	if err != nil {
		return out, err
	}
	if task.Status == taskdb.StatusComplete {
		return repeated(task, func(stored string) bool { return stored == key }, out, d.address(c, key)), nil
	}
	ctx := c.Request().Context()
	switch _, err := d.bucket.Stat(ctx, key); {
	case errors.Is(err, storage.ErrNotFound):
		return out, problem.Refuse(problem.Malformed, "storage_path names a file that was not stored.")
	case err != nil:
		return out, storageFault(err)
	}
	out.Location = d.address(c, key)
	if thumbnail, ok := keyOf(body.ThumbnailStoragePath); ok { // uploads of thumbnails may have failed: the result is good without
		if _, err := d.bucket.Stat(ctx, thumbnail); err == nil {
			out.ThumbnailURL = d.address(c, thumbnail)
		}
	}
	return out, nil
}

// repeated is the output of a task that is Complete already: what stands there if that is the same file, whatever address the gateway had then.
func repeated(task taskdb.Completable, same func(key string) bool, out taskdb.Output, address string) taskdb.Output {
	out.Location = address
	if task.OutputLocation != nil {
		if key, ok := keyOf(*task.OutputLocation); ok && same(key) {
			out.Location = *task.OutputLocation
		}
	}
	return out
}

// completable asks whether the caller may complete the task, and with these files, before anything is stored or looked up.
func (d *Door) completable(c echo.Context, hold taskdb.Hold, keys ...string) (taskdb.Completable, error) {
	return asked(d, c, pgx.ReadOnly, func(db *taskdb.DB) (taskdb.Completable, error) {
		return db.CheckCompletion(c.Request().Context(), hold.TaskID, keys)
	})
}

// store writes a file under a key that depends on its bytes: what is there already is that file.
func (d *Door) store(ctx context.Context, key string, data []byte) error {
	_, err := d.bucket.Put(ctx, key, bytes.NewReader(data), int64(len(data)))
	switch {
	case err == nil, errors.Is(err, storage.ErrExists):
		return nil
	case errors.Is(err, storage.ErrMediaType):
		return problem.Refuse(problem.Malformed, "The file in the body can't be stored: "+storage.ErrMediaType.Error()+".")
	}
	return storageFault(err)
}

// storageFault lets the worker try again, so that its result is not thrown away.
func storageFault(err error) error {
	return fmt.Errorf("%w: %w", problem.Refuse(problem.Unavailable, "The storage can't be reached."), err)
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// keyOf is the key in an address of a stored file, or in what follows "image_uploads/" in one: a query is cut off, percent-encoding undone.
func keyOf(path string) (key string, ok bool) {
	if _, after, found := strings.Cut(path, publicPath); found {
		path = after
	}
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return "", false
	}
	key, err = storage.CleanKey(path)
	return key, err == nil
}

// address is where anybody gets a stored file.
func (d *Door) address(c echo.Context, key string) string { return storage.URL(d.base(c), key) }

// base is the gateway's public URL: as configured, else as the caller has found us. Forwarded headers count for nothing: anybody can send them.
func (d *Door) base(c echo.Context) string {
	if d.publicURL != "" {
		return d.publicURL
	}
	if c.Request().TLS != nil {
		return "https://" + c.Request().Host
	}
	return "http://" + c.Request().Host
}
