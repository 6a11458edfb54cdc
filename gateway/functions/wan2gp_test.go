package functions_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

func TestAWorkerMakesAPicture(t *testing.T) {
	t.Parallel()
	s := setup(t)
	w := s.worker(s.token(s.user), "gpu-20250723_221138-afa8403b")

	check := w.table(http.MethodGet, "tasks?select=count&limit=1", nil, "Prefer", "count=exact").want(t, http.StatusOK)
	if string(check.body) != `[{"count":0}]` || !strings.HasSuffix(check.header.Get("Content-Range"), "/1") && !strings.HasSuffix(check.header.Get("Content-Range"), "/0") {
		t.Errorf("start-up check: %s %s", check.body, check.header.Get("Content-Range"))
	}
	if claimed, _ := w.poll(); claimed != nil {
		t.Fatalf("claimed %v", claimed)
	}
	task := s.image()
	w.heartbeat("active").want(t, http.StatusOK)
	claimed := w.claim(task)
	if params := claimed["params"].(map[string]any); params["prompt"] != "a lighthouse" {
		t.Errorf("params %v", params)
	}
	// The claim's answer was lost: the next poll finds the task again.
	if again, _ := w.poll(); again == nil || again["task_id"] != task.String() {
		t.Fatalf("recovery found %v", again)
	}
	w.status(task.String(), "In Progress", "").want(t, http.StatusOK)
	reset, _ := w.call("update-task-status", map[string]any{"task_id": task, "status": "In Progress", "reset_generation_started_at": true})
	reset.want(t, http.StatusOK)
	if got := s.post(w.token, "get-predecessor-output", string(object("task_id", task))); got.status != http.StatusOK || strings.TrimSpace(string(got.body)) != "null" {
		t.Errorf("predecessor: %d %s", got.status, got.body)
	}

	s.failNext("/functions/v1/complete_task", unavailable, lostAnswer) // then it is there already
	file := pngOf(7)
	done, marker := w.finishA(task.String(), file, "my picture.png", nil)
	if marker != "" {
		t.Fatal(marker)
	}
	address, _ := done["public_url"].(string)
	if !strings.HasPrefix(address, s.web.URL+"/storage/v1/object/public/image_uploads/"+s.user.String()+"/tasks/"+task.String()+"/1/") || strings.Contains(address, "?") {
		t.Errorf("public_url %q", address)
	}
	if !bytes.Equal(s.get(address), file) {
		t.Error("the file is another one")
	}
	if g := s.wantGenerations(1, 1)[0]; deref(g.Location) != address || g.Type != "image" {
		t.Errorf("generation %+v", g)
	}
	if claimed, _ := w.poll(); claimed != nil {
		t.Errorf("claimed %v", claimed)
	}
	s.wantCredits(99)
	s.healthy()
}

func TestAWorkerUploadsLargeFiles(t *testing.T) {
	t.Parallel()
	s := setup(t)
	w := s.worker(s.token(s.user), "gpu-1")
	task := s.image()
	w.claim(task)
	file := mp4Of(3<<20, 'x')
	s.failNext("/functions/v1/generate-upload-url", lostAnswer)
	s.failNext(http.MethodPut, lostAnswer)
	path, frame := w.upload(task.String(), file, "/outputs/final video.mp4", jpegOf(9))
	s.failNext("/functions/v1/complete_task", lostAnswer)
	done, marker := w.finish(map[string]any{"task_id": task, "storage_path": path, "thumbnail_storage_path": frame})
	if marker != "" {
		t.Fatal(marker)
	}
	if got := done["public_url"].(string); pathOf(t, got) != path || !bytes.Equal(s.get(got), file) {
		t.Errorf("public_url %s", got)
	}
	if got := done["thumbnail_url"].(string); pathOf(t, got) != frame || !bytes.Equal(s.get(got), jpegOf(9)) {
		t.Errorf("thumbnail_url %s", got)
	}
	// W26 sends the JSON that it found the address in.
	w.status(task.String(), "Complete", `{"output_location":"`+done["public_url"].(string)+`"}`).want(t, http.StatusOK)
	s.wantGenerations(1, 1)
	s.healthy()
}

func TestAWorkerCompletesWithATextOrAnAddressElsewhere(t *testing.T) {
	t.Parallel()
	s := setup(t)
	w := s.worker(s.token(uuid.Nil), "gpu-1") // of everybody
	for _, function := range []string{"complete_task", "complete-task", "process-completed-task"} {
		task := s.image()
		w.claim(task)
		got := w.mustCall(function, map[string]any{"task_id": task, "output_location": "https://elsewhere.test/" + function}).object(t)
		if got["public_url"] != "https://elsewhere.test/"+function {
			t.Errorf("%s: %v", function, got)
		}
	}
	s.wantGenerations(3, 3)
	s.healthy()
}

// makeTree does what a travel_orchestrator does: it looks for children that are there, makes two segments, each dependant on the one before, and
// a stitch, and reads each back.
func (w *wan2gp) makeTree(orchestrator uuid.UUID, stitch bool, listOfOne bool) (children []string) {
	w.t.Helper()
	details := map[string]any{"run_id": "r1", "orchestrator_task_id": orchestrator, "shot_id": w.shot}
	if list := w.rows("tasks", "id,task_type,status,params,output_location", "params", `cs.{"orchestrator_task_id_ref": "`+orchestrator.String()+`"}`, "order", "created_at.asc"); len(list) != 0 {
		w.t.Fatalf("children before: %v", list)
	}
	for i := range 3 {
		if i == 2 && !stitch {
			break
		}
		id, taskType := uuid.NewString(), "travel_segment"
		params := map[string]any{
			"orchestrator_task_id_ref": orchestrator, "orchestrator_run_id": "r1", "project_id": w.project, "orchestrator_details": details, "segment_index": i,
		}
		if i == 2 {
			taskType = "travel_stitch"
			delete(params, "segment_index")
		}
		body := map[string]any{"task_id": id, "params": params, "task_type": taskType, "project_id": w.project, "dependant_on": nil}
		if i > 0 && stitch {
			previous := children[i-1]
			if body["dependant_on"] = previous; listOfOne {
				body["dependant_on"] = []string{previous}
			}
			if row := w.single("tasks", "id", "id", "eq."+previous); row == nil {
				w.t.Fatal("the dependency is not visible")
			}
		}
		if i == 1 {
			w.failNext("/functions/v1/create-task", lostAnswer)
		}
		w.mustCall("create-task", body)
		row := w.single("tasks", "status,created_at,project_id,task_type", "id", "eq."+id)
		if row == nil || row["status"] != "Queued" || row["project_id"] != w.project.String() {
			w.t.Fatalf("the child reads back as %v", row)
		}
		if row := w.single("tasks", "dependant_on", "id", "eq."+id); row == nil || (row["dependant_on"] != nil) != (body["dependant_on"] != nil) {
			w.t.Fatalf("its dependency reads back as %v", row)
		}
		children = append(children, id)
	}
	w.status(orchestrator.String(), "In Progress", fmt.Sprintf("Successfully enqueued %d new segment tasks for run r1. (Total expected: 2 segments)", 2)).want(w.t, http.StatusOK)
	return children
}

func TestAWorkerMakesATravelTaskByTask(t *testing.T) {
	t.Parallel()
	for name, listOfOne := range map[string]bool{"W": false, "W26": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			w := s.worker(s.token(s.user), "gpu-1")
			orchestrator := s.travel()
			w.claim(orchestrator)
			children := w.makeTree(orchestrator, true, listOfOne)
			if got := s.wantStatus(orchestrator, taskdb.StatusInProgress); got.OutputLocation != nil {
				t.Errorf("a progress text became the output %q", *got.OutputLocation)
			}
			s.expire() // an orchestrator whose tree lives needs no lease
			s.wantStatus(orchestrator, taskdb.StatusInProgress)

			var last string
			for i, child := range children {
				claimed, deferred := w.poll()
				if claimed == nil || claimed["task_id"] != child || deferred != orchestrator.String() {
					t.Fatalf("claimed %v (%s deferred), want %s", claimed, deferred, child)
				}
				w.heartbeat("active", map[string]any{"timestamp": "t", "level": "ERROR", "message": "m", "task_id": "unknown_task_1", "metadata": nil}).want(t, http.StatusOK)
				predecessor := w.post(w.token, "get-predecessor-output", string(object("task_id", child))).want(t, http.StatusOK)
				if i > 0 {
					if got := predecessor.object(t); got["predecessor_id"] != children[i-1] || got["output_location"] != last {
						t.Fatalf("predecessor %v", got)
					}
				}
				if i == 2 { // the stitch
					w.wantSegments(2)
					path, frame := w.upload(child, mp4Of(3<<20, 's'), "stitched.mp4", jpegOf(1))
					done, marker := w.finish(map[string]any{"task_id": child, "storage_path": path, "thumbnail_storage_path": frame})
					if marker != "" {
						t.Fatal(marker)
					}
					last = done["public_url"].(string)
					continue
				}
				done, marker := w.finishA(child, mp4Of(1<<20, byte(i)), "segment.mp4", jpegOf(uint8(i)))
				if marker != "" {
					t.Fatal(marker)
				}
				last = done["public_url"].(string)
			}
			if got := s.wantStatus(orchestrator, taskdb.StatusComplete); deref(got.OutputLocation) != last {
				t.Errorf("the travel's output is %q", deref(got.OutputLocation))
			}
			if g := s.wantGenerations(1, 1)[0]; g.Type != "video" || deref(g.Location) != last || g.ThumbnailURL == nil {
				t.Errorf("generation %+v", g)
			}
			s.wantCredits(90)
			s.healthy()
		})
	}
}

func (w *wan2gp) wantSegments(n int) {
	w.t.Helper()
	got := w.post(w.token, "get-completed-segments", string(object("run_id", "r1", "project_id", w.project))).want(w.t, http.StatusOK)
	var list []struct {
		Index  *int   `json:"segment_index"`
		Output string `json:"output_location"`
	}
	if err := json.Unmarshal(got.body, &list); err != nil || len(list) != n || list[0].Index == nil || list[0].Output == "" {
		w.t.Fatalf("segments %s", got.body)
	}
}

// An orchestrator that the server has not finished: the worker runs it again, sees that all is done, and completes it with the path of a child's file.
func TestAWorkerCompletesAnOrchestratorWithAChildsFile(t *testing.T) {
	t.Parallel()
	s := setup(t)
	w := s.worker(s.token(s.user), "gpu-1")
	orchestrator := s.travel()
	w.claim(orchestrator)
	children := w.makeTree(orchestrator, false, false)
	// Its report was lost: nothing says that the tree is whole.
	_, err := s.pg.Pool.Exec(t.Context(), "update tasks set progress = null where id = $1", orchestrator)
	must(t, err)
	var last string
	for range children {
		claimed, _ := w.poll()
		done, marker := w.finishA(claimed["task_id"].(string), mp4Of(1000, 'c'), "segment one.mp4", nil)
		if marker != "" {
			t.Fatal(marker)
		}
		last = done["public_url"].(string)
	}
	s.wantStatus(orchestrator, taskdb.StatusInProgress)
	tree := w.post(w.token, "get-orchestrator-children", string(object("orchestrator_task_id", orchestrator))).want(t, http.StatusOK).object(t)
	if list := tree["tasks"].([]any); len(list) != 2 || list[0].(map[string]any)["output_location"] == nil {
		t.Errorf("children %v", tree)
	}
	stranger := s.image() // another task of the same user
	other := s.worker(s.token(uuid.Nil), "gpu-2")
	other.claim(stranger)
	foreign, _ := other.finishA(stranger.String(), pngOf(1), "a.png", nil)
	s.post(w.token, "complete_task", string(object("task_id", orchestrator, "storage_path", pathOf(t, foreign["public_url"].(string))))).wantError(t, http.StatusForbidden, "TD041")

	done, marker := w.finish(map[string]any{"task_id": orchestrator.String(), "storage_path": pathOf(t, last) + "?t=1"})
	if marker != "" || done["public_url"] != last {
		t.Fatalf("%v %s", done, marker)
	}
	s.wantStatus(orchestrator, taskdb.StatusComplete)
	s.healthy()
}

func TestAFailedChildFailsTheTravel(t *testing.T) {
	t.Parallel()
	s := setup(t)
	w := s.worker(s.token(s.user), "gpu-1")
	orchestrator := s.travel()
	w.claim(orchestrator)
	w.makeTree(orchestrator, true, false)
	claimed, _ := w.poll()
	w.status(claimed["task_id"].(string), "Failed", "[ORCHESTRATOR_FAILED] CUDA out of memory").want(t, http.StatusOK)
	s.wantStatus(orchestrator, taskdb.StatusFailed)
	output := w.post(w.token, "get-task-output", string(object("task_id", claimed["task_id"]))).want(t, http.StatusOK).object(t)
	if output["status"] != "Failed" || output["output_location"] != "[ORCHESTRATOR_FAILED] CUDA out of memory" {
		t.Errorf("output %v", output)
	}
	w.mustCall("get-task-status", map[string]any{"task_id": orchestrator})
	s.wantCredits(100)
	s.healthy()
}

func TestALateResultIsKept(t *testing.T) {
	t.Parallel()
	for name, byPath := range map[string]bool{"in the body": false, "uploaded": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			w := s.worker(s.token(s.user), "gpu-1")
			task := s.image()
			w.claim(task)
			path := ""
			if byPath {
				path, _ = w.upload(task.String(), mp4Of(3<<20, 'l'), "late.mp4", nil)
			}
			s.expire()
			s.wantStatus(task, taskdb.StatusQueued)
			s.failNext("/functions/v1/complete_task", lostAnswer)
			var marker string
			if byPath {
				_, marker = w.finish(map[string]any{"task_id": task.String(), "storage_path": path})
			} else {
				_, marker = w.finishA(task.String(), pngOf(3), "late.png", nil)
			}
			if marker != "" {
				t.Fatal(marker)
			}
			s.wantStatus(task, taskdb.StatusComplete)
			s.wantGenerations(1, 1)
			s.wantCredits(99)
			s.healthy()
		})
	}
}

func TestALateResultOfATaskThatAnotherHoldsChangesNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	slow, quick := s.worker(s.token(s.user), "gpu-1"), s.worker(s.token(s.user), "gpu-1")
	task := s.image()
	slow.claim(task)
	path, _ := slow.upload(task.String(), mp4Of(3<<20, 'l'), "late.mp4", nil)
	s.expire()
	quick.claim(task)
	if _, marker := slow.finish(map[string]any{"task_id": task.String(), "storage_path": path}); !strings.Contains(marker, "HTTP_409") {
		t.Errorf("the late result: %q", marker)
	}
	if _, marker := slow.finishA(task.String(), pngOf(3), "late.png", nil); !strings.Contains(marker, "HTTP_409") {
		t.Errorf("the late result in the body: %q", marker)
	}
	s.wantStatus(task, taskdb.StatusInProgress) // whatever it reported then
	if _, marker := quick.finishA(task.String(), pngOf(4), "a.png", nil); marker != "" {
		t.Fatal(marker)
	}
	s.wantGenerations(1, 1)
	s.wantCredits(99)
	s.healthy()

	// Two workers of one token: the path tells the attempts apart.
	task = s.image()
	one, two := s.worker(slow.token, "gpu-3"), s.worker(slow.token, "gpu-4")
	one.claim(task)
	path, _ = one.upload(task.String(), mp4Of(3<<20, 'l'), "late.mp4", nil)
	s.expire()
	two.claim(task)
	got, _ := one.call("complete_task", map[string]any{"task_id": task, "storage_path": path})
	got.wantError(t, http.StatusConflict, "TD031")
}

func TestAResultOfACancelledTaskIsRefused(t *testing.T) {
	t.Parallel()
	s := setup(t)
	w := s.worker(s.token(s.user), "gpu-1")
	task := s.image()
	w.claim(task)
	s.post(serviceKey, "cancel_task", string(object("task_id", task))).want(t, http.StatusOK)
	if _, marker := w.finishA(task.String(), pngOf(3), "a.png", nil); !strings.Contains(marker, "HTTP_409") {
		t.Errorf("the result: %q", marker)
	}
	s.wantStatus(task, taskdb.StatusCancelled)
	s.wantGenerations(0, 0)
	s.wantCredits(100)
	s.healthy()
}

// Three times 503 is our fault: the task is tried again, not lost.
func TestAnOutageOfOursFailsNoTask(t *testing.T) {
	t.Parallel()
	s := setup(t)
	w := s.worker(s.token(s.user), "gpu-1")
	task := s.image()
	w.claim(task)
	s.failNext("/functions/v1/complete_task", unavailable, unavailable, unavailable)
	if _, marker := w.finishA(task.String(), pngOf(3), "a.png", nil); !strings.Contains(marker, "5XX_TRANSIENT") {
		t.Errorf("the marker is %q", marker)
	}
	s.wantStatus(task, taskdb.StatusQueued)
	s.healthy()
}

func TestACrashedWorkersTaskGoesBack(t *testing.T) {
	t.Parallel()
	s := setup(t)
	w := s.worker(s.token(s.user), "gpu-1")
	task := s.image()
	w.claim(task)
	w.heartbeat("active").want(t, http.StatusOK)
	answer := w.heartbeat("crashed").want(t, http.StatusOK).object(t)
	if answer["success"] != true {
		t.Errorf("heartbeat %v", answer)
	}
	s.wantStatus(task, taskdb.StatusQueued)
	s.healthy()
}

func TestAWorkerGivesATaskBack(t *testing.T) {
	t.Parallel()
	s := setup(t)
	w := s.worker(s.token(s.user), "gpu-1")
	task := s.image()
	w.claim(task)
	got, _ := w.call("update-task-status", map[string]any{
		"task_id": task, "status": "Queued", "attempts": 1, "error_details": "Retry 1 (network_transient): reset", "clear_worker": true,
	})
	if answer := got.want(t, http.StatusOK).object(t); answer["changed"] != true {
		t.Errorf("%v", answer)
	}
	if back := s.wantStatus(task, taskdb.StatusQueued); back.FailedAttempts != 1 || deref(back.ErrorMessage) != "Retry 1 (network_transient): reset" {
		t.Errorf("%+v", back)
	}
	s.healthy()
}

// A worker reaches nothing of what another user's workers do.
func TestATokenReachesNoOtherUsersTask(t *testing.T) {
	t.Parallel()
	s := setup(t)
	w := s.worker(s.token(s.user), "gpu-1")
	task := s.image()
	w.claim(task)
	other := uuid.New()
	_, err := s.db.CreateUser(t.Context(), other, "")
	must(t, err)
	thief := s.worker(s.token(other), "gpu-1")
	if claimed, _ := thief.poll(); claimed != nil {
		t.Errorf("claimed %v", claimed)
	}
	for function, body := range aim(task.String(), s) {
		s.post(thief.token, function, string(body)).wantError(t, http.StatusNotFound, "TD021")
	}
	if list := thief.rows("tasks", "id", "id", "eq."+task.String()); len(list) != 0 {
		t.Errorf("it reads %v", list)
	}
	s.wantStatus(task, taskdb.StatusInProgress)
	w.mustCall("complete_task", map[string]any{"task_id": task, "output_location": "x"})
	s.healthy()
}

// aim is a good body for each function that names a task.
func aim(task string, s *stage) map[string]json.RawMessage {
	return map[string]json.RawMessage{
		"complete_task":             object("task_id", task, "output_location", "x"),
		"complete-task":             object("task_id", task, "file_data", base64.StdEncoding.EncodeToString(pngOf(1)), "filename", "a.png"),
		"process_completed_task":    object("task_id", task, "storage_path", s.user.String()+"/a.png"),
		"fail_task":                 object("task_id", task, "error_message", "x"),
		"cancel_task":               object("task_id", task),
		"generate-upload-url":       object("task_id", task, "filename", "a.mp4", "content_type", "video/mp4"),
		"update-task-status":        object("task_id", task, "status", "Failed", "output_location", "x"),
		"get-predecessor-output":    object("task_id", task),
		"get-task-output":           object("task_id", task),
		"get_task_status":           object("task_id", task),
		"get-orchestrator-children": object("orchestrator_task_id", task),
		"update-shot-pair-prompts":  object("task_id", task, "shot_id", s.shot, "enhanced_prompts", []string{"x"}),
	}
}
