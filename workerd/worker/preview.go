package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
	"darkroom/workerd/media"
)

const (
	// maxPreviewBytes is how large a stored preview may be; a picture that hardly compresses has half of it.
	maxPreviewBytes = 256 << 10
	// maxGivenBytes is how large a preview an engine may give.
	maxGivenBytes = 16 << 20
	// keptPreviews is how many of them are kept while the task runs: whoever has just read the row still finds the one before the newest.
	keptPreviews = 2

	storePreview  = 10 * time.Second // for one
	removePreview = 30 * time.Second // for all that a task leaves
)

// Preview implements [engine.Sink]. Only the newest one is ever shown.
func (s sink) Preview(data []byte, _ string) {
	if len(data) > maxGivenBytes {
		return
	}
	s.job.mu.Lock()
	s.job.picture = data
	s.job.mu.Unlock()
	ring(s.job.pictured)
}

// show stores previews of a job while its engine gives some, until ctx ends, and has its progress name the newest. They are worth no trouble: one
// that can't be shown is left out.
func (w *Worker) show(ctx context.Context, j *job, task taskdb.Task, log *slog.Logger) {
	for number := 1; ; number++ {
		select {
		case <-ctx.Done():
			return
		case <-j.pictured:
		}
		if err := w.showOne(ctx, j, task, number); err != nil && ctx.Err() == nil {
			log.InfoContext(ctx, "a preview is not shown", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.PreviewEvery):
		}
	}
}

func (w *Worker) showOne(ctx context.Context, j *job, task taskdb.Task, number int) error {
	j.mu.Lock()
	given := j.picture
	j.picture = nil
	j.mu.Unlock()
	small, err := media.SmallPicture(given)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storePreview)
	defer cancel()
	key := storage.PreviewKey(task.OwnerID, task.ID, task.Attempt, number)
	j.previews = append(j.previews, key) // a write that fails may still have stored it
	if _, err := w.Bucket.Put(ctx, key, bytes.NewReader(small), maxPreviewBytes); err != nil {
		return err
	}
	j.mu.Lock()
	j.frame.Preview = storage.URL(w.PublicURL, key)
	j.mu.Unlock()
	ring(j.changed)
	if older := len(j.previews) - keptPreviews; older > 0 {
		err = w.remove(ctx, j.previews[:older])
		j.previews = j.previews[older:]
	}
	return err
}

// forget deletes the previews of a job that has ended. It returns at once; [Worker.Run] waits for it. What stays is an orphan, see [keeper.Files].
func (w *Worker) forget(ctx context.Context, j *job, log *slog.Logger) {
	if len(j.previews) == 0 {
		return
	}
	w.forgetting.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removePreview)
		defer cancel()
		if err := w.remove(ctx, j.previews); err != nil {
			log.InfoContext(ctx, "a preview stays in storage for now", "error", err)
		}
	})
}

func (w *Worker) remove(ctx context.Context, keys []string) (err error) {
	for _, key := range keys {
		if failed := w.Bucket.Delete(ctx, key); !errors.Is(failed, storage.ErrNotFound) {
			err = errors.Join(err, failed)
		}
	}
	return err
}
