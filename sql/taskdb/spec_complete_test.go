package taskdb_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// "status: success ? 'Complete' : 'Failed', output_location, error_message, completed_at" and "Deduct credits (only on success)".
func TestSpecCompleteSetsTheRowAndDeductsCredits(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	b.image()
	task := b.claim(anyWorker)
	b.noError(b.ReportProgress(t.Context(), taskdb.HoldOf(task), json.RawMessage(`{"percent": 50}`)))

	done, err := b.CompleteTask(t.Context(), taskdb.HoldOf(task),
		taskdb.Output{Location: "http://x/y.png", ThumbnailURL: "http://x/t.png", Metadata: object("seed", 7)})
	b.noError(err)

	if done.Status != taskdb.StatusComplete || text(done.OutputLocation) != "http://x/y.png" || text(done.ThumbnailURL) != "http://x/t.png" ||
		!sameJSON(t, done.Metadata, object("seed", 7)) || done.ErrorMessage != nil || done.CompletedAt == nil ||
		done.CompletedAt.Before(*task.ClaimedAt) || text(done.WorkerID) != anyWorker || done.Attempt != 1 {
		t.Errorf("completed %+v", done)
	}
	b.wantCredits(9, 0)
	if n := value[int](b, "select count(*) from task_attempts where task_id = $1 and attempt = 1 and outcome = 'complete' and worker_id = $2", task.ID, anyWorker); n != 1 {
		t.Errorf("%d attempts are on record, want 1", n)
	}
	b.healthy()
}

// "error_message: errorData?.message", status Failed, and no deduction.
func TestSpecFailSetsTheReasonAndDeductsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	for _, c := range []struct{ message, want string }{
		{"CUDA out of memory", "CUDA out of memory"},
		{" ", "The worker gave no reason."},
		{strings.Repeat("x", 5000), strings.Repeat("x", 4000)},
	} {
		b.image()
		failed := b.fail(b.claim(anyWorker), c.message)
		if failed.Status != taskdb.StatusFailed || text(failed.ErrorMessage) != c.want || failed.CompletedAt == nil || failed.GenerationCreated {
			t.Errorf("failed %+v", failed)
		}
	}
	b.wantCredits(10, 0)
	if n := len(b.generations()); n != 0 {
		t.Errorf("%d generations of failed tasks", n)
	}
	b.healthy()
}

// `process_completed_task(task['id'], {'output_location', 'metadata'})` and `fail_task(task['id'], str(e))`: the spec's calls, which know
// no fence.
func TestSpecWorkerCallsWithoutFence(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	ctx := t.Context()
	b.image()
	task := b.claim(anyWorker)
	done, err := b.ProcessCompletedTask(ctx, taskdb.Hold{TaskID: task.ID}, object("output_location", "u", "metadata", map[string]any{"a": 1}, "thumbnail_url", "t"))
	if err != nil || done.Status != taskdb.StatusComplete || text(done.OutputLocation) != "u" || !sameJSON(t, done.Metadata, object("a", 1)) || text(done.ThumbnailURL) != "t" {
		t.Errorf("completed %+v, %v", done, err)
	}
	// A repeat is answered; another output is no repeat.
	again, err := b.ProcessCompletedTask(ctx, taskdb.Hold{TaskID: task.ID}, object("output_location", "u"))
	if err != nil || !sameJSON(t, again.Metadata, object("a", 1)) {
		t.Errorf("repeated %+v, %v", again, err)
	}
	_, err = b.ProcessCompletedTask(ctx, taskdb.Hold{TaskID: task.ID}, object("output_location", "other"))
	wantRefusal(t, err, taskdb.ErrTaskEnded)

	b.image()
	task = b.claim(anyWorker)
	failed, err := b.ProcessCompletedTask(ctx, taskdb.Hold{TaskID: task.ID}, object("success", false, "error_message", "no"))
	if err != nil || failed.Status != taskdb.StatusFailed || text(failed.ErrorMessage) != "no" {
		t.Errorf("failed %+v, %v", failed, err)
	}
	b.image()
	task = b.claim(anyWorker)
	if failed, err = b.FailTask(ctx, taskdb.Hold{TaskID: task.ID}, "no"); err != nil || failed.Status != taskdb.StatusFailed {
		t.Errorf("failed %+v, %v", failed, err)
	}
	for _, output := range []json.RawMessage{nil, json.RawMessage(`[]`), json.RawMessage(`null`), json.RawMessage(`"x"`)} {
		_, err = b.ProcessCompletedTask(ctx, taskdb.Hold{TaskID: task.ID}, output)
		wantRefusal(t, err, taskdb.ErrMissingFields)
	}
	b.wantCredits(9, 0)
	b.healthy()
}

func TestCompleteRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	ctx := t.Context()
	queued := b.image()
	_, err := b.CompleteTask(ctx, taskdb.Hold{TaskID: queued.ID}, taskdb.Output{Location: "x"})
	wantRefusal(t, err, taskdb.ErrLeaseLost) // nobody holds it
	task := b.claim(anyWorker)
	for _, c := range []struct {
		output taskdb.Output
		want   *taskdb.Error
	}{
		{taskdb.Output{}, taskdb.ErrMissingOutput},
		{taskdb.Output{Location: "  "}, taskdb.ErrMissingOutput},
		{taskdb.Output{Location: "x", Metadata: json.RawMessage(`[1]`)}, taskdb.ErrInvalidParams},
		{taskdb.Output{Location: "x", Metadata: object("x", strings.Repeat("x", 1<<16))}, taskdb.ErrInvalidParams},
	} {
		_, err = b.CompleteTask(ctx, taskdb.HoldOf(task), c.output)
		wantRefusal(t, err, c.want)
	}
	_, err = b.CompleteTask(ctx, taskdb.Hold{TaskID: uuid.New()}, taskdb.Output{Location: "x"})
	wantRefusal(t, err, taskdb.ErrTaskNotFound)
	for _, hold := range []taskdb.Hold{
		{TaskID: task.ID, WorkerID: gpuWorker, Attempt: 1},
		{TaskID: task.ID, WorkerID: anyWorker, Attempt: 2},
		{TaskID: task.ID, WorkerID: gpuWorker},
		{TaskID: task.ID, Attempt: 2},
	} {
		_, err = b.CompleteTask(ctx, hold, taskdb.Output{Location: "x"})
		wantRefusal(t, err, taskdb.ErrLeaseLost)
		_, err = b.FailTask(ctx, hold, "x")
		wantRefusal(t, err, taskdb.ErrLeaseLost)
		_, err = b.ReleaseTask(ctx, hold, "x")
		wantRefusal(t, err, taskdb.ErrLeaseLost)
		wantRefusal(t, b.ReportProgress(ctx, hold, object("percent", 1)), taskdb.ErrLeaseLost)
	}
	b.wantStatus(task.ID, taskdb.StatusInProgress)

	b.complete(task)
	_, err = b.FailTask(ctx, taskdb.HoldOf(task), "too late")
	wantRefusal(t, err, taskdb.ErrTaskEnded)
	_, err = b.ReleaseTask(ctx, taskdb.HoldOf(task), "too late")
	wantRefusal(t, err, taskdb.ErrTaskEnded)
	_, err = b.CancelTask(ctx, task.ID, "too late")
	wantRefusal(t, err, taskdb.ErrTaskEnded)
	wantRefusal(t, b.ReportProgress(ctx, taskdb.HoldOf(task), object("percent", 1)), taskdb.ErrTaskEnded)
	b.wantCredits(9, 0)
	b.healthy()
}

// A repeat by the same attempt answers as the first did, also while the first is still under way.
func TestRepeatedEndsAnswerAsTheFirstDid(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	ends := map[string]func(hold taskdb.Hold) (taskdb.Task, error){
		"complete": func(hold taskdb.Hold) (taskdb.Task, error) {
			return b.CompleteTask(t.Context(), hold, taskdb.Output{Location: "x"})
		},
		"fail":   func(hold taskdb.Hold) (taskdb.Task, error) { return b.FailTask(t.Context(), hold, "x") },
		"retry":  func(hold taskdb.Hold) (taskdb.Task, error) { return b.RetryTask(t.Context(), hold, "x", awhile) },
		"cancel": func(hold taskdb.Hold) (taskdb.Task, error) { return b.CancelTask(t.Context(), hold.TaskID, "x") },
	}
	for name, end := range ends {
		for range 5 {
			b.image()
			hold := taskdb.HoldOf(b.claim(anyWorker))
			results := inParallel(8, func(int) (taskdb.Task, error) { return end(hold) })
			last, err := end(hold)
			for _, r := range append(results, outcome[taskdb.Task]{last, err}) {
				if r.err != nil || r.value.Status != last.Status || !r.value.UpdatedAt.Equal(last.UpdatedAt) {
					t.Fatalf("%s answered %s %v, %v; the last answer was %s %v", name, r.value.Status, r.value.UpdatedAt, r.err, last.Status, last.UpdatedAt)
				}
			}
		}
	}
	b.healthy()
}

func TestCompleteTasksEachOnItsOwn(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	other := b.as(10)
	var held []taskdb.Task
	for _, owner := range []*bench{b, other, b, other} {
		owner.image()
		held = append(held, b.claim(anyWorker))
	}
	b.release(held[1])
	list := []taskdb.Completion{
		{TaskID: held[3].ID, Attempt: 1, OutputLocation: "x", Metadata: object("a", 1), ThumbnailURL: "t"},
		{TaskID: held[0].ID, Attempt: 1, OutputLocation: ""},
		{TaskID: held[1].ID, Attempt: 1, OutputLocation: "x"},
		{TaskID: uuid.New(), Attempt: 1, OutputLocation: "x"},
		{TaskID: held[2].ID, Attempt: 1, OutputLocation: "x"},
		{TaskID: held[2].ID, Attempt: 1, OutputLocation: "x"},
	}
	results, err := b.CompleteTasks(t.Context(), anyWorker, list)
	b.noError(err)
	want := []string{"Complete", "TD006", "TD031", "TD021", "Complete", "Complete"}
	for i, r := range results {
		if r.TaskID != list[i].TaskID || text(r.Status)+text(r.ErrorCode) != want[i] || (r.ErrorMessage == nil) != (r.ErrorCode == nil) {
			t.Errorf("result %d is %s %s %s, want %s", i, r.TaskID, text(r.Status), text(r.ErrorCode), want[i])
		}
	}
	if len(results) != len(want) {
		t.Errorf("%d results, want %d", len(results), len(want))
	}
	none, err := b.CompleteTasks(t.Context(), anyWorker, nil)
	if err != nil || len(none) != 0 {
		t.Errorf("no completions gave %v, %v", none, err)
	}
	_, err = b.CompleteTasks(t.Context(), anyWorker, make([]taskdb.Completion, 1001))
	wantRefusal(t, err, taskdb.ErrInvalidParams)
	b.healthy()
}
