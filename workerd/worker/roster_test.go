package worker_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
	"darkroom/workerd/engine"
	"darkroom/workerd/worker"
)

// rarely makes a worker look by itself so seldom that what happens in a test was rung for.
func rarely(c *worker.Config) { c.Poll = time.Hour }

// image makes a task of the type single_image.
func (b *bundle) image(t *testing.T) taskdb.Task {
	t.Helper()
	return b.create(t, "single_image", map[string]any{"prompt": "a cat"})
}

// said is what the worker says of itself in the database.
func (b *bundle) said(t *testing.T, id string) worker.Status {
	t.Helper()
	var info []byte
	must(t, b.test.Pool.QueryRow(t.Context(), "select coalesce((select info from workers where id = $1), '{}')", id).Scan(&info))
	var status worker.Status
	must(t, json.Unmarshal(info, &status))
	return status
}

// eventuallySaid waits until the database knows that the engine is in a state.
func (b *bundle) eventuallySaid(t *testing.T, r *running, engine string, state worker.State) worker.EngineStatus {
	t.Helper()
	var last worker.Status
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		last = b.said(t, r.WorkerID)
		if at := slices.IndexFunc(last.Engines, func(e worker.EngineStatus) bool { return e.Name == engine && e.State == state }); at >= 0 {
			return last.Engines[at]
		}
	}
	t.Fatalf("after %s %s is not %s: %+v", patience, engine, state, last)
	panic("not reached")
}

// startedBy waits until the worker has taken the task, which may have been created before River listens: only then are rings heard.
func (b *bundle) startedBy(t *testing.T, task taskdb.Task) {
	t.Helper()
	b.eventually(t, task.ID, "taken", func(task taskdb.Task) bool {
		must(t, b.ring(t))
		return task.Status != taskdb.StatusQueued
	})
}

func ok(context.Context, engine.Task, engine.Sink) error { return nil }

func TestABusyEngineLeavesTheOthersToTheirTasks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	travel, started, end := blocked()
	r := b.run(t, func(c *worker.Config) {
		rarely(c)
		c.Slots = 2
	}, travel, &fake{types: []string{"single_image"}, run: ok})
	b.eventuallySaid(t, r, "fake", worker.Up)
	first, second := b.segment(t, 9), b.segment(t, 9)
	b.startedBy(t, first)
	await(t, "start", started)
	for range 3 {
		b.eventually(t, b.image(t).ID, "Complete", inStatus(taskdb.StatusComplete))
	}
	if got := b.task(t, second.ID); got.Status != taskdb.StatusQueued {
		t.Errorf("%s: its engine had no free slot", got.Status)
	}
	if status := r.Status(); status.Slots != 2 || status.Engines[0].Busy != 1 || status.Engines[0].Slots != 1 {
		t.Errorf("%+v", status)
	}
	end <- struct{}{}
	await(t, "start of the second, as soon as the slot is free", started)
	b.eventually(t, first.ID, "Complete", inStatus(taskdb.StatusComplete))
	close(end)
	b.eventually(t, second.ID, "Complete", inStatus(taskdb.StatusComplete))
}

func TestTheWorkersSlotsLimitAllItsEngines(t *testing.T) {
	t.Parallel()
	b := setup(t)
	travel, started, end := blocked()
	var most atomic.Int64 // tasks at the same time
	var r *running
	images := &fake{types: []string{"single_image"}, slots: 3, run: func(context.Context, engine.Task, engine.Sink) error {
		most.Store(max(most.Load(), int64(r.Status().Busy)))
		return nil
	}}
	r = b.run(t, rarely, travel, images) // one slot
	segment := b.segment(t, 9)
	b.startedBy(t, segment)
	await(t, "start", started)
	tasks := []taskdb.Task{b.image(t), b.segment(t, 9), b.image(t)}
	must(t, b.ring(t))
	close(end)
	for _, task := range append(tasks, segment) {
		b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
	}
	if most.Load() != 1 || r.Status().Busy > 1 {
		t.Errorf("%d tasks at the same time, in one slot", most.Load())
	}
}

// ring makes workers look for tasks.
func (b *bundle) ring(t *testing.T) error {
	t.Helper()
	_, err := b.test.Pool.Exec(t.Context(), `select pg_notify('river.river_insert', '{"queue":"tasks"}')`)
	return err
}

func TestAnEngineThatIsDownAtTheStartStopsOnlyItsOwnTasks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	travel := &fake{run: ok}
	travel.down.Store(true)
	r := b.run(t, func(c *worker.Config) {
		rarely(c)
		c.Slots = 2
	}, travel, &fake{types: []string{"single_image"}, run: ok})
	segment, image := b.segment(t, 9), b.image(t)
	b.startedBy(t, image)
	b.eventually(t, image.ID, "Complete", inStatus(taskdb.StatusComplete))
	for deadline := time.Now().Add(patience); b.eventuallySaid(t, r, "fake", worker.Down).Reason != "It is down."; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", b.said(t, r.WorkerID))
		}
	}
	if got := b.task(t, segment.ID); got.Status != taskdb.StatusQueued || got.Attempt != 0 {
		t.Errorf("%s, attempt %d", got.Status, got.Attempt)
	}
	must(t, r.Check()) // the worker itself is well
	travel.down.Store(false)
	b.eventually(t, segment.ID, "Complete", inStatus(taskdb.StatusComplete))
	if up := b.eventuallySaid(t, r, "fake", worker.Up); up.Reason != "" {
		t.Errorf("it is up, with the reason %q", up.Reason)
	}
}

func TestAnIdleEngineThatGoesAwayCostsNoTaskAnAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	travel := &fake{run: ok}
	r := b.run(t, rarely, travel)
	b.eventuallySaid(t, r, "fake", worker.Up)
	travel.down.Store(true)
	if down := b.eventuallySaid(t, r, "fake", worker.Down); down.Reason != "It is down." {
		t.Errorf("reason %q", down.Reason)
	}
	travel.down.Store(false)
	segment := b.segment(t, 9)
	if done := b.eventually(t, segment.ID, "Complete", inStatus(taskdb.StatusComplete)); done.Attempt != 1 {
		t.Errorf("attempt %d", done.Attempt)
	}
}

func TestAnEngineThatFailsThoughItIsWellRestsAndIsTriedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var broken atomic.Bool
	broken.Store(true)
	probing, goOn := make(chan uuid.UUID, 10), make(chan struct{})
	var runs atomic.Int64
	e := &fake{types: []string{"single_image"}, slots: 2, run: func(ctx context.Context, task engine.Task, _ engine.Sink) error {
		if runs.Add(1) > 3 {
			probing <- task.ID
			select {
			case <-goOn:
			case <-ctx.Done():
				return engine.Stopped(ctx)
			}
		}
		if broken.Load() {
			return engine.Errorf(engine.EngineDown, "It stumbled.")
		}
		return nil
	}}
	r := b.run(t, func(c *worker.Config) {
		c.Slots = 2
		c.CheckEvery = 300 * time.Millisecond
	}, e)
	name := e.Info().Name
	b.eventuallySaid(t, r, name, worker.Up)
	// One after the other, so that three fail in a row.
	var tasks []taskdb.Task
	for n := range 3 {
		tasks = append(tasks, b.image(t))
		b.eventually(t, tasks[n].ID, "failed once", func(task taskdb.Task) bool { return task.FailedAttempts > 0 })
		if int(runs.Load()) > n+1 { // a retry was quicker than we
			break
		}
	}
	rests := b.eventuallySaid(t, r, name, worker.Down)
	if !strings.Contains(rests.Reason, "It says it is well") || !strings.Contains(rests.Reason, "It stumbled.") {
		t.Errorf("it rests for the reason %q", rests.Reason)
	}
	for range 3 {
		tasks = append(tasks, b.image(t))
	}
	b.eventuallySaid(t, r, name, worker.Probing)
	await(t, "the probe", probing)
	must(t, b.ring(t))
	select {
	case <-probing:
		t.Error("two tasks at once on an engine that is only tried")
	case <-time.After(100 * time.Millisecond): // twice what a claim takes
	}
	broken.Store(false)
	close(goOn)
	for _, task := range tasks {
		b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
	}
	b.eventuallySaid(t, r, name, worker.Up)
}

func TestTheDatabaseKnowsWhatAWorkerHas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	both := &fake{types: []string{"single_image", "travel_segment"}, slots: 2, run: ok}
	r := b.run(t, func(c *worker.Config) {
		c.Slots = 3
		c.Capabilities = []string{"flux"}
		c.Engines = append(c.Engines, worker.Engine{Engine: described{both}, Kind: "native"}, worker.Engine{Engine: mediaEngine(t), Kind: "media"})
	})
	b.eventuallySaid(t, r, "media", worker.Up)
	b.eventuallySaid(t, r, both.Info().Name, worker.Up)
	var info string
	var types, capabilities []string
	row := b.test.Pool.QueryRow(t.Context(), `
		select jsonb_pretty(jsonb_set(jsonb_set(info, '{engines,0,since}', '""'), '{engines,1,since}', '""')), task_types, capabilities
		from workers where id = $1`, r.WorkerID)
	must(t, row.Scan(&info, &types, &capabilities))
	const want = `{"busy": 0, "slots": 3, "engines": [
		{"busy": 0, "kind": "native", "name": "fake-single_image-travel_segment", "since": "", "slots": 2, "state": "up", "device": "cuda:0",
		 "models": ["small"], "task_types": ["single_image", "travel_segment"], "memory_bytes": 25769803776},
		{"busy": 0, "kind": "media", "name": "media", "since": "", "slots": 1, "state": "up", "device": "cpu",
		 "models": [], "task_types": ["travel_stitch"], "memory_bytes": 0}]}`
	squeeze := func(text string) string { return strings.Join(strings.Fields(text), "") }
	if squeeze(info) != squeeze(want) {
		t.Errorf("got %s\nwant %s", info, want)
	}
	if !slices.Equal(types, []string{"single_image", "travel_orchestrator", "travel_segment", "travel_stitch"}) || !slices.Equal(capabilities, []string{"flux", "wan2gp"}) {
		t.Errorf("%v %v", types, capabilities)
	}
}

// described has a device.
type described struct{ *fake }

func (d described) Info() engine.Info {
	info := d.fake.Info()
	info.Device, info.Models, info.MemoryBytes = "cuda:0", []string{"small"}, 24<<30
	return info
}

func TestAWorkerOffersJustWhatItsEnginesDo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.run(t, nil, &fake{types: []string{"single_image"}, run: ok})
	b.eventuallySaid(t, r, "fake-single_image", worker.Up)
	var types, capabilities []string
	must(t, b.test.Pool.QueryRow(t.Context(), "select task_types, capabilities from workers where id = $1", r.WorkerID).Scan(&types, &capabilities))
	if !slices.Equal(types, []string{"single_image"}) || len(capabilities) > 0 {
		t.Errorf("%v %v", types, capabilities)
	}
}

func TestAWorkerWithATypeThatTheDatabaseDoesNotKnowEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.run(t, nil, &fake{types: []string{"dancing"}, run: ok})
	if err := await(t, "end", r.ended); err == nil || !strings.Contains(err.Error(), `There is no task type "dancing"`) {
		t.Error(err)
	}
}

func TestWorkThatWasNotClaimedSharesTheSlots(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, started, end := blocked()
	r := b.run(t, rarely, e)
	b.startedBy(t, b.segment(t, 9))
	await(t, "start", started)
	end <- struct{}{}
	done := make(chan error, 2)
	do := func(ctx context.Context) {
		_, err := r.Do(ctx, engine.Task{ID: uuid.New(), Type: "travel_segment", OutDir: t.TempDir()}, nil)
		done <- err
	}
	go do(t.Context())
	await(t, "start of what was not claimed", started)
	task := b.segment(t, 9)
	must(t, b.ring(t))
	impatient, giveUp := context.WithCancel(t.Context())
	go do(impatient)
	giveUp()
	if err := await(t, "end of who gave up", done); engine.ClassOf(err) != engine.Cancelled {
		t.Error(err)
	}
	if got := b.task(t, task.ID); got.Status != taskdb.StatusQueued {
		t.Errorf("%s: the slot was taken", got.Status)
	}
	end <- struct{}{}
	must(t, await(t, "end of what was not claimed", done))
	await(t, "start of the task, as soon as the slot is free", started)

	go do(t.Context())
	end <- struct{}{}
	await(t, "start of what waited for the task", started)
	close(end)
	must(t, await(t, "end of what waited", done))
	b.eventually(t, task.ID, "Complete", inStatus(taskdb.StatusComplete))
	if _, err := r.Do(t.Context(), engine.Task{Type: "single_image"}, nil); engine.ClassOf(err) != engine.BadInput {
		t.Errorf("a type that no engine does: %v", err)
	}
}

func TestTooLittleMemoryIsTriedAgainAndThenSaid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.run(t, nil, described{&fake{run: func(context.Context, engine.Task, engine.Sink) error {
		return engine.Errorf(engine.OutOfMem, "No memory.")
	}}})
	task := b.segment(t, 9)
	waits := b.eventually(t, task.ID, "given back", func(task taskdb.Task) bool { return task.FailedAttempts == 1 })
	if pause := time.Until(*waits.RunAfter); *waits.ErrorMessage != "No memory." || pause < 5*time.Second {
		t.Errorf("%q, due in %s", *waits.ErrorMessage, pause)
	}
	b.eventuallySaid(t, r, "fake", worker.Up) // it is no fault of the engine
	done := b.eventually(t, task.ID, "Failed", inStatus(taskdb.StatusFailed))
	const want = "The task needs more memory than cuda:0 with its 24 GiB has: choose a smaller size or fewer frames."
	if *done.ErrorMessage != want || done.Attempt != 2 || b.settled(t, task.ID) != 0 {
		t.Errorf("attempt %d, %d charges: %q", done.Attempt, b.settled(t, task.ID), *done.ErrorMessage)
	}
}

func TestInputsAreFetchedByTheirParams(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := make(chan []engine.Role, 1)
	e := &fake{types: []string{"single_image", "travel_segment"}, run: func(_ context.Context, task engine.Task, _ engine.Sink) error {
		roles := []engine.Role{}
		for _, input := range task.Inputs {
			roles = append(roles, input.Role)
		}
		got <- roles
		return nil
	}}
	b.run(t, func(c *worker.Config) {
		c.Inputs = map[string][]worker.Input{"travel_segment": {{Param: "faces", Kind: worker.DefaultInputs("")[0].Kind}, {Param: "start_image", Kind: worker.DefaultInputs("")[0].Kind}}}
	}, e)
	for _, test := range []struct {
		taskType string
		params   map[string]any
		want     []engine.Role
		refused  string
	}{
		{"single_image", map[string]any{"prompt": "x"}, []engine.Role{}, ""},
		{"single_image", map[string]any{"prompt": "x", "mask": b.pictures[0], "image": b.pictures[1], "start_image": b.pictures[2]}, []engine.Role{"image", "mask"}, ""},
		{"single_image", map[string]any{"prompt": "x", "mask": nil, "image": ""}, []engine.Role{}, ""},
		{"travel_segment", map[string]any{"start_image": b.pictures[0], "end_image": b.pictures[1], "faces": b.pictures}, []engine.Role{"faces", "faces", "faces", "start_image"}, ""},
		{"single_image", map[string]any{"prompt": "x", "image": 7}, nil, "The param image must be the address or key of a file, or a list of up to 100 of them."},
		{"single_image", map[string]any{"prompt": "x", "image": slices.Repeat([]string{"a"}, 101)}, nil, "The param image must be the address or key of a file, or a list of up to 100 of them."},
	} {
		task := b.create(t, test.taskType, test.params)
		if test.refused != "" {
			failed := b.eventually(t, task.ID, "Failed", inStatus(taskdb.StatusFailed))
			if *failed.ErrorMessage != test.refused {
				t.Errorf("%v: %q", test.params, *failed.ErrorMessage)
			}
			continue
		}
		if roles := await(t, "run", got); !slices.Equal(roles, test.want) {
			t.Errorf("%v: got %v, want %v", test.params, roles, test.want)
		}
	}
}
