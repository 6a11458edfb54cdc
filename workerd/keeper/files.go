package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
)

const (
	filesEvery = time.Hour
	// filesGrace is how old a file must be before anything is deleted: far longer than a finished task is tried to be stored and completed.
	filesGrace = 24 * time.Hour

	filesPause   = 2 * time.Second // between two pages: at most 500 objects are looked at in a second
	filesTimeout = 10 * time.Minute
	filesTries   = 3 // of one page
)

// Files deletes from storage what no row refers to: the outputs of attempts that lost their lease after storing them, or whose task failed then,
// and what killed writers left unfinished.
type Files struct {
	db     *taskdb.DB
	bucket *storage.Bucket
	log    *slog.Logger
}

// NewFiles makes a sweep of one bucket by what one database says.
func NewFiles(db *taskdb.DB, bucket *storage.Bucket, log *slog.Logger) *Files {
	return &Files{db: db, bucket: bucket, log: log}
}

// SweepPage looks at one page of the bucket, up to 1,000 objects, and returns the token of the next; the first page has the token "", and "" comes back
// after the last. Nothing is deleted that is younger than a day, that isn't a task's output, or that the database doesn't name as an orphan: see
// [taskdb.DB.OrphanedOutputs]. It stops at the first error.
func (f *Files) SweepPage(ctx context.Context, token string) (next string, err error) {
	before := time.Now().Add(-filesGrace)
	if token == "" {
		removed, err := f.bucket.RemoveUnfinished(ctx, before)
		if err != nil {
			return "", err
		}
		if removed > 0 {
			f.log.InfoContext(ctx, "deleted what killed writers left in storage", "files", removed)
		}
	}
	objects, next, err := f.bucket.Page(ctx, token)
	if err != nil {
		return "", err
	}
	old := map[string][]storage.Info{} // by folder
	for _, object := range objects {
		if folder, ok := storage.OutputFolder(object.Key); ok && object.ModTime.Before(before) {
			old[folder] = append(old[folder], object)
		}
	}
	if len(old) == 0 {
		return next, nil
	}
	orphans, err := f.db.OrphanedOutputs(ctx, slices.Sorted(maps.Keys(old)))
	if err != nil {
		return "", err
	}
	var files, bytes int64
	for _, folder := range orphans {
		for _, object := range old[folder] {
			if err := f.bucket.Delete(ctx, object.Key); err != nil && !errors.Is(err, storage.ErrNotFound) {
				return "", err
			}
			files++
			bytes += object.Size
		}
	}
	if files > 0 {
		f.log.InfoContext(ctx, "deleted files that no row refers to", "files", files, "bytes", bytes)
	}
	return next, nil
}

type sweepFilesArgs struct{}

// Kind implements [river.JobArgs].
func (sweepFilesArgs) Kind() string { return "sweep_files" }

// InsertOpts implements [river.JobArgsWithInsertOpts]: one sweep at a time, also while it rests between two pages.
func (sweepFilesArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: filesTries, UniqueOpts: river.UniqueOpts{ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled,
	}}}
}

// filesWorker sweeps one page each time that River runs its job. Between two pages the token lies in the job's output, so that another program can go on
// where one was stopped.
type filesWorker struct {
	river.WorkerDefaults[sweepFilesArgs]

	files *Files
}

type filesOutput struct {
	Next string `json:"next"`
}

// Timeout implements [river.Worker].
func (w *filesWorker) Timeout(*river.Job[sweepFilesArgs]) time.Duration { return filesTimeout }

// Work implements [river.Worker].
func (w *filesWorker) Work(ctx context.Context, job *river.Job[sweepFilesArgs]) error {
	var at filesOutput
	if output := job.Output(); output != nil {
		if err := json.Unmarshal(output, &at); err != nil {
			return fmt.Errorf("upkeep: where the sweep of files was: %w", err)
		}
	}
	next, err := w.files.SweepPage(ctx, at.Next)
	if err != nil {
		return fmt.Errorf("upkeep: %w", err)
	}
	if next == "" {
		return nil
	}
	if err := river.RecordOutput(ctx, filesOutput{Next: next}); err != nil {
		return fmt.Errorf("upkeep: %w", err)
	}
	return river.JobSnooze(filesPause) //nolint:wrapcheck // an answer to River
}
