package functions

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
)

const (
	uploadTime        = 2 * time.Hour // Headless-Wan2GP gives one PUT 600 s, and tries three times
	maxUploadBytes    = 4 << 30       // as workerd's own
	maxThumbnailBytes = 16 << 20
)

// uploadAddress is the answer to generate_upload_url.
type uploadAddress struct {
	UploadURL            string    `json:"upload_url"`
	StoragePath          string    `json:"storage_path"`
	ThumbnailUploadURL   string    `json:"thumbnail_upload_url,omitempty"`
	ThumbnailStoragePath string    `json:"thumbnail_storage_path,omitempty"`
	Token                string    `json:"token"`
	ExpiresAt            time.Time `json:"expires_at"`
}

// generateUploadURL gives the holder of a task an address to PUT a file to, below the folder of its attempt. Each call makes a name of its own: nothing
// is ever written over, and a worker that asks again because an answer was lost starts afresh.
func (d *Door) generateUploadURL(c echo.Context) error {
	body, err := decode[struct {
		fence

		Filename             string `json:"filename"`
		GenerateThumbnailURL bool   `json:"generate_thumbnail_url"`
	}](c)
	if err != nil {
		return err
	}
	hold, err := body.hold()
	if err != nil {
		return err
	}
	if body.Filename == "" {
		return missing("filename")
	}
	task, err := d.completable(c, hold)
	if err != nil {
		return err
	}
	if task.Status == taskdb.StatusComplete {
		return &taskdb.Error{Code: taskdb.ErrTaskEnded.Code, Message: taskdb.ErrTaskEnded.Message, Detail: "The task is Complete: it takes no more files."}
	}

	part := strings.ToLower(rand.Text()[:10])
	name := cleanName(body.Filename)
	answer := uploadAddress{StoragePath: task.Folder + "/" + part + "/" + name, ExpiresAt: time.Now().Add(uploadTime).UTC().Truncate(time.Second)}
	answer.UploadURL = d.signer.UploadURL(d.base(c), answer.StoragePath, uploadTime, maxUploadBytes)
	if body.GenerateThumbnailURL {
		answer.ThumbnailStoragePath = task.Folder + "/thumbnails/" + part + "/" + strings.TrimSuffix(name, path.Ext(name)) + ".jpg"
		answer.ThumbnailUploadURL = d.signer.UploadURL(d.base(c), answer.ThumbnailStoragePath, uploadTime, maxThumbnailBytes)
	}
	if u, err := url.Parse(answer.UploadURL); err == nil {
		answer.Token = u.Query().Get("token")
	}
	return c.JSON(http.StatusOK, answer)
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_.\-]+`)

// cleanName makes a name for storage of what a worker calls its file: the last part of a path, with a dash for what a key can not have, and short.
func cleanName(name string) string {
	const most = 100
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.TrimLeft(notInNames.ReplaceAllString(name, "-"), ".-")
	if len(name) > most {
		name = strings.TrimLeft(name[len(name)-most:], ".-")
	}
	if _, err := storage.CleanKey(name); err != nil {
		return "file"
	}
	return name
}
