package keeper_test

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
	"darkroom/workerd/keeper"
	"darkroom/workerd/riverpilot"
)

func (l *library) erase() {
	l.t.Helper()
	_, err := l.EraseUser(l.t.Context(), l.owner)
	must(l.t, err)
}

func (l *library) eraseFiles() {
	l.t.Helper()
	must(l.t, keeper.EraseFiles(l.t.Context(), l.DB, l.bucket, slog.New(slog.DiscardHandler)))
}

func TestTheFilesOfAnErasedUserAreDeleted(t *testing.T) {
	t.Parallel()
	eachStore(t, func(l *library) {
		task := l.claim()
		l.output(task, "out.png", 0)
		l.store(storage.UploadKey(l.owner, "holiday.png"), 0)
		other := l.store(storage.UploadKey(uuid.New(), "a.png"), 0)
		l.eraseFiles()
		if got := len(l.keys()); got != 3 {
			t.Errorf("%d objects before anybody was erased", got)
		}

		l.erase()
		l.eraseFiles()
		l.wantKeys(other)

		// What a worker that was cut off stores late goes an hour later.
		l.output(task, "late.png", 0)
		l.eraseFiles()
		if got := len(l.keys()); got != 2 {
			t.Errorf("%d objects", got)
		}
		_, err := l.pg.Pool.Exec(t.Context(), "update darkroom.erasures set swept_at = swept_at - interval '61 minutes'")
		must(t, err)
		l.eraseFiles()
		l.wantKeys(other)
	})
}

func TestFilesThatCannotBeDeletedAreTriedAgain(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	l := newLibrary(t, (&url.URL{Scheme: "file", Path: folder}).String(), folder)
	l.store(storage.UploadKey(l.owner, "a.png"), 0)
	l.erase()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := keeper.EraseFiles(ctx, l.DB, l.bucket, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no error")
	}
	due, err := l.DueErasures(t.Context())
	if err != nil || len(due) != 1 {
		t.Errorf("%v %v", due, err)
	}
	l.eraseFiles()
	l.wantKeys()
}

// Run by River as the worker's own login, the erasure begins with the program, and neither River's tables nor the folder keep anything of the user.
func TestRiverErases(t *testing.T) {
	t.Parallel()
	const canary = "canary-5d1f"
	folder := t.TempDir()
	l := newLibrary(t, (&url.URL{Scheme: "file", Path: folder}).String(), folder)
	must(t, riverpilot.Migrate(t.Context(), l.pg.Pool))
	l.store(storage.UploadKey(l.owner, canary+".png"), 0)
	must(t, os.WriteFile(filepath.Join(folder, l.owner.String(), "uploads", canary+".png.1f.tmp"), []byte(canary), 0o600))
	l.erase()

	pool, err := pgxpool.New(t.Context(), l.pg.Login(t, "worker"))
	must(t, err)
	defer pool.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	workers, periodic := keeper.Jobs(taskdb.New(pool), l.bucket, slog.New(slog.DiscardHandler), keeper.Intervals{Requeue: time.Hour, Sweep: time.Hour})
	client, err := riverpilot.New(pool, riverpilot.Config{
		WorkerID: "w", Slots: 1, PollInterval: time.Second, Drain: time.Second, Work: func(context.Context, taskdb.Task) {},
		Want: func(int) ([]string, int) { return nil, 0 }, Claimed: func([]taskdb.Task) {}, Workers: workers, Periodic: periodic, Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	must(t, client.Start(ctx))
	defer func() { must(t, client.Stop(context.WithoutCancel(ctx))) }()
	eventually(t, "swept", func() bool {
		due, err := l.DueErasures(ctx)
		must(t, err)
		return len(due) == 0
	})
	entries, err := os.ReadDir(folder)
	must(t, err)
	if len(entries) > 0 {
		t.Errorf("left in storage: %v", entries)
	}
	var n int
	must(t, l.pg.Pool.QueryRow(ctx, `select count(*) from river.river_job j where strpos(j::text, $1) > 0 or strpos(j::text, $2) > 0`, canary, l.owner.String()).Scan(&n))
	if n > 0 {
		t.Errorf("River keeps %d rows about the user", n)
	}
}
