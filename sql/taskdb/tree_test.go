package taskdb_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// tree is an orchestrator of n segments, claimed and expanded by gpuWorker.
func (b *bench) tree(n int) (orchestrator taskdb.Task, segments []taskdb.Task, stitch taskdb.Task) {
	b.t.Helper()
	created := b.create(travelTask(b.project, b.shot, n))
	orchestrator = b.claimThis(gpuWorker, created)
	children := b.expand(orchestrator)
	if len(children) != n+1 {
		b.t.Fatalf("%d children, want %d", len(children), n+1)
	}
	return orchestrator, children[:n], children[n]
}

// The orchestrator's price is held from its claim, covers the tree, and is settled once; its children are free.
func TestTreeRunsToItsVideo(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	orchestrator, segments, stitch := b.tree(2)
	b.wantCredits(10, 10)
	for i, s := range append(segments, stitch) {
		if s.Cost != 0 || s.Status != taskdb.StatusQueued || *s.OrchestratorTaskID != orchestrator.ID {
			t.Errorf("child %d is %+v", i, s)
		}
	}
	if again := b.expand(orchestrator); len(again) != 3 || again[0].ID != segments[0].ID {
		t.Errorf("a second expansion made %v", ids(again))
	}
	var params struct {
		Start  string `json:"start_image"`
		End    string `json:"end_image"`
		Frames int    `json:"segment_frames_target"`
	}
	b.noError(json.Unmarshal(segments[1].Params, &params))
	if params.Start != "image-1" || params.End != "image-2" || params.Frames != 25 {
		t.Errorf("segment 1 has %+v", params)
	}
	b.healthy()
	first, second := b.claimThis(gpuWorker, segments[0]), b.claimThis(gpuWorker, segments[1])
	b.claimNothing(gpuWorker)
	// A segment makes no generation, but the stitch needs it: no completion without an output.
	_, err := b.CompleteTask(t.Context(), taskdb.HoldOf(second), taskdb.Output{})
	wantRefusal(t, err, taskdb.ErrMissingOutput)
	b.complete(second)
	var progress struct{ Percent, Value, Max int }
	b.noError(json.Unmarshal(b.get(orchestrator.ID).Progress, &progress))
	if progress.Percent != 33 || progress.Value != 1 || progress.Max != 3 {
		t.Errorf("with one of three tasks done the orchestrator shows %+v", progress)
	}
	b.complete(first)
	held := b.claimThis(gpuWorker, stitch)
	inputs, err := b.GetDependencyOutputs(t.Context(), stitch.ID)
	b.noError(err)
	if len(inputs) != 2 || inputs[0].TaskID != first.ID || inputs[1].TaskID != second.ID || inputs[0].Ordinal != 1 || text(inputs[1].OutputLocation) != "out/"+second.ID.String() {
		t.Errorf("the stitch gets %+v", inputs)
	}
	b.wantCredits(10, 10)
	b.healthy()
	video := b.complete(held)
	done := b.wantStatus(orchestrator.ID, taskdb.StatusComplete)
	if text(done.OutputLocation) != text(video.OutputLocation) || done.GenerationCreated || done.CompletedAt == nil {
		t.Errorf("the orchestrator completed as %+v", done)
	}
	if g := b.onlyGeneration(); g.Type != "video" || *g.SourceTaskID != stitch.ID || len(b.links(g.ID)) != 1 || b.links(g.ID)[0].shot != b.shot {
		t.Errorf("generation %+v with links %v", g, b.links(g.ID))
	}
	b.wantCredits(0, 0)
	if n := value[int](b, "select count(*) from credit_ledger where kind = 'settle'"); n != 1 {
		t.Errorf("settled %d times", n)
	}
	b.healthy()
}

// What ends a tree ends all of it, gives the hold back, and tells running workers.
func TestTreeEndsTogether(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end    func(b *bench, orchestrator, segment, stitch taskdb.Task)
		status string
	}{
		"a segment fails": {func(b *bench, _, segment, _ taskdb.Task) { b.fail(segment, "broken") }, taskdb.StatusFailed},
		"a segment is cancelled": {func(b *bench, _, segment, _ taskdb.Task) {
			_, err := b.CancelTask(b.t.Context(), segment.ID, "broken")
			b.noError(err)
		}, taskdb.StatusCancelled},
		"the stitch is cancelled": {func(b *bench, _, _, stitch taskdb.Task) {
			_, err := b.CancelTask(b.t.Context(), stitch.ID, "broken")
			b.noError(err)
		}, taskdb.StatusCancelled},
		"the orchestrator is cancelled": {func(b *bench, orchestrator, _, _ taskdb.Task) {
			_, err := b.CancelTask(b.t.Context(), orchestrator.ID, "broken")
			b.noError(err)
		}, taskdb.StatusCancelled},
		"the orchestrator fails": {func(b *bench, orchestrator, _, _ taskdb.Task) { b.fail(orchestrator, "broken") }, taskdb.StatusFailed},
		"a segment runs out of attempts": {func(b *bench, _, segment, _ taskdb.Task) {
			b.exec("update task_types set max_attempts = 1 where name = 'travel_segment'")
			_, err := b.RetryTask(b.t.Context(), taskdb.HoldOf(segment), "broken", 0)
			b.noError(err)
		}, taskdb.StatusFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, 100)
			orchestrator, segments, stitch := b.tree(3)
			b.complete(b.claimThis(gpuWorker, segments[0]))
			running, other := b.claimThis(gpuWorker, segments[1]), b.claimThis(gpuWorker, segments[2])
			waiting := b.after(stitch.ID)

			c.end(b, orchestrator, running, stitch)

			for _, task := range []taskdb.Task{orchestrator, segments[1], segments[2], stitch} {
				ended := b.wantStatus(task.ID, c.status)
				if !strings.Contains(text(ended.ErrorMessage), "broken") || ended.CompletedAt == nil {
					t.Errorf("%s ended as %+v", task.TaskType, ended)
				}
			}
			b.wantStatus(segments[0].ID, taskdb.StatusComplete)
			if reason := text(b.wantStatus(waiting.ID, taskdb.StatusFailed).ErrorMessage); !strings.Contains(reason, "broken") {
				t.Errorf("what waited failed because %q", reason)
			}
			b.wantCredits(100, 0)
			verdicts, err := b.HeartbeatWorker(t.Context(), gpuWorker, []taskdb.Running{{TaskID: other.ID, Attempt: 1}}, nil)
			b.noError(err)
			if len(verdicts) != 1 || verdicts[0].Verdict != "cancelled" {
				t.Errorf("the running worker is told %v", verdicts)
			}
			_, err = b.CompleteTask(t.Context(), taskdb.HoldOf(other), taskdb.Output{Location: "late"})
			wantRefusal(t, err, taskdb.ErrTaskEnded)
			child := imageTask(b.project, "orchestrator_task_id_ref", orchestrator.ID)
			_, err = b.CreateTask(t.Context(), child)
			wantRefusal(t, err, taskdb.ErrTaskEnded)
			b.claimNothing(gpuWorker)
			b.healthy()
		})
	}
}

// A retry inside the tree keeps the tree and its hold.
func TestTreeSurvivesARetry(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	orchestrator, segments, stitch := b.tree(2)
	_, err := b.RetryTask(t.Context(), taskdb.HoldOf(b.claimThis(gpuWorker, segments[0])), "flaky", time.Nanosecond)
	b.noError(err)
	b.wantCredits(10, 10)
	b.wantStatus(orchestrator.ID, taskdb.StatusInProgress)
	b.healthy()
	held := b.claimThis(gpuWorker, segments[0])
	if held.Attempt != 2 {
		t.Errorf("attempt %d", held.Attempt)
	}
	b.complete(held)
	b.complete(b.claimThis(gpuWorker, segments[1]))
	b.complete(b.claimThis(gpuWorker, stitch))
	b.wantStatus(orchestrator.ID, taskdb.StatusComplete)
	b.healthy()
}

// An orchestrator has no lease while its children live, and none of its worker's troubles touch it.
func TestAnOrchestratorNeedsNoWorkerWhileItsChildrenLive(t *testing.T) {
	t.Parallel()
	b := setup(t, 20)
	orchestrator, _, _ := b.tree(2)
	b.age(gpuWorker, 5*time.Hour)
	if got := b.requeueExpired(); len(got) != 0 {
		t.Errorf("requeued %v", got)
	}
	b.register(gpuWorker, "wan2gp")
	if released := b.release(orchestrator); released.Status != taskdb.StatusInProgress {
		t.Errorf("released to %s", released.Status)
	}
	b.wantStatus(orchestrator.ID, taskdb.StatusInProgress)
	b.wantCredits(20, 10)
	b.healthy()

	// Before it is expanded it is a task like any other.
	fresh := b.as(10)
	created := fresh.create(travelTask(fresh.project, fresh.shot, 2))
	for range 2 {
		b.claim(gpuWorker) // the segments
	}
	held := b.claimThis(gpuWorker, created)
	b.release(held)
	fresh.wantCredits(10, 0)
	b.claimThis(gpuWorker, created)
	b.healthy()
}

// A tree that a worker makes itself, without a stitch, is done when all the segments it was priced for are and the worker has said that it made them.
func TestATreeWithoutStitchIsDoneWithItsSegments(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	orchestrator := b.claimThis(gpuWorker, b.create(travelTask(b.project, b.shot, 2)))
	segment := taskdb.NewTask{TaskType: "travel_segment", Params: object("orchestrator_task_id_ref", orchestrator.ID)}
	first := b.create(segment)
	b.complete(b.claimThis(gpuWorker, first))
	b.wantStatus(orchestrator.ID, taskdb.StatusInProgress) // one of two
	second := b.create(segment)
	b.complete(b.claimThis(gpuWorker, second))
	b.wantStatus(orchestrator.ID, taskdb.StatusInProgress) // a stitch may still come
	b.report(orchestrator.ID, taskdb.StatusInProgress, "Made 2 segments.")
	done := b.get(second.ID)
	if got := b.wantStatus(orchestrator.ID, taskdb.StatusComplete); text(got.OutputLocation) != text(done.OutputLocation) {
		t.Errorf("the orchestrator's output is %q", text(got.OutputLocation))
	}
	b.wantCredits(0, 0)
	b.healthy()
}

func TestExpandRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t, 1000)
	ctx := t.Context()
	image := b.image()
	_, err := b.ExpandTravelOrchestrator(ctx, taskdb.HoldOf(b.claimThis(gpuWorker, image)))
	wantRefusal(t, err, taskdb.ErrInvalidParams)
	_, err = b.ExpandTravelOrchestrator(ctx, taskdb.Hold{TaskID: uuid.New()})
	wantRefusal(t, err, taskdb.ErrTaskNotFound)
	details := func(pairs ...any) json.RawMessage {
		fields := map[string]any{"num_new_segments_to_generate": 2, "input_image_paths_resolved": []string{"a", "b", "c"}}
		for i := 0; i+1 < len(pairs); i += 2 {
			fields[pairs[i].(string)] = pairs[i+1]
		}
		return object("orchestrator_details", fields)
	}
	for name, params := range map[string]json.RawMessage{
		"no images":             object("orchestrator_details", map[string]any{"num_new_segments_to_generate": 2}),
		"too few images":        details("input_image_paths_resolved", []string{"a", "b"}),
		"an empty image":        details("input_image_paths_resolved", []string{"a", "", "c"}),
		"an image is a number":  details("input_image_paths_resolved", []any{"a", 1, "c"}),
		"an image is null":      details("input_image_paths_resolved", []any{"a", nil, "c"}),
		"images are an object":  details("input_image_paths_resolved", map[string]any{}),
		"frames are null":       details("segment_frames_expanded", nil),
		"too few frames":        details("segment_frames_expanded", []int{17}),
		"one frame":             details("segment_frames_expanded", []int{17, 1}),
		"a frame count is null": details("segment_frames_expanded", []any{17, nil}),
		"a fraction of a frame": details("segment_frames_expanded", []any{17, 17.5}),
		"overlap too long":      details("segment_frames_expanded", []int{17, 9}, "frame_overlap_expanded", []int{9}),
		"overlap negative":      details("frame_overlap_expanded", []int{-1}),
		"overlap null":          details("frame_overlap_expanded", []any{nil}),
		"too many overlaps":     details("frame_overlap_expanded", []int{1, 1}),
		"seed is a word":        details("seed_base", "x"),
		"seed is an object":     details("seed_base", map[string]any{}),
	} {
		created := b.create(taskdb.NewTask{TaskType: "travel_orchestrator", Params: params})
		held := b.claimThis(gpuWorker, created)
		_, err = b.ExpandTravelOrchestrator(ctx, taskdb.HoldOf(held))
		t.Run(name, func(t *testing.T) {
			wantRefusal(t, err, taskdb.ErrInvalidParams)
		})
		b.fail(held, "bad params")
	}
	b.healthy()
	// What could be created can be expanded, up to the size limit (children carry some params more).
	large := details("unknown", strings.Repeat("x", 1_040_000))
	held := b.claimThis(gpuWorker, b.create(taskdb.NewTask{TaskType: "travel_orchestrator", Params: large}))
	b.expand(held)
}

// "claimable when all are Complete": chains run in order, whatever ends first.
func TestDependencyChains(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	a := b.image()
	middle := b.after(a.ID)
	last := b.after(middle.ID, a.ID)
	both := b.after(a.ID, a.ID)
	b.healthy()
	held := b.claimThis(anyWorker, a)
	b.claimNothing(anyWorker)
	b.release(held)
	held = b.claimThis(anyWorker, a)
	b.complete(held)
	b.healthy()
	heldMiddle := b.claimThis(anyWorker, middle)
	b.complete(b.claimThis(anyWorker, both))
	b.claimNothing(anyWorker)
	b.complete(heldMiddle)
	b.complete(b.claimThis(anyWorker, last))
	onDone := b.after(last.ID)
	b.claimThis(anyWorker, onDone) // what is Complete already is not waited for
	b.healthy()
}

// "a failed or cancelled one fails what waits on it, with the reason", down the whole chain.
func TestAFailedDependencyFailsWhatWaits(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	a, c := b.image(), b.image()
	middle := b.after(a.ID, c.ID)
	last := b.after(middle.ID)
	other := b.image()
	b.fail(b.claimThis(anyWorker, a), "broken glass")
	for _, task := range []taskdb.Task{middle, last} {
		if failed := b.wantStatus(task.ID, taskdb.StatusFailed); !strings.Contains(text(failed.ErrorMessage), "broken glass") {
			t.Errorf("failed because %q", text(failed.ErrorMessage))
		}
	}
	b.healthy()
	b.complete(b.claimThis(anyWorker, c))
	late := b.after(a.ID)
	if failed := b.wantStatus(late.ID, taskdb.StatusFailed); !strings.Contains(text(failed.ErrorMessage), a.ID.String()) {
		t.Errorf("created after the failure, it failed because %q", text(failed.ErrorMessage))
	}
	chain := b.after(late.ID)
	b.wantStatus(chain.ID, taskdb.StatusFailed)
	waiting := b.after(other.ID)
	_, err := b.CancelTask(t.Context(), other.ID, "not wanted")
	b.noError(err)
	if failed := b.wantStatus(waiting.ID, taskdb.StatusFailed); !strings.Contains(text(failed.ErrorMessage), "not wanted") {
		t.Errorf("failed because %q", text(failed.ErrorMessage))
	}
	b.claimNothing(anyWorker)
	b.healthy()
	// Another owner's task cannot be waited for.
	stranger := b.as(10)
	task := imageTask(stranger.project)
	task.DependantOn = []uuid.UUID{c.ID}
	_, err = b.CreateTask(t.Context(), task)
	wantRefusal(t, err, taskdb.ErrInvalidDependency)
	task.DependantOn = make([]uuid.UUID, 501)
	_, err = b.CreateTask(t.Context(), task)
	wantRefusal(t, err, taskdb.ErrInvalidDependency)
}

// A worker makes its tree task by task, and the first ones may be done before the last are there: only the stitch completes such a tree.
func TestATreeMadeTaskByTaskWaitsForItsStitch(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	orchestrator := b.claimThis(gpuWorker, b.create(travelTask(b.project, b.shot, 1)))
	params := object("orchestrator_task_id_ref", orchestrator.ID)
	segment := b.complete(b.claimThis(gpuWorker, b.create(taskdb.NewTask{TaskType: "travel_segment", Params: params})))
	stitch := b.create(taskdb.NewTask{TaskType: "travel_stitch", Params: params, DependantOn: []uuid.UUID{segment.ID}})
	b.report(orchestrator.ID, taskdb.StatusInProgress, "Made 2 tasks.")
	b.wantStatus(orchestrator.ID, taskdb.StatusInProgress)
	b.complete(b.claimThis(gpuWorker, stitch))
	b.wantStatus(orchestrator.ID, taskdb.StatusComplete)
	b.wantCredits(5, 0)
	b.healthy()
}
