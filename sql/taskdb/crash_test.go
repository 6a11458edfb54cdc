package taskdb_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/migrations"
	"darkroom/sql/localpg"
	"darkroom/sql/taskdb"
)

// The mark and the bells are not logged. When the server dies they begin anew, and nothing is lost by it: a claim sees every task, and who listens asks again.
func TestMarkAndBellsBeginAnewAfterACrash(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "crash-test-") //nolint:usetesting // the server's own user must reach it, and cannot enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	start := func() (*localpg.Server, *bench) {
		server, err := localpg.Start(t.Context(), localpg.Config{Dir: filepath.Join(dir, "data"), Log: os.Stderr})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Stop(context.WithoutCancel(t.Context())) })
		if err := migrations.Up(t.Context(), server.URL(), migrations.FS); err != nil {
			t.Fatal(err)
		}
		pool, err := pgxpool.New(t.Context(), server.URL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		return server, &bench{DB: taskdb.New(pool), t: t, sql: pool}
	}
	sequences := func(b *bench) []int64 {
		return value[[]int64](b, `select array[m.last_value, w.last_value, e.last_value]
			from darkroom.ready_mark m, darkroom.worker_bell w, darkroom.event_bell e`)
	}

	server, b := start()
	b.register(anyWorker)
	b = b.as(100)
	b.claimNothing(anyWorker) // arms the worker's bell
	b.noError(b.ArmEventBell(t.Context()))
	if _, err := b.TickReadyMark(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if s := sequences(b); s[0] == 0 || s[1] != 2 || s[2] != 2 {
		t.Fatalf("before the crash: mark and bells are %v, want a time, 2, 2", s)
	}
	b.exec("select setval('darkroom.ready_mark', (extract(epoch from clock_timestamp()) * 1000000)::bigint + 3600000000)")
	task := b.image()

	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	if err := server.Stop(t.Context()); err != nil {
		t.Log(err) // it says that it was killed
	}
	_, b = start()
	if s := sequences(b); s[0] != 0 || s[1] != 1 || s[2] != 1 {
		t.Errorf("after the crash: mark and bells are %v, want 0, 1, 1", s)
	}
	b.claimThis(anyWorker, task)
	b.healthy()
}
