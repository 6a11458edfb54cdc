package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
	"darkroom/workerd/engine"
	"darkroom/workerd/worker"
)

// pictured is a PNG of one colour.
func pictured(t *testing.T, width, height int, c color.RGBA) []byte {
	t.Helper()
	picture := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range picture.Pix {
		picture.Pix[i] = []byte{c.R, c.G, c.B, c.A}[i%4]
	}
	var data bytes.Buffer
	must(t, png.Encode(&data, picture))
	return data.Bytes()
}

// previewOf is the address of the preview that the row of a task shows, "" when none.
func previewOf(t *testing.T, task taskdb.Task) string {
	t.Helper()
	var progress struct{ Preview string }
	if task.Progress != nil {
		must(t, json.Unmarshal(task.Progress, &progress))
	}
	return progress.Preview
}

// previews lists the keys of all previews in storage.
func (b *bundle) previews(t *testing.T) (keys []string) {
	t.Helper()
	objects, _, err := b.bucket.Page(t.Context(), "")
	must(t, err)
	for _, object := range objects {
		if folder, _ := storage.OutputFolder(object.Key); strings.HasSuffix(folder, "/previews") {
			keys = append(keys, object.Key)
		}
	}
	return keys
}

// gone waits until no preview is in storage.
func (b *bundle) gone(t *testing.T, task taskdb.Task) {
	t.Helper()
	b.eventually(t, task.ID, "without previews in storage", func(taskdb.Task) bool { return len(b.previews(t)) == 0 })
}

func TestTheRowShowsTheNewestPreview(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, started, end := blocked()
	b.run(t, nil, e)
	task := b.segment(t, 9)
	sink := await(t, "start", started)
	sink.Progress(engine.Progress{Value: 1, Max: 4, Phase: "drawing"})
	shown := ""
	for i, c := range []color.RGBA{{R: 250, A: 255}, {G: 250, A: 255}, {B: 250, A: 255}, {R: 250, G: 250, A: 255}} {
		sink.Preview(pictured(t, 1000, 500, c), "image/png")
		row := b.eventually(t, task.ID, "showing another preview", func(task taskdb.Task) bool {
			now := previewOf(t, task)
			return now != "" && now != shown
		})
		shown = previewOf(t, row)
		key, ours := storage.KeyFromURL(publicURL, shown)
		if !ours || key != storage.PreviewKey(b.owner, task.ID, 1, i+1) || !strings.Contains(string(row.Progress), `"drawing"`) {
			t.Fatalf("the row shows %s", row.Progress)
		}
		object, err := b.bucket.Get(t.Context(), key)
		must(t, err)
		picture, err := jpeg.Decode(object)
		must(t, errors.Join(err, object.Close()))
		r, g, blue, _ := picture.At(100, 100).RGBA()
		if picture.Bounds() != image.Rect(0, 0, 320, 160) || r>>8 > 8 != (c.R > 0) || g>>8 > 8 != (c.G > 0) || blue>>8 > 8 != (c.B > 0) {
			t.Errorf("preview %d is %v, of colour %d %d %d", i+1, picture.Bounds(), r>>8, g>>8, blue>>8)
		}
		b.eventually(t, task.ID, "down to two previews", func(taskdb.Task) bool { return len(b.previews(t)) <= 2 })
	}
	close(end)
	done := b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
	if strings.Contains(string(done.Progress), "preview") || !strings.Contains(string(done.Progress), `"drawing"`) {
		t.Errorf("after its end the row shows %s", done.Progress)
	}
	b.gone(t, task)
}

func TestNoPreviewOutlivesItsAttempt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end    func(t *testing.T, b *bundle, r *running, task taskdb.Task, fail chan<- error)
		status string
	}{
		"failed": {func(_ *testing.T, _ *bundle, _ *running, _ taskdb.Task, fail chan<- error) {
			fail <- engine.Errorf(engine.BadInput, "No.")
		}, taskdb.StatusFailed},
		"tried again": {func(_ *testing.T, _ *bundle, _ *running, _ taskdb.Task, fail chan<- error) {
			fail <- engine.Errorf(engine.EngineDown, "It is down.")
			fail <- nil
		}, taskdb.StatusComplete},
		"cancelled": {func(t *testing.T, b *bundle, _ *running, task taskdb.Task, _ chan<- error) {
			t.Helper()
			_, err := b.CancelTask(t.Context(), task.ID, "")
			must(t, err)
		}, taskdb.StatusCancelled},
		"given back": {func(t *testing.T, _ *bundle, r *running, _ taskdb.Task, _ chan<- error) {
			t.Helper()
			r.stop(worker.ErrNow)
			must(t, await(t, "end of the worker", r.ended))
		}, taskdb.StatusQueued},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			ends := make(chan error, 2)
			small := pictured(t, 64, 48, color.RGBA{R: 250, A: 255})
			r := b.run(t, nil, &fake{run: func(ctx context.Context, _ engine.Task, sink engine.Sink) error {
				sink.Preview(bytes.Clone(small), "image/png")
				select {
				case err := <-ends:
					return err
				case <-ctx.Done():
					return engine.Stopped(ctx)
				}
			}})
			task := b.segment(t, 9)
			b.eventually(t, task.ID, "showing a preview", func(task taskdb.Task) bool { return previewOf(t, task) != "" })
			test.end(t, b, r, task, ends)
			ended := b.eventually(t, task.ID, test.status, inStatus(test.status))
			if preview := previewOf(t, ended); preview != "" {
				t.Errorf("the row shows %s", preview)
			}
			b.gone(t, task)
		})
	}
}

func TestAPreviewThatCannotBeShownHarmsNothing(t *testing.T) {
	t.Parallel()
	for name, given := range map[string][]byte{
		"none": {}, "garbage": []byte("\x89PNG\r\n\x1a\ngarbage"), "a bomb": pictureBomb(), "too large": make([]byte, 17<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			e, started, end := blocked()
			b.run(t, nil, e)
			task := b.segment(t, 9)
			sink := await(t, "start", started)
			sink.Preview(given, "image/png")
			sink.Progress(engine.Progress{Value: 1, Max: 4, Phase: "drawing"})
			b.eventually(t, task.ID, "drawing", func(task taskdb.Task) bool { return strings.Contains(string(task.Progress), "drawing") })
			sink.Preview(pictured(t, 20, 10, color.RGBA{R: 250, A: 255}), "image/png")
			b.eventually(t, task.ID, "showing the next preview", func(task taskdb.Task) bool { return previewOf(t, task) != "" })
			close(end)
			done := b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
			if done.Attempt != 1 {
				t.Errorf("attempt %d", done.Attempt)
			}
			b.gone(t, task)
		})
	}
}

func TestPreviewsThatCannotBeStoredHarmNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	dir := t.TempDir()
	bucket, err := storage.Open(t.Context(), (&url.URL{Scheme: "file", Path: dir}).String())
	must(t, err)
	t.Cleanup(func() { must(t, bucket.Close()) })
	e, started, end := blocked()
	b.run(t, func(c *worker.Config) { c.Bucket = bucket }, &fake{types: []string{"single_image"}, run: e.run})
	task := b.image(t)
	sink := await(t, "start", started)
	inTheWay := filepath.Join(dir, filepath.Dir(storage.PreviewKey(b.owner, task.ID, 1, 1))) // a file where a folder should be
	must(t, os.MkdirAll(filepath.Dir(inTheWay), 0o700))
	must(t, os.WriteFile(inTheWay, nil, 0o600))
	sink.Preview(pictured(t, 20, 10, color.RGBA{R: 250, A: 255}), "image/png")
	sink.Progress(engine.Progress{Value: 1, Max: 4, Phase: "drawing"})
	b.eventually(t, task.ID, "drawing", func(task taskdb.Task) bool { return strings.Contains(string(task.Progress), "drawing") })
	close(end)
	done := b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
	if done.Attempt != 1 || previewOf(t, done) != "" {
		t.Errorf("attempt %d, %s", done.Attempt, done.Progress)
	}
}
