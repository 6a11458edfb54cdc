package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
	"darkroom/workerd/engine"
	"darkroom/workerd/keeper"
	"darkroom/workerd/riverpilot"
	"darkroom/workerd/worker"
)

const (
	// patience bounds everything that is waited for.
	patience  = 30 * time.Second
	publicURL = "http://127.0.0.1:8484"
)

// bundle is a database with a project that has credits and a shot, and storage with pictures.
type bundle struct {
	*taskdb.DB
	test           *taskdbtest.DB
	bucket         *storage.Bucket
	owner, project uuid.UUID
	shot           uuid.UUID
	pictures       []string
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func setup(t *testing.T) *bundle {
	t.Helper()
	test := taskdbtest.New(t)
	must(t, riverpilot.Migrate(t.Context(), test.Pool))
	bucket, err := storage.Open(t.Context(), (&url.URL{Scheme: "file", Path: t.TempDir()}).String())
	must(t, err)
	b := &bundle{DB: taskdb.New(test.Pool), test: test, bucket: bucket}
	user, err := b.CreateUser(t.Context(), uuid.Nil, "")
	must(t, err)
	_, err = b.GrantCredits(t.Context(), user.ID, taskdb.WholeCredits(1000), "", "")
	must(t, err)
	project, err := b.CreateProject(t.Context(), user.ID, "")
	must(t, err)
	shot, err := b.CreateShot(t.Context(), project.ID, "")
	must(t, err)
	b.owner, b.project, b.shot = user.ID, project.ID, shot.ID
	for i, c := range []color.RGBA{{R: 200, A: 255}, {G: 200, A: 255}, {B: 200, A: 255}} {
		picture := image.NewRGBA(image.Rect(0, 0, 64, 48))
		for x := range 64 {
			for y := range 48 {
				picture.Set(x, y, color.RGBA{R: c.R, G: c.G, B: c.B + uint8(x), A: 255})
			}
		}
		var data bytes.Buffer
		must(t, png.Encode(&data, picture))
		info, err := bucket.Put(t.Context(), storage.UploadKey(b.owner, fmt.Sprintf("%d.png", i)), &data, 1<<20)
		must(t, err)
		b.pictures = append(b.pictures, info.Key)
	}
	t.Cleanup(func() {
		violations, err := b.InvariantViolations(context.WithoutCancel(t.Context()))
		if err != nil || len(violations) > 0 {
			t.Errorf("invariants: %v %v", violations, err)
		}
		must(t, bucket.Close())
	})
	return b
}

// travel makes a travel through the three pictures.
func (b *bundle) travel(t *testing.T) taskdb.Task {
	t.Helper()
	return b.create(t, "travel_orchestrator", map[string]any{"orchestrator_details": map[string]any{
		"input_image_paths_resolved": b.pictures, "num_new_segments_to_generate": 2, "segment_frames_expanded": []int{9, 9},
		"frame_overlap_expanded": []int{1}, "parsed_resolution_wh": "64x48", "fps_helpers": 16, "shot_id": b.shot,
	}})
}

// segment makes a single segment of so many frames, big enough to take its time.
func (b *bundle) segment(t *testing.T, frames int) taskdb.Task {
	t.Helper()
	return b.create(t, "travel_segment", map[string]any{
		"start_image": b.pictures[0], "end_image": b.pictures[1], "segment_frames_target": frames, "parsed_resolution_wh": "512x384",
	})
}

func (b *bundle) create(t *testing.T, taskType string, params map[string]any) taskdb.Task {
	t.Helper()
	data, err := json.Marshal(params)
	must(t, err)
	task, err := b.CreateTask(t.Context(), taskdb.NewTask{ProjectID: b.project, TaskType: taskType, Params: data})
	must(t, err)
	return task
}

func (b *bundle) task(t *testing.T, id uuid.UUID) taskdb.Task {
	t.Helper()
	task, err := b.GetTask(t.Context(), id)
	must(t, err)
	return task
}

func (b *bundle) eventually(t *testing.T, id uuid.UUID, what string, is func(taskdb.Task) bool) taskdb.Task {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		task := b.task(t, id)
		if is(task) {
			return task
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s not %s: %+v", patience, what, task)
		}
	}
}

func inStatus(status string) func(taskdb.Task) bool {
	return func(task taskdb.Task) bool { return task.Status == status }
}

func await[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case value := <-ch:
		return value
	case <-time.After(patience):
		t.Fatalf("after %s: no %s", patience, what)
		panic("not reached")
	}
}

// running is a worker that runs.
type running struct {
	*worker.Worker
	stop  context.CancelCauseFunc
	ended chan error
}

// run starts a worker with a pool of its own; it is stopped at once when the test ends.
func (b *bundle) run(t *testing.T, change func(*worker.Config), engines ...engine.Engine) *running {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), b.test.Login(t, "worker"))
	must(t, err)
	all := make([]worker.Engine, 0, len(engines))
	for _, e := range engines {
		all = append(all, worker.Engine{Engine: e, Kind: "fake"})
	}
	config := worker.Config{
		Pool: pool, Bucket: b.bucket, Engines: all, WorkerID: "w-" + t.Name(), PublicURL: publicURL, TempDir: t.TempDir(),
		Slots: 1, CheckEvery: 20 * time.Millisecond, PreviewEvery: 10 * time.Millisecond, Thumbnail: tools(t).Thumbnail, Lease: 90 * time.Second, Poll: 100 * time.Millisecond, Drain: 300 * time.Millisecond, TaskTimeout: time.Minute,
		Upkeep: keeper.Intervals{Requeue: time.Second, Sweep: time.Second},
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(&config)
	}
	ctx, stop := context.WithCancelCause(context.WithoutCancel(t.Context()))
	r := &running{Worker: worker.New(config), stop: stop, ended: make(chan error, 1)}
	go func() {
		r.ended <- r.Run(ctx)
		close(r.ended)
		pool.Close()
	}()
	t.Cleanup(func() {
		stop(worker.ErrNow)
		await(t, "end of the worker", r.ended)
		if left, err := os.ReadDir(config.TempDir); err != nil || len(left) > 0 {
			t.Errorf("left in the temporary folder: %v %v", left, err)
		}
	})
	return r
}

// settled counts the charges of a task.
func (b *bundle) settled(t *testing.T, id uuid.UUID) (n int) {
	t.Helper()
	must(t, b.test.Pool.QueryRow(t.Context(), "select count(*) from credit_ledger where task_id = $1 and kind = 'settle'", id).Scan(&n))
	return n
}

func TestATravelBecomesOneVideoOnItsShot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t, nil, mediaEngine(t))
	began := time.Now()
	task := b.travel(t)
	done := b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
	t.Logf("a travel of 17 frames took %s", time.Since(began))

	generations, err := b.ListGenerations(t.Context(), taskdb.Gallery{ProjectID: b.project, ShotID: b.shot, MaxRows: 10})
	must(t, err)
	if len(generations) != 1 || generations[0].Type != "video" || generations[0].Location == nil || generations[0].ThumbnailURL == nil {
		t.Fatalf("%+v", generations)
	}
	if done.OutputLocation == nil || *done.OutputLocation != *generations[0].Location {
		t.Errorf("output %v, generation %v", done.OutputLocation, *generations[0].Location)
	}
	for location, mediaType := range map[string]string{*generations[0].Location: "video/mp4", *generations[0].ThumbnailURL: "image/jpeg"} {
		key, ours := storage.KeyFromURL(publicURL, location)
		info, err := b.bucket.Stat(t.Context(), key)
		if !ours || err != nil || info.ContentType != mediaType || info.Size == 0 {
			t.Errorf("%s: %v %+v %v", location, ours, info, err)
		}
	}
	var facts struct{ Frames, Width, Height, Segments int }
	must(t, json.Unmarshal(generations[0].Metadata, &facts))
	if facts.Frames != 17 || facts.Width != 64 || facts.Height != 48 || facts.Segments != 2 {
		t.Errorf("%+v", facts)
	}
	account, err := b.GetCredits(t.Context(), b.owner)
	must(t, err)
	if n := b.settled(t, task.ID); n != 1 || account.Balance != taskdb.WholeCredits(990) || account.Held != 0 {
		t.Errorf("%d charges, balance %s, held %s", n, account.Balance, account.Held)
	}
}

func TestTheRowShowsHowFarATaskIs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, started, end := blocked()
	b.run(t, nil, e)
	task := b.segment(t, 9)
	sink := await(t, "start", started)
	for _, value := range []float64{1, 3} {
		sink.Progress(engine.Progress{Value: value, Max: 4, Phase: "encoding"})
		want := map[string]any{"percent": 25 * value, "value": value, "max": 4.0, "phase": "encoding"}
		b.eventually(t, task.ID, fmt.Sprint(want), func(task taskdb.Task) bool {
			var got map[string]any
			return json.Unmarshal(task.Progress, &got) == nil && fmt.Sprint(got) == fmt.Sprint(want)
		})
	}
	close(end)
	b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
}

func TestACancelledTaskFreesItsSlotWithinASecond(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t, nil, mediaEngine(t))
	task := b.segment(t, 5000)
	b.eventually(t, task.ID, "encoding", func(task taskdb.Task) bool { return strings.Contains(string(task.Progress), "encoding") })
	next := b.segment(t, 9)
	_, err := b.CancelTask(t.Context(), task.ID, "")
	must(t, err)
	cancelled := time.Now()
	b.eventually(t, next.ID, "running", func(task taskdb.Task) bool { return task.Status != taskdb.StatusQueued })
	took := time.Since(cancelled)
	t.Logf("the slot had its next task %s after the cancel", took)
	if took > 5*time.Second {
		t.Errorf("the slot was not free within 5 s")
	}
	if got := b.task(t, task.ID); got.Status != taskdb.StatusCancelled || b.settled(t, task.ID) != 0 {
		t.Errorf("%s, %d charges", got.Status, b.settled(t, task.ID))
	}
	b.eventually(t, next.ID, "Complete", inStatus(taskdb.StatusComplete))
}

func TestACancelIsHeardWithoutNotifications(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, started, _ := blocked()
	b.run(t, func(c *worker.Config) { c.Lease = time.Second }, e)
	task := b.segment(t, 9)
	await(t, "start", started)
	// The listening connection is lost when the cancel is told.
	conn := b.test.Conn(t)
	_, err := conn.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query ilike 'listen%'`)
	must(t, err)
	_, err = b.CancelTask(t.Context(), task.ID, "")
	must(t, err)
	next := b.segment(t, 9)
	await(t, "next start", started)
	if got := b.task(t, next.ID); got.Status != taskdb.StatusInProgress {
		t.Error(got.Status)
	}
}

func TestAStopReleasesWhatDoesNotEndInTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, started, _ := blocked()
	r := b.run(t, nil, e)
	task := b.segment(t, 9)
	await(t, "start", started)
	began := time.Now()
	r.stop(nil)
	must(t, await(t, "end of the worker", r.ended))
	t.Logf("stopped after %s with a drain of 300 ms", time.Since(began))
	if got := b.task(t, task.ID); got.Status != taskdb.StatusQueued || got.FailedAttempts != 0 {
		t.Errorf("%s, failed attempts %d", got.Status, got.FailedAttempts)
	}
}

func TestAStopLetsATaskEndWithinTheDrain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, started, end := blocked()
	r := b.run(t, func(c *worker.Config) { c.Drain = patience }, e)
	task, other := b.segment(t, 9), b.segment(t, 9)
	await(t, "start", started)
	r.stop(nil)
	close(end)
	must(t, await(t, "end of the worker", r.ended))
	if got := b.task(t, task.ID); got.Status != taskdb.StatusComplete {
		t.Error(got.Status)
	}
	if got := b.task(t, other.ID); got.Status != taskdb.StatusQueued {
		t.Errorf("the other task is %s: a stopping worker claims nothing", got.Status)
	}
}

func TestKilledConnectionsInMidTaskDoNotHarmIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, started, end := blocked()
	b.run(t, func(c *worker.Config) { c.Lease = 2 * time.Second }, e)
	task := b.segment(t, 9)
	await(t, "start", started)
	conn := b.test.Conn(t)
	for range 3 {
		_, err := conn.Exec(t.Context(), "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
		must(t, err)
	}
	close(end)
	b.test.Pool.Reset()
	done := b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
	if done.Attempt != 1 {
		t.Errorf("attempt %d", done.Attempt)
	}
	next := b.segment(t, 9) // the worker goes on
	b.eventually(t, next.ID, "Complete", inStatus(taskdb.StatusComplete))
}

func TestAFinishedTaskOutlivesAnOutageOfTheDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, started, end := blocked()
	r := b.run(t, func(c *worker.Config) { c.Lease = time.Second }, e)
	task := b.segment(t, 9)
	await(t, "start", started)

	// Nobody can connect for longer than the lease.
	address, err := url.Parse(b.test.URL)
	must(t, err)
	name := strings.TrimPrefix(address.Path, "/")
	address.Path = "/postgres"
	admin, err := pgx.Connect(t.Context(), address.String())
	must(t, err)
	defer admin.Close(context.WithoutCancel(t.Context()))
	_, err = admin.Exec(t.Context(), "alter database "+name+" allow_connections false")
	must(t, err)
	_, err = admin.Exec(t.Context(), "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1", name)
	must(t, err)
	close(end)
	for deadline := time.Now().Add(patience); r.Check() == nil; time.Sleep(10 * time.Millisecond) { // unhealthy after a lease
		if time.Now().After(deadline) {
			t.Fatal("the worker does not notice the outage")
		}
	}
	_, err = admin.Exec(t.Context(), "alter database "+name+" allow_connections true")
	must(t, err)

	done := b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
	if done.Attempt != 1 || b.settled(t, task.ID) != 1 {
		t.Errorf("attempt %d, %d charges", done.Attempt, b.settled(t, task.ID))
	}
	must(t, r.Check())
}

func TestASilentWorkersTaskIsTakenOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	// A worker that claims and is never heard from again.
	_, err := b.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: "gone", Capabilities: []string{"wan2gp"}, LeaseTimeout: time.Second})
	must(t, err)
	task := b.segment(t, 9)
	lost, ok, err := b.ClaimNextTask(t.Context(), "gone")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	e, _, end := blocked()
	close(end)
	b.run(t, nil, e)
	done := b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
	if done.Attempt != 2 || b.settled(t, task.ID) != 1 {
		t.Errorf("attempt %d, %d charges", done.Attempt, b.settled(t, task.ID))
	}
	if _, err := b.CompleteTask(t.Context(), taskdb.HoldOf(lost), taskdb.Output{Location: "https://x.test/late"}); !errors.Is(err, taskdb.ErrLeaseLost) && !errors.Is(err, taskdb.ErrTaskEnded) {
		t.Errorf("the late one was answered %v", err)
	}
}

func TestErrorsOfAnEngine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err            error
		status         string
		message        string
		attempt, after int
	}{
		"bad input fails the task": {
			&engine.Error{Class: engine.BadInput, Message: "The picture is empty.", Err: errors.New("at /secret")},
			taskdb.StatusFailed, "The picture is empty.", 1, 1,
		},
		"an unknown error is tried again": {errors.New("at /secret"), taskdb.StatusComplete, "", 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var runs atomic.Int64
			b.run(t, nil, &fake{run: func(context.Context, engine.Task, engine.Sink) error {
				if runs.Add(1) == 1 {
					return test.err
				}
				return nil
			}})
			task := b.segment(t, 9)
			done := b.eventually(t, task.ID, test.status, inStatus(test.status))
			if done.Attempt != test.attempt || test.message != "" && *done.ErrorMessage != test.message {
				t.Errorf("attempt %d: %+v", done.Attempt, done)
			}
			var errs []string
			rows, err := b.test.Pool.Query(t.Context(), "select error from task_attempts where task_id = $1 and error is not null", task.ID)
			must(t, err)
			errs, err = pgx.CollectRows(rows, pgx.RowTo[string])
			must(t, err)
			if len(errs) != test.after || slices.ContainsFunc(errs, func(e string) bool { return strings.Contains(e, "/secret") }) {
				t.Errorf("attempts ended with %q", errs)
			}
		})
	}
}

func TestAnInputThatIsNotThereFailsTheTask(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _, _ := blocked()
	b.run(t, nil, e)
	task := b.create(t, "travel_segment", map[string]any{"start_image": b.owner.String() + "/uploads/none.png"})
	done := b.eventually(t, task.ID, "Failed", inStatus(taskdb.StatusFailed))
	if done.Attempt != 1 || !strings.Contains(*done.ErrorMessage, "upload it first") {
		t.Errorf("attempt %d: %s", done.Attempt, *done.ErrorMessage)
	}
}

func TestATaskThatTakesTooLongIsStopped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _, _ := blocked()
	b.run(t, func(c *worker.Config) { c.TaskTimeout = 50 * time.Millisecond }, e)
	task := b.segment(t, 9)
	done := b.eventually(t, task.ID, "a failed attempt", func(task taskdb.Task) bool { return task.FailedAttempts == 1 })
	if *done.ErrorMessage != "The task took longer than it may." {
		t.Error(*done.ErrorMessage)
	}
}

func TestAWorkerWithABrokenEngineLeavesTheQueueAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var runs atomic.Int64
	e := &fake{}
	e.run = func(context.Context, engine.Task, engine.Sink) error {
		if runs.Add(1) == 1 {
			e.down.Store(true)
			return engine.Errorf(engine.EngineDown, "The engine fell over.")
		}
		return nil
	}
	b.run(t, nil, e)
	tasks := []taskdb.Task{b.segment(t, 9), b.segment(t, 9), b.segment(t, 9)}
	b.eventually(t, tasks[0].ID, "due again", func(task taskdb.Task) bool {
		return task.FailedAttempts == 1 && task.RunAfter != nil && time.Now().After(task.RunAfter.Add(time.Second))
	})
	if n := runs.Load(); n != 1 {
		t.Errorf("%d runs on a broken engine", n)
	}
	e.down.Store(false)
	for _, task := range tasks {
		b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
	}
}

func TestAWorkerRefusesADatabaseThatLacksMigrations(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		address func(testing.TB) string
		want    string
	}{
		"ours": {func(tb testing.TB) string {
			tb.Helper()
			return taskdbtest.NewEmpty(tb).URL
		}, "the database lacks migrations (00001_tables.sql, "},
		"River's": {func(tb testing.TB) string {
			tb.Helper()
			return taskdbtest.New(tb).Login(tb, "worker")
		}, "the database lacks River's migrations (Unapplied migrations: ["},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, err := pgxpool.New(t.Context(), test.address(t))
			must(t, err)
			defer pool.Close()
			w := worker.New(worker.Config{Pool: pool, WorkerID: "w", TempDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
			if err := w.Run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), test.want) || !strings.HasSuffix(err.Error(), "run `gateway migrate` first") {
				t.Error(err)
			}
		})
	}
}
