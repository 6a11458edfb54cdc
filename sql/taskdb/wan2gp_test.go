package taskdb_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// report sends a worker's report, with nothing but the task in it, and returns the answer.
func (b *bench) report(task uuid.UUID, status, text string) (changed bool, now string) {
	b.t.Helper()
	data, err := b.UpdateTaskStatus(b.t.Context(), taskdb.StatusReport{TaskID: task, Status: status, OutputLocation: text})
	b.noError(err)
	var answer struct {
		Changed bool   `json:"changed"`
		Status  string `json:"status"`
	}
	b.noError(json.Unmarshal(data, &answer))
	return answer.Changed, answer.Status
}

// wantReport sends a report and compares what became of the task.
func (b *bench) wantReport(task uuid.UUID, status, text string, changed bool, now string) {
	b.t.Helper()
	if gotChanged, gotNow := b.report(task, status, text); gotChanged != changed || gotNow != now {
		b.t.Errorf("report %s %q: changed %v, %s; want %v, %s", status, text, gotChanged, gotNow, changed, now)
	}
}

// trusted leaves the caller's role, for what the test does itself.
func (b *bench) trusted() {
	b.t.Helper()
	b.exec("reset role")
	b.exec("select set_config('request.jwt.claims', '', true)")
}

// expire requeues what a worker holds as if it had fallen silent.
func (b *bench) expire(task uuid.UUID) {
	b.t.Helper()
	b.trusted()
	b.exec("update tasks set claimed_at = claimed_at - interval '1 day' where id = $1", task)
	b.exec("update workers set last_heartbeat = last_heartbeat - interval '1 day' where id = (select worker_id from tasks where id = $1)", task)
	b.watched()
	if got := b.requeueExpired(); len(got) != 1 || got[0] != task {
		b.t.Fatalf("requeued %v, want %s", got, task)
	}
}

func (b *bench) claimSilently(worker string) taskdb.Task {
	b.t.Helper()
	task, found, err := b.ClaimForSilentWorker(b.t.Context(), worker)
	b.noError(err)
	if !found {
		b.t.Fatalf("%s found nothing to claim", worker)
	}
	return task
}

// tokenStage is a test in one transaction with two workers' tokens of the same user, which the rest of the test becomes in turn.
func tokenStage(t *testing.T, credits int64, do func(b *bench, one, other map[string]any)) {
	t.Helper()
	setup(t, credits).inTx(t, func(b *bench) {
		b.exec("set constraints all immediate")
		do(b, b.workerToken(b.owner), b.workerToken(uuid.Nil))
		b.trusted()
		b.healthy()
	})
}

func TestAFinishedTaskThatCameLateCounts(t *testing.T) {
	t.Parallel()
	tokenStage(t, 1, func(b *bench, one, other map[string]any) {
		coverLateResult(b, one, other)
		b.wantCredits(0, 0)
		b.onlyGeneration()
	})
}

// coverLateResult brings a result late, twice, after somebody who never held the task.
func coverLateResult(b *bench, one, other map[string]any) {
	task := b.image()
	b.become("worker", one)
	b.claimSilently("gpu")
	b.expire(task.ID)
	b.become("worker", other)
	b.wantError(b.attempt(func() error {
		_, err := b.CompleteTask(b.t.Context(), taskdb.Hold{TaskID: task.ID}, taskdb.Output{Location: "theirs"})
		return err
	}), taskdb.ErrLeaseLost)
	b.become("worker", one)
	for range 2 { // a repeat answers as before
		done, err := b.CompleteTask(b.t.Context(), taskdb.Hold{TaskID: task.ID}, taskdb.Output{Location: "late"})
		b.noError(err)
		if done.Status != taskdb.StatusComplete || done.Attempt != 2 || !done.GenerationCreated {
			b.t.Errorf("%s, attempt %d", done.Status, done.Attempt)
		}
	}
	b.wantReport(task.ID, taskdb.StatusFailed, "Upload failed", false, taskdb.StatusComplete)
	if _, found, err := b.ClaimForSilentWorker(b.t.Context(), "gpu"); err != nil || found {
		b.t.Errorf("it is still in the queue: %v", err)
	}
	b.trusted()
}

func TestALateResultThatCanNotBePaidIsRefused(t *testing.T) {
	t.Parallel()
	tokenStage(t, 5, func(b *bench, one, _ map[string]any) { coverUnpaidResult(b, one) })
}

// coverUnpaidResult brings a result late, when another task holds what the owner has.
func coverUnpaidResult(b *bench, one map[string]any) {
	t := b.t
	task := b.image()
	b.become("worker", one)
	b.claimSilently("gpu")
	b.expire(task.ID)
	b.exec("update task_types set base_price = (select balance_after - held_after from credit_ledger where owner_id = $1 order by seq desc limit 1), unit_price = 0 where name = 'travel_orchestrator'", b.owner)
	b.create(travelTask(b.project, b.shot, 1))
	if tasks, err := b.ClaimNextTasks(t.Context(), gpuWorker, 1, []string{"travel_orchestrator"}); err != nil || len(tasks) != 1 {
		t.Fatalf("claimed %v, %v", tasks, err)
	}
	b.become("worker", one)
	b.wantError(b.attempt(func() error {
		_, err := b.CompleteTask(t.Context(), taskdb.Hold{TaskID: task.ID}, taskdb.Output{Location: "late"})
		return err
	}), taskdb.ErrInsufficientCredits)
	b.trusted()
}

func TestAHeldTaskIsNotTakenByALateResult(t *testing.T) {
	t.Parallel()
	tokenStage(t, 1, func(b *bench, one, other map[string]any) {
		ctx := t.Context()
		task := b.image()
		ours := func(attempt int) taskdb.Output {
			return taskdb.Output{Location: fmt.Sprintf("https://x.test/storage/v1/object/public/image_uploads/%s/tasks/%s/%d/a/out.png", b.owner, task.ID, attempt)}
		}
		b.become("worker", one)
		b.claimSilently("gpu")
		b.expire(task.ID)
		b.become("worker", other)
		b.claimSilently("gpu")
		b.become("worker", one)
		b.wantError(b.attempt(func() error {
			_, err := b.CompleteTask(ctx, taskdb.Hold{TaskID: task.ID}, ours(1))
			return err
		}), taskdb.ErrLeaseLost)
		b.wantReport(task.ID, taskdb.StatusFailed, "Upload failed", false, taskdb.StatusInProgress)
		b.wantReport(task.ID, taskdb.StatusQueued, "", false, taskdb.StatusInProgress)
		b.wantReport(task.ID, taskdb.StatusInProgress, "50 %", false, taskdb.StatusInProgress)
		b.wantReport(task.ID, taskdb.StatusCancelled, "", false, taskdb.StatusInProgress)

		// Two workers of one token: what the first stored is not what the second made.
		b.expire(task.ID)
		b.become("worker", one)
		b.claimSilently("gpu-2")
		b.wantError(b.attempt(func() error {
			_, err := b.CompleteTask(ctx, taskdb.Hold{TaskID: task.ID}, ours(1))
			return err
		}), taskdb.ErrLeaseLost)
		_, err := b.CompleteTask(ctx, taskdb.Hold{TaskID: task.ID}, ours(3))
		b.noError(err)
	})
}

func TestALateResultOfACancelledTaskIsRefused(t *testing.T) {
	t.Parallel()
	tokenStage(t, 1, func(b *bench, one, _ map[string]any) {
		task := b.image()
		b.become("worker", one)
		b.claimSilently("gpu")
		b.trusted()
		_, err := b.CancelTask(t.Context(), task.ID, "")
		b.noError(err)
		b.become("worker", one)
		b.wantError(b.attempt(func() error {
			_, err := b.CompleteTask(t.Context(), taskdb.Hold{TaskID: task.ID}, taskdb.Output{Location: "late"})
			return err
		}), taskdb.ErrTaskEnded)
		b.wantReport(task.ID, taskdb.StatusFailed, "Upload failed", false, taskdb.StatusCancelled)
		if status, err := b.GetTaskStatus(t.Context(), task.ID); err != nil || string(status) != `{"status": "Cancelled"}` {
			t.Errorf("%s %v", status, err)
		}
	})
}

func TestReportsOfAWorker(t *testing.T) {
	t.Parallel()
	tokenStage(t, 10, func(b *bench, one, _ map[string]any) {
		ctx := t.Context()
		for name, c := range map[string]struct{ status, text, now, message string }{
			"a failure":            {"Failed", "CUDA out of memory", "Failed", "CUDA out of memory"},
			"a failure unsaid":     {"Failed", "", "Failed", "The worker gave no reason."},
			"our own outage":       {"Failed", "Upload failed: [EDGE_FAIL:complete_task:5XX_TRANSIENT] 503", "Queued", "Upload failed: [EDGE_FAIL:complete_task:5XX_TRANSIENT] 503"},
			"a refused completion": {"Failed", "Upload failed: [EDGE_FAIL:complete_task:HTTP_409] x", "Failed", "Upload failed: [EDGE_FAIL:complete_task:HTTP_409] x"},
			"given back":           {"Queued", "Retry 1 (network): reset", "Queued", "Retry 1 (network): reset"},
			"cancelled":            {"Cancelled", "", "Cancelled", "Cancelled."},
			"complete":             {"Complete", "https://x.test/a.png", "Complete", ""},
		} {
			b.trusted()
			task := b.image()
			b.become("worker", one)
			b.claimSilently("gpu")
			b.wantReport(task.ID, "In Progress", "loading", true, "In Progress")
			b.wantReport(task.ID, c.status, c.text, true, c.now)
			b.trusted()
			got := b.get(task.ID)
			if text(got.ErrorMessage) != c.message || c.now != "Complete" && got.OutputLocation != nil {
				t.Errorf("%s: %q, output %q", name, text(got.ErrorMessage), text(got.OutputLocation))
			}
			b.become("worker", one)
			b.wantReport(task.ID, "Failed", "again", false, c.now)
			if c.now == "Complete" { // what W26 sends after its completion
				b.wantReport(task.ID, "Complete", `{"output_location":"https://x.test/a.png"}`, false, "Complete")
			}
			b.trusted()
			if c.now == "Queued" {
				_, err := b.CancelTask(ctx, task.ID, "")
				b.noError(err)
			}
		}
		b.become("worker", one)
		for status, want := range map[string]*taskdb.Error{"Failed": taskdb.ErrTaskNotFound, "failed": taskdb.ErrInvalidParams} {
			b.wantError(b.attempt(func() error {
				_, err := b.UpdateTaskStatus(ctx, taskdb.StatusReport{TaskID: uuid.New(), Status: status})
				return err
			}), want)
		}
	})
}

func TestGivingBackIsCounted(t *testing.T) {
	t.Parallel()
	tokenStage(t, 10, func(b *bench, one, _ map[string]any) {
		task := b.image()
		for i, now := range []string{"Queued", "Queued", "Failed"} {
			b.become("worker", one)
			b.claimSilently("gpu")
			b.wantReport(task.ID, "Queued", fmt.Sprintf("Retry %d", i), true, now)
			b.trusted()
			b.exec("update tasks set run_after = clock_timestamp() where id = $1", task.ID)
			b.exec("update darkroom.task_delayed set run_after = (select run_after from tasks where id = $1)", task.ID)
			b.exec("select admit_due_tasks()")
		}
	})
}

func TestTheHeartbeatOfAWorkerThatNeverRegistered(t *testing.T) {
	t.Parallel()
	tokenStage(t, 10, func(b *bench, one, _ map[string]any) {
		ctx := t.Context()
		task := b.image()
		b.become("worker", one)
		logs := json.RawMessage(`[{"level":"ERROR","message":"` + strings.Repeat("x", 9000) + `","task_id":"unknown_task_1"},{"level":"INFO","message":"y"},7,null,{"level":{}}]`)
		beat := func(logs json.RawMessage, status string) {
			b.t.Helper()
			answer, err := b.WorkerHeartbeat(ctx, taskdb.SilentHeartbeat{WorkerID: "gpu", VRAMTotalMB: 24576, VRAMUsedMB: 1.5, Logs: logs, Status: status})
			b.noError(err)
			if !strings.Contains(string(answer), `"success": true`) {
				t.Errorf("%s", answer)
			}
		}
		beat(logs, "active")
		beat(json.RawMessage(`{"no":"list"}`), "active")
		beat(nil, "active")
		b.claimSilently("gpu")
		b.trusted()
		if n := value[int](b, "select length(info #>> '{errors,0,message}') from workers where lease_timeout = '90 s' and info ->> 'vram_used_mb' = '1.5'"); n != 500 {
			t.Errorf("the message has %d characters", n)
		}
		b.become("worker", one)
		beat(nil, "crashed")
		b.trusted()
		if got := b.get(task.ID); got.Status != "Queued" || got.FailedAttempts != 1 {
			t.Errorf("%s, failed attempts %d", got.Status, got.FailedAttempts)
		}
		// A worker that stopped sending heartbeats gets its half hour back.
		b.exec("update workers set last_heartbeat = last_heartbeat - interval '2 minutes' where info ? 'status'")
		b.become("worker", one)
		b.claimSilently("gpu")
		b.trusted()
		if lease := value[time.Duration](b, "select lease_timeout from workers where info ? 'status'"); lease != 30*time.Minute {
			t.Errorf("lease %s", lease)
		}
		b.become("worker", one)
		_, err := b.UpdateWorkerModel(ctx, "gpu-9", "vace_14B")
		b.noError(err)
		b.trusted()
		if n := value[int](b, "select count(*) from workers where info ->> 'model' = 'vace_14B' and name = 'gpu-9'"); n != 1 {
			t.Errorf("%d workers have the model", n)
		}
	})
}

func TestCountsOfWhatThereIsToDo(t *testing.T) {
	t.Parallel()
	tokenStage(t, 2, func(b *bench, one, other map[string]any) {
		want := func(claims map[string]any, queued, eligible, active int) {
			b.t.Helper()
			b.become("worker", claims)
			got, err := b.TaskCounts(t.Context())
			b.noError(err)
			if want := fmt.Sprintf(`{"totals": {"active_only": %d, "queued_only": %d, "eligible_queued": %d}}`, active, queued, eligible); string(got) != want {
				b.t.Errorf("%s, want %s", got, want)
			}
			b.trusted()
		}
		want(one, 0, 0, 0)
		for range 20 {
			b.exec("insert into tasks (project_id, task_type, params) values ($1, 'single_image', '{\"prompt\": \"a\"}')", b.project)
		}
		want(one, 20, 16, 0) // a window of 16 is looked at
		want(other, 20, 16, 0)
		b.become("worker", one)
		b.claimSilently("gpu")
		b.claimSilently("gpu")
		if _, found, err := b.ClaimForSilentWorker(t.Context(), "gpu"); err != nil || found {
			t.Fatalf("a third was claimed, %v", err)
		}
		b.trusted()
		want(one, 18, 0, 2) // the owner can pay no more
		want(other, 18, 0, 0)
		stranger := b.as(0)
		want(stranger.workerToken(stranger.owner), 0, 0, 0)
	})
}

func TestWhatAWorkerReadsOfItsTree(t *testing.T) {
	t.Parallel()
	tokenStage(t, 10, func(b *bench, one, other map[string]any) { coverTreeReads(b, one, other) })
}

// coverTreeReads makes a tree task by task under a token and reads it in all ways.
func coverTreeReads(b *bench, one, other map[string]any) {
	t, ctx := b.t, b.t.Context()
	orchestrator := b.create(travelTask(b.project, b.shot, 2))
	b.become("worker", one)
	if got := b.claimSilently("gpu"); got.ID != orchestrator.ID {
		t.Fatalf("claimed %s", got.TaskType)
	}
	var children []taskdb.Task
	for i := range 3 {
		child := taskdb.NewTask{ProjectID: b.project, TaskType: "travel_segment", Params: object("orchestrator_task_id_ref", orchestrator.ID, "orchestrator_run_id", "r1", "segment_index", i)}
		if i > 0 {
			child.DependantOn = []uuid.UUID{children[i-1].ID}
		}
		if i == 2 {
			child.TaskType = "travel_stitch"
		}
		task, err := b.CreateTask(ctx, child)
		b.noError(err)
		children = append(children, task)
	}
	b.wantReport(orchestrator.ID, "In Progress", "Successfully enqueued 2 new segment tasks", true, "In Progress")
	b.wantReport(orchestrator.ID, "Queued", "given back while its tree runs", false, "In Progress")

	reads := func(want string, read func() (json.RawMessage, error)) {
		t.Helper()
		got, err := read()
		b.noError(err)
		if string(got) != want {
			t.Errorf("read %s, want %s", got, want)
		}
	}
	for i, child := range children {
		b.claimSilently("gpu")
		predecessor := ""
		if i > 0 {
			predecessor = fmt.Sprintf(`{"status": "Complete", "predecessor_id": "%s", "output_location": "out/%d"}`, children[i-1].ID, i-1)
		}
		reads(predecessor, func() (json.RawMessage, error) { return b.GetPredecessorOutput(ctx, child.ID) })
		if i == 2 {
			reads(`[{"segment_index": 0, "output_location": "out/0"}, {"segment_index": 1, "output_location": "out/1"}]`,
				func() (json.RawMessage, error) { return b.GetCompletedSegments(ctx, "r1", b.project) })
			reads("[]", func() (json.RawMessage, error) { return b.GetCompletedSegments(ctx, "r2", uuid.Nil) })
			b.wantError(b.attempt(func() error {
				_, err := b.UpdateShotPairPrompts(ctx, child.ID, uuid.New(), json.RawMessage(`["a"]`))
				return err
			}), taskdb.ErrShotNotFound)
			_, err := b.UpdateShotPairPrompts(ctx, child.ID, b.shot, json.RawMessage(`["a","b"]`))
			b.noError(err)
		}
		_, err := b.CompleteTask(ctx, taskdb.Hold{TaskID: child.ID}, taskdb.Output{Location: fmt.Sprintf("out/%d", i), Metadata: json.RawMessage(`{"seed":7}`)})
		b.noError(err)
	}
	tree, err := b.GetOrchestratorChildren(ctx, orchestrator.ID)
	if b.noError(err); strings.Count(string(tree), `"status": "Complete"`) != 3 {
		t.Errorf("%s", tree)
	}
	output, err := b.GetTaskOutput(ctx, orchestrator.ID)
	if b.noError(err); !strings.Contains(string(output), `"output_location": "out/2"`) || !strings.Contains(string(output), `"status": "Complete"`) {
		t.Errorf("%s", output)
	}
	b.become("worker", other)
	for _, read := range []func() (json.RawMessage, error){
		func() (json.RawMessage, error) { return b.GetOrchestratorChildren(ctx, orchestrator.ID) },
		func() (json.RawMessage, error) { return b.GetTaskOutput(ctx, children[0].ID) },
		func() (json.RawMessage, error) { return b.GetTaskStatus(ctx, children[0].ID) },
		func() (json.RawMessage, error) { return b.GetPredecessorOutput(ctx, children[1].ID) },
	} {
		b.wantError(b.attempt(func() error {
			_, err := read()
			return err
		}), taskdb.ErrTaskNotFound)
	}
	b.trusted()
	if got := value[string](b, "select metadata ->> 'seed' || (metadata #>> '{enhanced_prompts,prompts,1}') from tasks where id = $1", children[2].ID); got != "7b" {
		t.Errorf("metadata %s", got)
	}
}

func TestOutputsThatAreNotTheTasks(t *testing.T) {
	t.Parallel()
	tokenStage(t, 10, func(b *bench, one, _ map[string]any) { coverOutputs(b, one) })
}

// coverOutputs names files as the output of a task that may, and that may not be it.
func coverOutputs(b *bench, one map[string]any) {
	ctx := b.t.Context()
	task, rival := b.image(), b.image()
	b.become("worker", one)
	b.claimSilently("gpu")
	owner := b.owner.String()
	for path, want := range map[string]*taskdb.Error{
		uuid.NewString() + "/a.png": taskdb.ErrNotAllowed,
		"a.png":                     taskdb.ErrNotAllowed,
		owner + "/../" + uuid.NewString() + "/a.png":        taskdb.ErrNotAllowed,
		owner + "/%2E%2e/x/a.png":                           taskdb.ErrNotAllowed,
		owner + "/tasks/" + rival.ID.String() + "/1/a.png":  taskdb.ErrNotAllowed,
		owner + "/tasks/nonsense/a.png":                     taskdb.ErrNotAllowed,
		owner + "/tasks/" + task.ID.String() + "/2/a.png":   taskdb.ErrLeaseLost,
		owner + "/tasks/" + task.ID.String() + "/1/a.png?x": nil,
		owner + "/tasks/" + task.ID.String() + "/a.png":     nil,
		owner + "/a.png": nil,
	} {
		for _, call := range []func() error{
			func() error { _, err := b.CheckCompletion(ctx, task.ID, []string{path}); return err },
			func() error {
				_, err := b.CompleteTask(ctx, taskdb.Hold{TaskID: task.ID}, taskdb.Output{Location: "https://x.test/storage/v1/object/public/image_uploads/" + path})
				return err
			},
		} {
			if err := b.attempt(call); want == nil {
				b.noError(err)
			} else {
				b.wantError(err, want)
			}
		}
	}
	b.wantError(b.attempt(func() error { _, err := b.CheckCompletion(ctx, rival.ID, nil); return err }), taskdb.ErrTaskNotFound)
}

// coverSilentWorkers goes through the life of tasks whose worker names neither itself nor the attempt.
func coverSilentWorkers(b *bench, own, all map[string]any) {
	b.exec("savepoint silent")
	b.trusted()
	coverTreeReads(b, own, all)
	coverLateResult(b, own, all)
	b.exec("update task_types set base_price = 0 where name = 'single_image'")
	coverLateResult(b, own, all)
	b.exec("update task_types set base_price = 1 where name = 'single_image'")
	for _, status := range []string{"Failed", "Cancelled", "Queued", "Complete"} {
		b.trusted()
		task := b.image()
		b.become("worker", own)
		if got := b.claimSilently("gpu"); got.ID != task.ID {
			b.t.Fatalf("claimed %s", got.ID)
		}
		b.report(task.ID, status, "x")
		b.report(task.ID, status, "x")
		b.trusted()
		if status == "Queued" {
			_, err := b.CancelTask(b.t.Context(), task.ID, "")
			b.noError(err)
		}
	}
	b.wantError(b.attempt(func() error {
		_, err := b.UpdateTaskStatus(b.t.Context(), taskdb.StatusReport{TaskID: uuid.New(), Status: "done"})
		return err
	}), taskdb.ErrInvalidParams)
	b.exec("savepoint outputs")
	coverOutputs(b, own)
	b.exec("rollback to outputs")
	coverUnpaidResult(b, own)
	b.exec("rollback to silent")
}
