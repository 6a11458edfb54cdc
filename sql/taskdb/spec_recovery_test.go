package taskdb_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"darkroom/sql/taskdb"
)

// "Tasks have a timeout mechanism; they return to 'Queued' after 30 minutes". "Detection: Monitor claimed_at timestamp".
func TestSpecTimeoutReturnsTasksAfter30Minutes(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	b.image()
	task := b.claim(anyWorker)

	b.age(anyWorker, 29*time.Minute)
	if got := b.requeueExpired(); len(got) != 0 {
		t.Fatalf("requeued %v after 29 minutes", got)
	}
	b.wantStatus(task.ID, taskdb.StatusInProgress)
	b.age(anyWorker, time.Minute)
	if got := b.requeueExpired(); !slices.Equal(got, []uuid.UUID{task.ID}) {
		t.Fatalf("requeued %v after 30 minutes, want %s", got, task.ID)
	}

	back := b.wantStatus(task.ID, taskdb.StatusQueued)
	if back.WorkerID != nil || back.ClaimedAt != nil || back.Attempt != 1 || back.FailedAttempts != 1 || text(back.ErrorMessage) == "" {
		t.Errorf("requeued %+v", back)
	}
	if n := value[int](b, "select count(*) from task_attempts where task_id = $1 and outcome = 'expired' and error <> ''", task.ID); n != 1 {
		t.Errorf("%d expired attempts are on record", n)
	}
	b.wantCredits(10, 0)
	b.healthy()
	if again := b.claimThis(gpuWorker, task); again.Attempt != 2 {
		t.Errorf("claimed as attempt %d", again.Attempt)
	}
	b.healthy()
}

// A heartbeat holds what it covers: everything, or the tasks it names.
func TestHeartbeatHoldsWhatItCovers(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	ctx := t.Context()
	var held []taskdb.Task
	for range 3 {
		b.image()
		held = append(held, b.claim(anyWorker))
	}
	beat := func(running []taskdb.Running) {
		t.Helper()
		verdicts, err := b.HeartbeatWorker(ctx, anyWorker, running, nil)
		if err != nil || len(verdicts) != 0 {
			t.Fatalf("the heartbeat said %v, %v", verdicts, err)
		}
	}
	b.exec("update tasks set claimed_at = claimed_at - interval '2 hours' where status = 'In Progress'")
	b.watched()
	beat(nil)
	if got := b.requeueExpired(); len(got) != 0 {
		t.Errorf("requeued %v although the worker was heard", got)
	}
	beat([]taskdb.Running{{TaskID: held[1].ID, Attempt: 1}})
	if got := b.requeueExpired(); len(got) != 2 || slices.Contains(got, held[1].ID) {
		t.Errorf("requeued %v, want all but %s", got, held[1].ID)
	}
	beat([]taskdb.Running{})
	if got := b.requeueExpired(); !slices.Equal(got, []uuid.UUID{held[1].ID}) {
		t.Errorf("requeued %v, want what the heartbeat no longer names", got)
	}
	b.healthy()
}

// A worker can agree to a shorter lease; each has its own.
func TestShortLeases(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	_, err := b.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: "short", LeaseTimeout: 90 * time.Second})
	b.noError(err)
	b.image()
	quick := b.claim("short")
	b.image()
	slow := b.claim(anyWorker)
	for _, step := range []struct {
		by   time.Duration
		want []uuid.UUID
	}{{89 * time.Second, nil}, {2 * time.Second, []uuid.UUID{quick.ID}}, {28 * time.Minute, nil}, {time.Minute, []uuid.UUID{slow.ID}}} {
		b.age("short", step.by)
		b.age(anyWorker, step.by)
		if got := b.requeueExpired(); !slices.Equal(got, step.want) {
			t.Errorf("%v later requeued %v, want %v", step.by, got, step.want)
		}
	}
	for _, timeout := range []time.Duration{time.Millisecond, 25 * time.Hour, -time.Minute} {
		_, err = b.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: "x", LeaseTimeout: timeout})
		wantRefusal(t, err, taskdb.ErrInvalidParams)
	}
	_, err = b.RegisterWorker(t.Context(), taskdb.Registration{})
	wantRefusal(t, err, taskdb.ErrInvalidParams)
}

// After an outage nobody is requeued before workers had a chance to be heard.
func TestAnOutageBurnsNoLease(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	b.image()
	task := b.claim(anyWorker)
	b.age(anyWorker, 3*time.Hour)
	b.exec("update darkroom.lease_watch set last_run = clock_timestamp() - interval '2 hours'")
	for range 2 { // the first look notices the gap; those after it remember
		if got := b.requeueExpired(); len(got) != 0 {
			t.Fatalf("requeued %v right after an outage", got)
		}
	}
	if _, err := b.HeartbeatWorker(t.Context(), anyWorker, nil, nil); err != nil {
		t.Fatal(err)
	}
	b.exec("update darkroom.lease_watch set resumed_at = clock_timestamp() - interval '91 seconds'")
	if got := b.requeueExpired(); len(got) != 0 {
		t.Errorf("requeued %v although its worker was heard after the outage", got)
	}
	b.exec("update workers set last_heartbeat = last_heartbeat - interval '31 minutes'")
	if got := b.requeueExpired(); !slices.Equal(got, []uuid.UUID{task.ID}) {
		t.Errorf("requeued %v after the grace, want %s", got, task.ID)
	}
}

// Requeues are capped: then the task is Failed with the reason.
func TestRetriesAreCapped(t *testing.T) {
	t.Parallel()
	ends := map[string]func(b *bench, task taskdb.Task){
		"expired": func(b *bench, _ taskdb.Task) {
			b.age(anyWorker, time.Hour)
			b.requeueExpired()
		},
		"lost": func(b *bench, _ taskdb.Task) { b.register(anyWorker) },
		"failed": func(b *bench, task taskdb.Task) {
			_, err := b.RetryTask(b.t.Context(), taskdb.HoldOf(task), "flaky", time.Nanosecond)
			b.noError(err)
		},
	}
	for outcome, end := range ends {
		t.Run(outcome, func(t *testing.T) {
			t.Parallel()
			b := setup(t, 10)
			created := b.image()
			waiting := b.after(created.ID)
			for attempt := 1; attempt <= 3; attempt++ {
				b.release(b.claimThis(anyWorker, created)) // a release is not counted
				task := b.claimThis(anyWorker, created)
				if task.Attempt != 2*attempt || task.FailedAttempts != attempt-1 {
					t.Errorf("attempt %d, failed %d", task.Attempt, task.FailedAttempts)
				}
				end(b, task)
				b.healthy()
			}
			failed := b.wantStatus(created.ID, taskdb.StatusFailed)
			if failed.FailedAttempts != 3 || text(failed.ErrorMessage) == "" {
				t.Errorf("failed as %+v", failed)
			}
			got := value[[]string](b, "select array_agg(outcome order by attempt) from task_attempts where task_id = $1", created.ID)
			if want := []string{"released", outcome, "released", outcome, "released", outcome}; !slices.Equal(got, want) {
				t.Errorf("attempts ended as %v, want %v", got, want)
			}
			b.wantStatus(waiting.ID, taskdb.StatusFailed)
			b.wantCredits(10, 0)
			b.claimNothing(anyWorker)
		})
	}
}

// A retry waits for its pause, which doubles, and then stands in its old place.
func TestARetryWaits(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	first, second := b.image(), b.image()
	retried, err := b.RetryTask(t.Context(), taskdb.HoldOf(b.claimThis(anyWorker, first)), "flaky", 0)
	b.noError(err)
	if pause := retried.RunAfter.Sub(retried.UpdatedAt); retried.Status != taskdb.StatusQueued || pause < 900*time.Millisecond || pause > 1100*time.Millisecond {
		t.Errorf("retried %+v with a pause of %v", retried, pause)
	}
	b.healthy()
	b.release(b.claimThis(anyWorker, second))
	due := func() int {
		n, err := b.AdmitDueTasks(t.Context(), 100)
		b.noError(err)
		return n
	}
	if n := due(); n != 0 {
		t.Errorf("%d were admitted before their time", n)
	}
	b.exec("update darkroom.task_delayed set run_after = clock_timestamp()")
	b.exec("update tasks set run_after = clock_timestamp() where run_after is not null")
	if n := due(); n != 1 {
		t.Errorf("%d were admitted, want 1", n)
	}
	b.healthy()
	again := b.claimThis(anyWorker, first)
	retried, err = b.RetryTask(t.Context(), taskdb.HoldOf(again), "flaky", 0)
	b.noError(err)
	if pause := retried.RunAfter.Sub(retried.UpdatedAt); pause < 1900*time.Millisecond || pause > 2100*time.Millisecond {
		t.Errorf("the second pause is %v", pause)
	}
	_, err = b.CancelTask(t.Context(), first.ID, "") // one that waits for its retry
	b.noError(err)
	held := b.claimThis(anyWorker, second)
	retried, err = b.RetryTask(t.Context(), taskdb.HoldOf(held), "flaky", 100*time.Hour)
	b.noError(err)
	if pause := retried.RunAfter.Sub(retried.UpdatedAt); pause > time.Hour {
		t.Errorf("the pause is %v, and should be an hour at most", pause)
	}
	b.healthy()
}

// "Cause: Worker crashed": one that starts anew says so, and what it held is queued at once.
func TestARestartedWorkerGivesBackWhatItHeld(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	other := b.as(10)
	first, second, third := b.image(), other.image(), b.image()
	b.claimThis(anyWorker, first)
	b.claimThis(anyWorker, second)
	b.claimThis(gpuWorker, third)
	b.register(anyWorker)
	b.healthy()
	b.claimThis(anyWorker, first)
	b.claimThis(anyWorker, second)
	b.claimNothing(anyWorker)
	b.wantStatus(third.ID, taskdb.StatusInProgress)
}

// A zombie, whose lease ran out and whose task runs elsewhere, changes nothing.
func TestAZombieIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	ctx := t.Context()
	b.image("shot_id", b.shot)
	old := b.claim(anyWorker)
	hold := taskdb.HoldOf(old)
	b.age(anyWorker, time.Hour)
	b.requeueExpired()
	refused := func(want *taskdb.Error) {
		t.Helper()
		before := value[string](b, "select t::text from tasks t where id = $1", old.ID)
		verdicts, err := b.HeartbeatWorker(ctx, anyWorker, []taskdb.Running{{TaskID: old.ID, Attempt: 1, Progress: object("percent", 99)}}, nil)
		b.noError(err)
		if len(verdicts) != 1 || verdicts[0].TaskID != old.ID || verdicts[0].Attempt != 1 || verdicts[0].Verdict != "lost" {
			t.Errorf("the heartbeat said %+v", verdicts)
		}
		wantRefusal(t, b.ReportProgress(ctx, hold, object("percent", 99)), want)
		_, err = b.CompleteTask(ctx, hold, taskdb.Output{Location: "zombie"})
		wantRefusal(t, err, want)
		_, err = b.FailTask(ctx, hold, "zombie")
		wantRefusal(t, err, want)
		_, err = b.RetryTask(ctx, hold, "zombie", 0)
		wantRefusal(t, err, want)
		_, err = b.ReleaseTask(ctx, hold, "zombie")
		wantRefusal(t, err, want)
		results, err := b.CompleteTasks(ctx, anyWorker, []taskdb.Completion{{TaskID: old.ID, Attempt: 1, OutputLocation: "zombie"}})
		b.noError(err)
		if text(results[0].ErrorCode) != want.Code {
			t.Errorf("complete_tasks said %s", text(results[0].ErrorCode))
		}
		if after := value[string](b, "select t::text from tasks t where id = $1", old.ID); after != before {
			t.Errorf("the zombie changed the task from %s to %s", before, after)
		}
	}
	refused(taskdb.ErrLeaseLost) // queued
	b.claim(gpuWorker)
	refused(taskdb.ErrLeaseLost) // another worker's
	b.age(gpuWorker, time.Hour)
	b.requeueExpired()
	b.claim(anyWorker)
	refused(taskdb.ErrLeaseLost) // its own again, but a later attempt
	b.complete(b.get(old.ID))
	refused(taskdb.ErrLeaseLost) // complete
	if got := text(b.onlyGeneration().Location); got == "zombie" {
		t.Error("the generation is the zombie's")
	}
	b.wantCredits(9, 0)
	b.healthy()
}

// A heartbeat writes progress, tells a worker to stop what was cancelled, and refuses nonsense.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	ctx := t.Context()
	b.image()
	b.image()
	first, second := b.claim(anyWorker), b.claim(anyWorker)
	_, err := b.CancelTask(ctx, first.ID, "no longer wanted")
	b.noError(err)
	missing := uuid.New()
	verdicts, err := b.HeartbeatWorker(ctx, anyWorker, []taskdb.Running{
		{TaskID: first.ID, Attempt: 1}, {TaskID: second.ID, Attempt: 1, Progress: object("percent", 30)}, {TaskID: missing, Attempt: 1},
	}, object("gpu", "x"))
	b.noError(err)
	slices.SortFunc(verdicts, func(x, y taskdb.Verdict) int { return slices.Compare([]byte(x.Verdict), []byte(y.Verdict)) })
	want := []taskdb.Verdict{{TaskID: first.ID, Attempt: 1, Verdict: "cancelled"}, {TaskID: missing, Attempt: 1, Verdict: "lost"}}
	if !slices.Equal(verdicts, want) {
		t.Errorf("the heartbeat said %v, want %v", verdicts, want)
	}
	if got := b.get(second.ID).Progress; !sameJSON(t, got, object("percent", 30)) {
		t.Errorf("progress is %s", got)
	}
	if got := value[string](b, "select info ->> 'gpu' from workers where id = $1", anyWorker); got != "x" {
		t.Errorf("info is %s", got)
	}
	// A row that somebody else has locked does not hold up the heartbeat.
	tx, err := b.pg.Pool.Begin(ctx)
	b.noError(err)
	_, err = tx.Exec(ctx, "select from tasks where id = $1 for update", second.ID)
	b.noError(err)
	_, err = b.HeartbeatWorker(ctx, anyWorker, []taskdb.Running{{TaskID: second.ID, Attempt: 1, Progress: object("percent", 40)}}, nil)
	b.noError(err)
	b.noError(tx.Rollback(ctx))

	_, err = b.HeartbeatWorker(ctx, "nobody", nil, nil)
	wantRefusal(t, err, taskdb.ErrUnknownWorker)
	for _, running := range []string{
		`{}`, `[1]`, `[{"task_id": "x", "attempt": 1}]`, `[{"task_id": "` + missing.String() + `"}]`,
		`[{"task_id": "` + missing.String() + `", "attempt": "99999999999"}]`, `[{"task_id": "` + missing.String() + `", "attempt": 1, "progress": 3}]`,
	} {
		var state string
		_, err = b.pg.Pool.Exec(ctx, "select heartbeat_worker($1, $2)", anyWorker, running)
		if _, scanErr := fmt.Sscanf(fmt.Sprint(err), "ERROR: Invalid params (SQLSTATE %5s)", &state); scanErr != nil || state != "TD003" {
			t.Errorf("running %s: %v", running, err)
		}
	}
	for _, progress := range []json.RawMessage{nil, json.RawMessage(`[]`), object("phase", strings.Repeat("x", 5000))} {
		err = b.ReportProgress(ctx, taskdb.HoldOf(second), progress)
		wantRefusal(t, err, taskdb.ErrInvalidParams)
	}
	wantRefusal(t, b.ReportProgress(ctx, taskdb.Hold{TaskID: missing, WorkerID: "x", Attempt: 1}, object()), taskdb.ErrTaskNotFound)
	b.healthy()
}

// "Debug Checklist": the queries run as printed, with the id filled in.
func TestSpecDebugChecklist(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	b.image("shot_id", b.shot)
	done := b.complete(b.claim(anyWorker))
	b.image()
	failed := b.fail(b.claim(anyWorker), "out of memory")
	fill := func(query string, task uuid.UUID) []map[string]any {
		t.Helper()
		rows, err := b.pg.Pool.Query(t.Context(), fmt.Sprintf(query, task))
		b.noError(err)
		list, err := pgx.CollectRows(rows, pgx.RowToMap)
		b.noError(err)
		return list
	}

	const checkStatus = `
   SELECT id, status, task_type, generation_created, error_message 
   FROM tasks 
   WHERE id = '%s';`
	const checkGeneration = `
   SELECT g.* FROM generations g 
   WHERE g.tasks @> '["%s"]';`
	const checkShotLink = `
   SELECT * FROM shot_generations sg
   JOIN generations g ON sg.generation_id = g.id
   WHERE g.tasks @> '["%s"]';`

	for task, want := range map[uuid.UUID]map[string]any{
		done.ID:   {"status": "Complete", "task_type": "single_image", "generation_created": true, "error_message": nil},
		failed.ID: {"status": "Failed", "task_type": "single_image", "generation_created": false, "error_message": "out of memory"},
	} {
		got := fill(checkStatus, task)
		if len(got) != 1 || len(got[0]) != 5 || got[0]["id"] != [16]byte(task) {
			t.Fatalf("Check Task Status gave %v", got)
		}
		for column, v := range want {
			if got[0][column] != v {
				t.Errorf("Check Task Status gave %s = %v, want %v", column, got[0][column], v)
			}
		}
	}
	got := fill(checkGeneration, done.ID)
	if len(got) != 1 || got[0]["type"] != "image" || got[0]["location"] != text(done.OutputLocation) || got[0]["project_id"] != [16]byte(b.project) {
		t.Errorf("Check for Generation gave %v", got)
	}
	generation := b.onlyGeneration()
	got = fill(checkShotLink, done.ID)
	if len(got) != 1 || got[0]["shot_id"] != [16]byte(b.shot) || got[0]["generation_id"] != [16]byte(generation.ID) || got[0]["position"] != nil {
		t.Errorf("Check Shot Link gave %v", got)
	}
	if n := len(fill(checkGeneration, failed.ID)) + len(fill(checkShotLink, failed.ID)); n != 0 {
		t.Errorf("the failed task has %d generations and links", n)
	}
	// "Detection: Task is 'Complete' but no generation exists".
	if n := value[int](b, "select count(*) from tasks t where status = 'Complete' and not exists (select from generations g where g.tasks @> to_jsonb(array[t.id]))"); n != 0 {
		t.Errorf("%d Complete tasks have no generation", n)
	}
}

// "Tasks table has index on (status, created_at)" and "Generations table has index on project_id".
func TestSpecIndexes(t *testing.T) {
	t.Parallel()
	b := setup(t, 0)
	for _, like := range []string{"% ON public.tasks USING btree (status, created_at)", "% ON public.generations USING btree (project_id%"} {
		if !value[bool](b, "select exists (select from pg_indexes where indexdef like $1)", like) {
			t.Errorf("no index like %s", like)
		}
	}
}

// A caller that sees only claims makes a worker known without taking back what it holds.
func TestRegistrationIfUnknownLeavesAKnownWorkerAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	b.image()
	held := b.claim(anyWorker)
	known, err := b.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: anyWorker, Capabilities: []string{"wan2gp"}, IfUnknown: true})
	b.noError(err)
	if len(known.Capabilities) != 0 {
		t.Errorf("the known worker now has the capabilities %v", known.Capabilities)
	}
	if now := b.get(held.ID); now.Status != taskdb.StatusInProgress || now.Attempt != held.Attempt {
		t.Errorf("its task is %s, attempt %d; want it held as before", now.Status, now.Attempt)
	}
	made, err := b.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: "new", Capabilities: []string{"wan2gp"}, IfUnknown: true})
	b.noError(err)
	if made.ID != "new" || len(made.Capabilities) != 1 {
		t.Errorf("the unknown worker is %+v", made)
	}
	b.healthy()
}
