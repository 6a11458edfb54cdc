package taskdb_test

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

func (b *bench) explain(id uuid.UUID) taskdb.TaskExplanation {
	b.t.Helper()
	explanation, err := b.ExplainTask(b.t.Context(), id)
	b.noError(err)
	if explanation.TaskID != id {
		b.t.Fatalf("task %s was explained instead of %s", explanation.TaskID, id)
	}
	return explanation
}

func codesOf(e taskdb.TaskExplanation) string {
	var codes []string
	for _, reason := range e.Reasons {
		codes = append(codes, reason.Code)
	}
	return strings.Join(codes, " ")
}

func TestEachCauseIsExplained(t *testing.T) {
	t.Parallel()
	outer := setup(t, 0)
	met := map[string]bool{}
	for name, c := range causes {
		outer.inTx(t, func(b *bench) {
			b = b.as(100)
			got := b.explain(c.make(b))
			var position int64
			if got.QueuePosition != nil {
				position = *got.QueuePosition
			}
			if codesOf(got) != c.codes || position != c.position || got.Runnable != (c.position > 0) || got.Status != b.get(got.TaskID).Status {
				t.Errorf("%s: %s, runnable %v at %d: %+v; want %q at %d", name, got.Status, got.Runnable, position, got.Reasons, c.codes, c.position)
				return
			}
			for _, reason := range got.Reasons {
				met[reason.Code] = true
				if len(reason.Message) < 2 || !json.Valid(reason.Detail) {
					t.Errorf("%s: %+v", name, reason)
				}
			}
			if len(got.Reasons) > 0 && c.detail != "" && !value[bool](b, "select $1::jsonb @> $2::jsonb", string(got.Reasons[0].Detail), c.detail) {
				t.Errorf("%s: %s does not contain %s", name, got.Reasons[0].Detail, c.detail)
			}
		})
	}
	// The codes that the functions give are those in the README, and each of them is met above.
	given := map[string]bool{}
	files, err := filepath.Glob("../internal/explain_*.sql")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		for _, match := range regexp.MustCompile(`reason\('(\w+)'`).FindAllStringSubmatch(readFile(t, file), -1) {
			given[match[1]] = true
		}
	}
	_, section, _ := strings.Cut(readFile(t, "../README.md"), "## Why a task waits")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(section, -1) {
		documented[match[1]] = true
	}
	for code := range given {
		if !documented[code] || !met[code] {
			t.Errorf("%s: in the README %v, met %v", code, documented[code], met[code])
		}
	}
	if len(given) != len(documented) {
		t.Errorf("the README has %d codes, the functions give %d", len(documented), len(given))
	}
}

// Messages say what a person has to know.
func TestExplanationsReadWell(t *testing.T) {
	t.Parallel()
	b := setup(t, 2)
	b.image()
	second := b.image()
	b.claim(anyWorker)
	b.claimThis(gpuWorker, second)
	third := b.as(1)
	first := third.image()
	b.exec("delete from credit_ledger where owner_id = $1", third.owner)
	for id, want := range map[uuid.UUID]string{
		first.ID:  "It costs 1 credits and 0 are available: 1 are missing.",
		second.ID: "Worker worker-gpu has been running it since 20",
	} {
		if got := b.explain(id); len(got.Reasons) == 0 || !strings.HasPrefix(got.Reasons[0].Message, want) {
			t.Errorf("%+v, want %s", got.Reasons, want)
		}
	}
}

// Of others' engines it is not said why they are down, of one's own it is.
func TestWhyAnEngineIsDownIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	setup(t, 10).inTx(t, func(b *bench) {
		b.alone("down")
		task := b.image()
		if got := b.explain(task.ID); strings.Contains(string(got.Reasons[0].Detail), "10.0.0.7") {
			t.Errorf("%s", got.Reasons[0].Detail)
		}
		b.exec("update workers set owner_id = $1", b.owner)
		if got := b.explain(task.ID); !strings.Contains(string(got.Reasons[0].Detail), "10.0.0.7") {
			t.Errorf("%s", got.Reasons[0].Detail)
		}
	})
}

func TestExplainTaskIsForItsOwner(t *testing.T) {
	t.Parallel()
	a := setup(t, 10)
	stranger, task := a.as(10), a.image()
	failed := a.fail(a.claimThis(anyWorker, task), "no")
	explain := func(id uuid.UUID) func(b *bench) error {
		return func(b *bench) error { _, err := b.ExplainTask(t.Context(), id); return err }
	}
	retry := func(id uuid.UUID) func(b *bench) error {
		return func(b *bench) error { _, err := b.CreateTaskAgain(t.Context(), id, ""); return err }
	}
	for name, call := range map[string]func(uuid.UUID) func(*bench) error{"explain": explain, "retry": retry} {
		a.inTx(t, func(b *bench) {
			b.become("authenticated", user(a.owner))
			b.noError(call(failed.ID)(b))
		})
		a.inTx(t, func(b *bench) {
			b.become("authenticated", user(stranger.owner))
			theirs := b.attempt(func() error { return call(failed.ID)(b) })
			missing := b.attempt(func() error { return call(stranger.owner)(b) })
			b.wantError(theirs, taskdb.ErrTaskNotFound)
			if a, b := strings.ReplaceAll(theirs.Error(), failed.ID.String(), ""), strings.ReplaceAll(missing.Error(), stranger.owner.String(), ""); a != b {
				t.Errorf("%s: a stranger's task is %q, a missing one %q", name, a, b)
			}
		})
		a.inTx(t, func(b *bench) {
			b.become("authenticated", map[string]any{})
			b.wantError(call(failed.ID)(b), taskdb.ErrNotSignedIn)
		})
	}
}

// done makes a Complete task of that type that took that long.
func (b *bench) done(taskType string, took time.Duration) {
	b.t.Helper()
	b.exec(`insert into tasks (project_id, task_type, params) values ($1, $2, '{"prompt": "x"}')`, b.project, taskType)
	task := b.complete(b.claim(gpuWorker))
	b.exec("update tasks set claimed_at = completed_at - $2::interval where id = $1", task.ID, took)
}

// wantStart compares an expected start with so long from now; nil is not known.
func (b *bench) wantStart(id uuid.UUID, in time.Duration, known bool) {
	b.t.Helper()
	got := b.explain(id).ExpectedStart
	now := value[time.Time](b, "select clock_timestamp()")
	if (got != nil) != known || got != nil && (got.Sub(now) < in-awhile || got.Sub(now) > in) {
		b.t.Errorf("it starts at %v, now is %v; want in %v: %v", got, now, in, known)
	}
}

func TestExpectedStart(t *testing.T) {
	t.Parallel()
	setup(t, 100).inTx(t, func(b *bench) {
		b.exec("delete from workers where id = $1", anyWorker)
		first := b.image()
		b.wantStart(first.ID, 0, true) // a slot is free
		b.claim(gpuWorker)
		second := b.image()
		b.wantStart(second.ID, 0, false) // nothing is known of images
	})
	setup(t, 100).inTx(t, func(b *bench) {
		b.exec("delete from workers where id = $1", anyWorker)
		for _, took := range []time.Duration{time.Hour, 10 * time.Minute, time.Second} {
			b.done("single_image", took) // the median: 10 min
		}
		b.done("travel_segment", 100*time.Minute)
		running, second, third, segment, travel, last := b.image(), b.image(), b.image(), taskdb.NewTask{TaskType: "travel_segment", Params: object()},
			travelTask(b.project, b.shot, 1), imageTask(b.project)
		b.claimThis(gpuWorker, running)
		b.create(segment)
		b.create(travel)
		end := b.create(last)
		b.wantStart(second.ID, 10*time.Minute, true)
		b.wantStart(third.ID, 20*time.Minute, true)
		b.wantStart(end.ID, 130*time.Minute, true) // three images, a segment; the orchestrator takes none
		b.register("second", "wan2gp")             // which is free
		b.wantStart(second.ID, 0, true)
		b.wantStart(third.ID, 10*time.Minute, true) // the second takes the one before it
		b.wantStart(end.ID, 65*time.Minute, true)   // half of all
		b.age(gpuWorker, 4*time.Minute)
		b.wantStart(end.ID, 63*time.Minute, true) // of which some is done
		b.exec("update credit_ledger set held_after = balance_after")
		b.wantStart(end.ID, 0, false) // it can't be paid
		b.exec("delete from workers")
		b.wantStart(end.ID, 0, false)
	})
	setup(t, 100).inTx(t, func(b *bench) {
		delayed := b.fails(b.image(), 1, time.Hour)
		b.wantStart(delayed, time.Hour, true)
		b.exec("delete from workers")
		b.wantStart(delayed, 0, false)
		waiting := b.after(delayed)
		b.wantStart(waiting.ID, 0, false)
	})
}

func TestRetryTaskMakesItAgain(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t, 3), t.Context()
	request := imageTask(b.project, "seed", 7)
	request.TaskType, request.ToolID = "", "image-generation"
	done := b.complete(b.claimThis(anyWorker, b.image()))
	request.DependantOn = []uuid.UUID{done.ID}
	failed := b.fail(b.claimThis(anyWorker, b.create(request)), "no")
	again, err := b.CreateTaskAgain(ctx, failed.ID, "")
	b.noError(err)
	if again.ID == failed.ID || again.Status != taskdb.StatusQueued || again.Attempt != 0 || text(again.ToolID) != "image-generation" || again.TaskType != "single_image" ||
		string(again.Params) != string(failed.Params) || !slices.Equal(again.DependantOn, failed.DependantOn) || again.Cost != failed.Cost {
		t.Errorf("%+v, of %+v", again, failed)
	}
	b.wantStatus(failed.ID, taskdb.StatusFailed)

	cancelled, err := b.CancelTask(ctx, again.ID, "")
	b.noError(err)
	keyed, err := b.CreateTaskAgain(ctx, cancelled.ID, "once")
	b.noError(err)
	repeated, err := b.CreateTaskAgain(ctx, cancelled.ID, "once")
	b.noError(err)
	if keyed.ID != repeated.ID || keyed.ID == cancelled.ID {
		t.Errorf("%s, then %s", keyed.ID, repeated.ID)
	}
	_, err = b.CreateTaskAgain(ctx, b.failedImage(), "once")
	wantRefusal(t, err, taskdb.ErrConflict)
	b.claimThis(anyWorker, keyed)
	b.healthy()
}

// failedImage is a task that failed, other than the ones that a test looks at.
func (b *bench) failedImage() uuid.UUID {
	b.t.Helper()
	task := b.image("seed", 1)
	_, err := b.CancelTask(b.t.Context(), task.ID, "")
	b.noError(err)
	return task.ID
}

func TestRetryTaskIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(b *bench) uuid.UUID
		want *taskdb.Error
	}{
		"queued":   {func(b *bench) uuid.UUID { return b.image().ID }, taskdb.ErrNothingToRetry},
		"running":  {func(b *bench) uuid.UUID { return b.claimThis(anyWorker, b.image()).ID }, taskdb.ErrNothingToRetry},
		"complete": {func(b *bench) uuid.UUID { return b.complete(b.claimThis(anyWorker, b.image())).ID }, taskdb.ErrNothingToRetry},
		"missing":  {func(b *bench) uuid.UUID { return b.owner }, taskdb.ErrTaskNotFound},
		"of a tree": {func(b *bench) uuid.UUID {
			children := b.expand(b.claimThis(gpuWorker, b.create(travelTask(b.project, b.shot, 1))))
			return b.fail(b.claimThis(gpuWorker, children[0]), "no").ID
		}, taskdb.ErrNothingToRetry},
		"waits for one that failed": {func(b *bench) uuid.UUID {
			first := b.image()
			waiting := b.after(first.ID)
			b.fail(b.claimThis(anyWorker, first), "no")
			return waiting.ID
		}, taskdb.ErrNothingToRetry},
		"cannot be paid": {func(b *bench) uuid.UUID {
			id := b.failedImage()
			b.exec("delete from credit_ledger")
			return id
		}, taskdb.ErrInsufficientCredits},
		"is switched off": {func(b *bench) uuid.UUID {
			id := b.failedImage()
			b.exec("update task_types set enabled = false")
			return id
		}, taskdb.ErrUnknownType},
		"too many are queued": {func(b *bench) uuid.UUID {
			id := b.failedImage()
			b.image()
			b.exec("select set_queue_limit(1)")
			return id
		}, taskdb.ErrTooManyQueued},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			setup(t, 100).inTx(t, func(b *bench) {
				_, err := b.CreateTaskAgain(t.Context(), c.make(b), "")
				wantRefusal(t, err, c.want)
			})
		})
	}
}

func (b *bench) workers() map[string]taskdb.WorkerStatus {
	b.t.Helper()
	list, err := b.ListWorkers(b.t.Context())
	b.noError(err)
	byID := map[string]taskdb.WorkerStatus{}
	for _, w := range list {
		byID[w.ID] = w
	}
	return byID
}

func TestListWorkers(t *testing.T) {
	t.Parallel()
	setup(t, 100).inTx(t, func(b *bench) {
		a := b.as(100)
		mine := a.claimThis(gpuWorker, a.image())
		theirs := b.claimThis(gpuWorker, b.image())
		b.exec("update workers set info = $1 where id = $2", strings.Replace(strings.Replace(engineInfo, "STATE", "down", 1), `"slots": 3`, `"slots": 3, "busy": 2, "host": "gpu7.example"`, 1), gpuWorker)
		for id, owner := range map[string]uuid.UUID{"of a": a.owner, "of b": b.owner} {
			b.exec(`insert into workers (id, owner_id, last_heartbeat, task_types, info) values ($1, $2, clock_timestamp(), '{single_image}', '{"host": "home.example"}')`, id, owner)
		}
		b.worker("gone", "{}")
		b.age("gone", 25*time.Hour)
		b.worker("silent", "{}")
		b.age("silent", 16*time.Minute)
		b.exec("insert into workers (id, lease_timeout, created_at) values ('no heartbeats', '1 hour', now() - interval '50 minutes')")
		travel := a.claimThis(anyWorker2(b), a.create(travelTask(a.project, a.shot, 1)))
		a.expand(travel)

		all := b.workers() // as the superuser, who is everybody
		if len(all) != 7 || all["silent"].Alive || !all["no heartbeats"].Alive || all["gone"].ID != "" || !strings.Contains(string(all[gpuWorker].Running), theirs.ID.String()) ||
			!strings.Contains(string(all[gpuWorker].Info), "gpu7.example") || string(all["orchestrates"].Running) != "[]" {
			t.Errorf("the service sees %v", all)
		}
		b.become("authenticated", user(a.owner))
		seen := b.workers()
		w := seen[gpuWorker]
		var running []struct {
			TaskID   uuid.UUID `json:"task_id"`
			TaskType string    `json:"task_type"`
			Attempt  int       `json:"attempt"`
			Claimed  time.Time `json:"claimed_at"`
		}
		b.noError(json.Unmarshal(w.Running, &running))
		if len(running) != 1 || running[0].TaskID != mine.ID || running[0].TaskType != "single_image" || running[0].Attempt != 1 || !running[0].Claimed.Equal(*mine.ClaimedAt) {
			t.Errorf("running: %s", w.Running)
		}
		if info := string(w.Info); strings.Contains(info, "gpu7.example") || strings.Contains(info, "10.0.0.7") || !strings.Contains(info, `"flux"`) || !strings.Contains(info, `"busy": 2`) {
			t.Errorf("info of everybody's worker: %s", info)
		}
		if !w.Alive || !slices.Equal(w.Capabilities, []string{"wan2gp"}) || !slices.Contains(w.TaskTypes, "travel_stitch") || w.LastHeartbeat == nil {
			t.Errorf("%+v", w)
		}
		if own := seen["of a"]; !strings.Contains(string(own.Info), "home.example") || !slices.Equal(own.TaskTypes, []string{"single_image"}) || string(own.Running) != "[]" {
			t.Errorf("own: %+v", own)
		}
		if _, there := seen["of b"]; there || len(seen) != 6 {
			t.Errorf("a user sees %v", seen)
		}
	})
	setup(t, 0).inTx(t, func(b *bench) {
		b.become("authenticated", map[string]any{})
		_, err := b.ListWorkers(t.Context())
		b.wantError(err, taskdb.ErrNotSignedIn)
	})
}

// anyWorker2 is one more worker, for travels.
func anyWorker2(b *bench) string {
	b.t.Helper()
	b.register("orchestrates", "wan2gp")
	return "orchestrates"
}

// However many there are, those that are alive come first and no more than 200.
func TestListWorkersIsBounded(t *testing.T) {
	t.Parallel()
	setup(t, 0).inTx(t, func(b *bench) {
		b.exec("insert into workers (id, last_heartbeat) select 'w' || n, clock_timestamp() - n * interval '10 seconds' from generate_series(1, 300) n")
		list, err := b.ListWorkers(t.Context())
		b.noError(err)
		alive := 0
		for i, w := range list {
			if w.Alive && i == alive {
				alive++
			}
		}
		if len(list) != 200 || alive != 91 { // 89 of them within 15 min, and the two of every test
			t.Errorf("%d workers, the first %d alive", len(list), alive)
		}
	})
}

// pages is how many pages a statement looks at.
func (b *bench) pages(statement string) int {
	b.t.Helper()
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		} `json:"Plan"`
	}
	b.noError(json.Unmarshal([]byte(value[string](b, "explain (analyze, buffers, format json) "+statement)), &plans))
	return plans[0].Plan.Hit + plans[0].Plan.Read
}

// fill queues that many tasks of the owner's, as old as hours and days, without what they would write besides.
func (b *bench) fill(tasks int) {
	b.t.Helper()
	b.exec("set local session_replication_role = replica")
	b.exec(`insert into tasks (id, owner_id, project_id, task_type, params, cost, created_at)
		select darkroom.new_id(), $1, $2, 'single_image', '{}', 1, clock_timestamp() - n * interval '1 second' from generate_series(1, $3::integer) n`, b.owner, b.project, tasks)
	for table, places := range map[string]string{"task_ready": "<= 16", "task_backlog": "> 16"} {
		b.exec(`insert into darkroom.`+table+` (owner_id, task_type, cost, created_at, job_no, task_id)
			select q.owner_id, q.task_type, q.cost, q.created_at, q.job_no, q.id
			from (select *, row_number() over (order by created_at, job_no) as place from tasks where owner_id = $1) q where place `+places, b.owner)
	}
	b.exec("set local session_replication_role = origin")
}

// However much is queued and was done, explaining a task and listing the workers cost the same.
func TestExplainingIsBounded(t *testing.T) {
	t.Parallel()
	setup(t, 100).inTx(t, func(b *bench) {
		var before int
		for i, queued := range []int{100, 2_000, 20_000} {
			for range 2 {
				b.as(10_000).fill(queued / 2)
			}
			b.exec("analyze")
			youngest := b.image()
			explain, list := "select * from explain_task('"+youngest.ID.String()+"')", "select * from list_workers()"
			b.pages(explain) // plans
			b.pages(list)
			explaining, listing := b.pages(explain), b.pages(list)
			t.Logf("%d queued: explain_task looks at %d pages, list_workers at %d", queued, explaining, listing)
			if i == 2 && explaining > 2*before || explaining > 3000 || listing > 40 {
				t.Errorf("%d queued: explain_task looks at %d pages, list_workers at %d; before it was %d", queued, explaining, listing, before)
			}
			before = explaining
		}
	})
}

// What other workers run does not slow down the look at one.
func TestListWorkersLooksAtEachWorkersTasksAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, 1000)
	b.exec("vacuum analyze") // when nothing runs
	b.exec("insert into tasks (project_id, task_type, params) select $1, 'single_image', '{\"prompt\": \"x\"}' from generate_series(1, 300)", b.project)
	if tasks, err := b.ClaimNextTasks(t.Context(), anyWorker, 300, nil); err != nil || len(tasks) != 300 {
		t.Fatal(len(tasks), err)
	}
	b.pages("select * from list_workers()")
	one := b.pages("select * from list_workers()")
	b.exec("insert into workers (id, last_heartbeat, running) select 'w' || n, clock_timestamp(), '{}' from generate_series(1, 50) n")
	if more := b.pages("select * from list_workers()") - one; more > 50*10 {
		t.Errorf("50 idle workers cost %d pages, beside %d", more, one)
	}
}

// Nor do the dead rows of what a worker has done, which an old transaction pins, once it was heard from again.
func TestListWorkersLooksAtNoDeadRows(t *testing.T) {
	t.Parallel()
	b := setup(t, 1000)
	pin := b.pg.Conn(t)
	if _, err := pin.Exec(t.Context(), "begin isolation level repeatable read; select count(*) from tasks"); err != nil {
		t.Fatal(err)
	}
	b.pages("select * from list_workers()")
	before := b.pages("select * from list_workers()")
	for range 300 {
		b.image()
	}
	tasks, err := b.ClaimNextTasks(t.Context(), anyWorker, 300, nil)
	b.noError(err)
	for _, task := range tasks {
		b.complete(task)
	}
	b.exec("update workers set last_heartbeat = clock_timestamp() + interval '1 minute', running = '{}'")
	after := min(b.pages("select * from list_workers()"), b.pages("select * from list_workers()")) // a connection plans at first
	if len(tasks) != 300 || after > before+10 {
		t.Errorf("%d pages after %d tasks, %d before", after, len(tasks), before)
	}
}
