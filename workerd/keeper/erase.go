package keeper

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
)

const (
	eraseEvery   = time.Minute
	eraseTimeout = 10 * time.Minute
	purgeEvery   = time.Hour
)

// EraseFiles deletes from storage what lies in the folders of erased users, and notes it. Of a user for whom it fails nothing is noted, so that
// the next call tries again. The error names no file: River keeps it.
func EraseFiles(ctx context.Context, db *taskdb.DB, bucket *storage.Bucket, log *slog.Logger) error {
	due, err := db.DueErasures(ctx)
	if err != nil {
		return fmt.Errorf("upkeep: %w", err)
	}
	failed := 0
	for _, erasure := range due {
		removed, err := bucket.RemoveFolder(ctx, erasure.UserID.String())
		if err == nil {
			_, err = db.MarkErasureSwept(ctx, erasure.UserID)
		}
		if err != nil {
			failed++
			log.ErrorContext(ctx, "the files of an erased user are still there", "error", err)
			continue
		}
		if removed > 0 || erasure.SweptAt == nil {
			log.InfoContext(ctx, "deleted the files of an erased user", "files", removed, "late", erasure.SweptAt != nil)
		}
	}
	if failed > 0 {
		return fmt.Errorf("upkeep: the files of %d erased users are still there", failed)
	}
	return nil
}

type eraseArgs struct{}

// Kind implements [river.JobArgs].
func (eraseArgs) Kind() string { return "erase_files" }

type eraseWorker struct {
	river.WorkerDefaults[eraseArgs]

	erase func(ctx context.Context) error
}

// Timeout implements [river.Worker].
func (w *eraseWorker) Timeout(*river.Job[eraseArgs]) time.Duration { return eraseTimeout }

// Work implements [river.Worker].
func (w *eraseWorker) Work(ctx context.Context, _ *river.Job[eraseArgs]) error { return w.erase(ctx) }

type purgeArgs struct{}

// Kind implements [river.JobArgs].
func (purgeArgs) Kind() string { return "purge_expired" }

func purge(ctx context.Context, db *taskdb.DB) error {
	if _, err := db.PurgeExpired(ctx); err != nil {
		return fmt.Errorf("upkeep: %w", err)
	}
	return nil
}
