package keeper_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"

	"darkroom/gateway/storage"
	"darkroom/gateway/storage/s3test"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
	"darkroom/workerd/keeper"
	"darkroom/workerd/riverpilot"
)

// library is a database, a bucket, and the folder in which the bucket's objects lie as files.
type library struct {
	*taskdb.DB

	t       *testing.T
	pg      *taskdbtest.DB
	bucket  *storage.Bucket
	folder  string
	owner   uuid.UUID
	project uuid.UUID
}

func newLibrary(t *testing.T, bucketURL, folder string) *library {
	t.Helper()
	bucket, err := storage.Open(t.Context(), bucketURL)
	must(t, err)
	t.Cleanup(func() { must(t, bucket.Close()) })
	pg := taskdbtest.New(t)
	l := &library{DB: taskdb.New(pg.Pool), t: t, pg: pg, bucket: bucket, folder: folder}
	user, err := l.CreateUser(t.Context(), uuid.Nil, "")
	must(t, err)
	_, err = l.GrantCredits(t.Context(), user.ID, taskdb.WholeCredits(100), "", "")
	must(t, err)
	project, err := l.CreateProject(t.Context(), user.ID, "")
	must(t, err)
	_, err = l.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: "w"})
	must(t, err)
	l.owner, l.project = user.ID, project.ID
	return l
}

// eachStore runs a test over a folder and over S3.
func eachStore(t *testing.T, test func(l *library)) {
	t.Helper()
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		test(newLibrary(t, (&url.URL{Scheme: "file", Path: folder}).String(), folder))
	})
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		server := s3test.Start(t)
		test(newLibrary(t, server.MakeBucket(t, "media")+"&prefix=part", filepath.Join(server.Dir, "media", "part")))
	})
}

// claim creates a task and claims it.
func (l *library) claim() taskdb.Task {
	l.t.Helper()
	_, err := l.CreateTask(l.t.Context(), taskdb.NewTask{ProjectID: l.project, TaskType: "single_image", Params: json.RawMessage(`{"prompt":"a cat"}`)})
	must(l.t, err)
	return l.claimAgain()
}

func (l *library) claimAgain() taskdb.Task {
	l.t.Helper()
	task, ok, err := l.ClaimNextTask(l.t.Context(), "w")
	if err != nil || !ok {
		l.t.Fatal(ok, err)
	}
	return task
}

// store puts a picture of that age under a key.
func (l *library) store(key string, age time.Duration) string {
	l.t.Helper()
	var content bytes.Buffer
	must(l.t, png.Encode(&content, image.NewGray(image.Rect(0, 0, 4, 4))))
	_, err := l.bucket.Put(l.t.Context(), key, &content, 1<<20)
	must(l.t, err)
	then := time.Now().Add(-age)
	must(l.t, os.Chtimes(filepath.Join(l.folder, key), then, then))
	return key
}

func (l *library) output(task taskdb.Task, name string, age time.Duration) string {
	l.t.Helper()
	return l.store(storage.OutputKey(l.owner, task.ID, task.Attempt, name), age)
}

func (l *library) keys() (keys []string) {
	l.t.Helper()
	for token := ""; ; {
		objects, next, err := l.bucket.Page(l.t.Context(), token)
		must(l.t, err)
		for _, object := range objects {
			keys = append(keys, object.Key)
		}
		if next == "" {
			return keys
		}
		token = next
	}
}

func (l *library) sweep() {
	l.t.Helper()
	files := keeper.NewFiles(l.DB, l.bucket, slog.New(slog.DiscardHandler))
	for token := ""; ; {
		next, err := files.SweepPage(l.t.Context(), token)
		must(l.t, err)
		if next == "" {
			return
		}
		token = next
	}
}

func (l *library) wantKeys(want ...string) {
	l.t.Helper()
	slices.Sort(want)
	if got := l.keys(); !slices.Equal(got, want) {
		l.t.Errorf("stored are %q, want %q", got, want)
	}
}

const (
	old   = 25 * time.Hour
	young = 23 * time.Hour
)

func TestOrphansAreSwept(t *testing.T) {
	t.Parallel()
	eachStore(t, func(l *library) {
		var kept []string
		keep := func(key string) string {
			kept = append(kept, key)
			return key
		}

		// An attempt that stored its files and then lost its lease; its task was completed by the next attempt.
		lost := l.claim()
		l.output(lost, "late.png", old)
		l.output(lost, "thumbnails/late.png", old)
		_, err := l.ReleaseTask(l.t.Context(), taskdb.HoldOf(lost), "again")
		must(l.t, err)
		again := l.claimAgain()
		location := keep(l.output(again, "out.png", old))
		thumbnail := keep(l.output(again, "thumbnails/out.png", old))
		_, err = l.CompleteTask(l.t.Context(), taskdb.HoldOf(again), taskdb.Output{
			Location: storage.URL("http://gateway", location), ThumbnailURL: storage.URL("http://gateway", thumbnail),
		})
		must(l.t, err)

		// A task that failed after it had stored its files: one file is still young.
		failed := l.claim()
		l.output(failed, "out.png", old)
		keep(l.output(failed, "young.png", young))
		_, err = l.FailTask(l.t.Context(), taskdb.HoldOf(failed), "no")
		must(l.t, err)

		// A generation whose location was pointed at the output of a task that failed.
		pointed := l.claim()
		there := keep(l.output(pointed, "out.png", old))
		_, err = l.FailTask(l.t.Context(), taskdb.HoldOf(pointed), "no")
		must(l.t, err)
		_, err = l.pg.Pool.Exec(l.t.Context(), "update generations set location = $1 where source_task_id = $2", storage.URL("http://gateway", there), again.ID)
		must(l.t, err)

		// Tasks that run, or wait for their next attempt.
		keep(l.output(l.claim(), "out.png", old))
		waiting := l.claim()
		keep(l.output(waiting, "out.png", old))
		_, err = l.RetryTask(l.t.Context(), taskdb.HoldOf(waiting), "again", time.Hour)
		must(l.t, err)

		// Previews that killed workers left: of an attempt whose task was completed by the same or the next one, and of one that runs.
		for _, task := range []taskdb.Task{lost, again, failed} {
			l.output(task, "previews/1.jpg", old)
		}
		keep(l.output(again, "previews/2.jpg", young))
		keep(l.output(l.claim(), "previews/1.jpg", old))

		// What is no output of a task that this database has.
		keep(l.store(storage.UploadKey(l.owner, "a.png"), old))
		keep(l.store(storage.OutputKey(l.owner, uuid.New(), 1, "out.png"), old))
		keep(l.store("other/tasks/a/1/out.png", old))

		l.sweep()
		l.wantKeys(kept...)
		l.sweep()
		l.wantKeys(kept...)
	})
}

// While a task is completed, whichever way it goes, its files stay for the grace.
func TestATaskThatIsCompletingKeepsItsFiles(t *testing.T) {
	t.Parallel()
	eachStore(t, func(l *library) {
		task := l.claim()
		key := l.output(task, "out.png", 0)
		l.sweep()
		_, err := l.CompleteTask(l.t.Context(), taskdb.HoldOf(task), taskdb.Output{Location: storage.URL("http://gateway", key)})
		must(l.t, err)
		l.sweep()

		lost := l.claim()
		late := l.output(lost, "out.png", 0)
		_, err = l.FailTask(l.t.Context(), taskdb.HoldOf(lost), "no")
		must(l.t, err)
		l.sweep()
		l.wantKeys(key, late)
	})
}

// An answer that does not come deletes nothing.
func TestNothingIsDeletedWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	eachStore(t, func(l *library) {
		task := l.claim()
		key := l.output(task, "out.png", old)
		_, err := l.FailTask(l.t.Context(), taskdb.HoldOf(task), "no")
		must(l.t, err)
		_, err = l.pg.Pool.Exec(l.t.Context(), "alter table generations rename to hidden")
		must(l.t, err)
		if _, err := keeper.NewFiles(l.DB, l.bucket, slog.New(slog.DiscardHandler)).SweepPage(l.t.Context(), ""); err == nil {
			l.t.Error("the sweep went on")
		}
		l.wantKeys(key)
		_, err = l.pg.Pool.Exec(l.t.Context(), "alter table hidden rename to generations")
		must(l.t, err)
		l.sweep()
		l.wantKeys()
	})
}

// Run by River the sweep goes through all pages of the bucket, one after the other.
func TestRiverSweepsAllPages(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	l := newLibrary(t, (&url.URL{Scheme: "file", Path: folder}).String(), folder)
	must(t, riverpilot.Migrate(t.Context(), l.pg.Pool))
	first, last := l.claim(), l.claim()
	for _, task := range []taskdb.Task{first, last} {
		l.output(task, "out.png", old)
		_, err := l.FailTask(t.Context(), taskdb.HoldOf(task), "no")
		must(t, err)
	}
	uploads := filepath.Join(folder, l.owner.String(), "tasks", uuid.Max.String(), "1")
	must(t, os.MkdirAll(uploads, 0o700))
	for i := range 2100 {
		must(t, os.WriteFile(filepath.Join(uploads, fmt.Sprintf("%d.png", i)), nil, 0o600))
	}
	l.store("zz/tasks/a/1/out.png", 0) // beyond the third page
	left := filepath.Join(folder, "a.png.1f.tmp")
	must(t, os.WriteFile(left, nil, 0o600))
	then := time.Now().Add(-old)
	must(t, os.Chtimes(left, then, then))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	workers, periodic := keeper.Jobs(l.DB, l.bucket, slog.New(slog.DiscardHandler), keeper.Intervals{Requeue: time.Hour, Sweep: time.Hour})
	client, err := riverpilot.New(l.pg.Pool, riverpilot.Config{
		WorkerID: "w", Slots: 1, PollInterval: time.Second, Drain: time.Second, Work: func(context.Context, taskdb.Task) {},
		Want: func(int) ([]string, int) { return nil, 0 }, Claimed: func([]taskdb.Task) {}, Workers: workers, Periodic: periodic, Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	done, stop := client.Subscribe(river.EventKindJobCompleted, river.EventKindJobSnoozed, river.EventKindJobFailed)
	defer stop()
	must(t, client.Start(ctx))
	defer func() { must(t, client.Stop(context.WithoutCancel(ctx))) }()
	snoozes := 0
	for limit := time.After(patience); ; {
		var event *river.Event
		select {
		case <-limit:
			t.Fatal("the sweep did not end")
		case event = <-done:
		}
		switch {
		case event.Job.Kind != "sweep_files":
			continue
		case event.Kind == river.EventKindJobSnoozed:
			snoozes++
			continue
		case event.Kind == river.EventKindJobFailed:
			t.Fatal(event.Job.Errors)
		}
		break
	}
	if got := len(l.keys()); snoozes != 2 || got != 2101 {
		t.Errorf("%d pages and then one, %d objects are left; want 2 and 2101", snoozes, got)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("the temporary file was left")
	}
}
