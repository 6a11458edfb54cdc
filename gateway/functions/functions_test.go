package functions_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"darkroom/gateway/functions"
	"darkroom/sql/taskdb"
)

// What workers send that no gateway can take: never a 500, and short.
func TestWhatCanNotBeTaken(t *testing.T) {
	t.Parallel()
	s := setup(t)
	token := s.token(s.user)
	w := s.worker(token, "gpu-1")
	task := s.image()
	w.claim(task)
	for function, body := range aim("unknown_task_1732400000", s) {
		for _, spelling := range []string{strings.ReplaceAll(function, "-", "_"), strings.ReplaceAll(function, "_", "-")} {
			got := s.post(token, spelling, string(body))
			got.wantError(t, http.StatusBadRequest, "GW002")
			if len(got.body) > 300 {
				t.Errorf("%s: %d bytes of error", spelling, len(got.body))
			}
		}
	}
	named := func(pairs ...any) string { return string(object(append([]any{"task_id", task}, pairs...)...)) }
	for name, c := range map[string]struct {
		function, body string
		status         int
		code           string
	}{
		"nothing":                     {"update-task-status", "{}", 400, "TD001"},
		"a list":                      {"update-task-status", "[]", 400, "GW001"},
		"a list where fields are":     {"get-task-status", "[]", 400, "GW001"},
		"an id that is a number":      {"get-task-status", `{"task_id":7}`, 400, "GW001"},
		"no JSON":                     {"claim-next-task", "{", 400, "GW001"},
		"no such status":              {"update-task-status", named("status", "Finished"), 400, "TD003"},
		"no status":                   {"update-task-status", named(), 400, "TD003"},
		"a claim of nobody":           {"claim-next-task", "{}", 400, "TD001"},
		"a name that is too long":     {"claim-next-task", string(object("worker_id", strings.Repeat("w", 300))), 400, "TD003"},
		"a model of nobody":           {"update-worker-model", "{}", 400, "TD001"},
		"no run":                      {"get-completed-segments", "{}", 400, "TD001"},
		"a project that is none":      {"get-completed-segments", `{"run_id":"r","project_id":"x"}`, 400, "GW002"},
		"no file name":                {"generate-upload-url", named(), 400, "TD001"},
		"prompts that are none":       {"update-shot-pair-prompts", named("shot_id", s.shot, "enhanced_prompts", "x"), 400, "TD003"},
		"a shot that is unknown":      {"update-shot-pair-prompts", named("shot_id", uuid.New(), "enhanced_prompts", []string{}), 404, "TD024"},
		"an unknown task":             {"get-task-output", string(object("task_id", uuid.New())), 404, "TD021"},
		"a file that is no media":     {"complete_task", named("file_data", base64.StdEncoding.EncodeToString([]byte("text")), "filename", "a.txt"), 400, "GW001"},
		"a file of nothing":           {"complete_task", named("file_data", "", "filename", "a.png"), 400, "GW001"},
		"a file that is not base64":   {"complete_task", named("file_data", "A*", "filename", "a.png"), 400, "GW001"},
		"a file that was not stored":  {"complete_task", named("storage_path", s.user.String()+"/tasks/"+task.String()+"/1/x/a.png"), 400, "GW001"},
		"a path of nobody":            {"complete_task", named("storage_path", "../a.png"), 400, "GW001"},
		"a path of another user":      {"complete_task", named("storage_path", uuid.NewString()+"/a.png"), 403, "TD041"},
		"a path that climbs":          {"complete_task", named("storage_path", s.user.String()+"/%2e%2e/"+uuid.NewString()+"/a.png"), 400, "GW001"},
		"a broken path":               {"complete_task", named("storage_path", s.user.String()+"/%zz"), 400, "GW001"},
		"another user's public file":  {"complete_task", named("output_location", "https://x.test/storage/v1/object/public/image_uploads/"+uuid.NewString()+"/a.png"), 403, "TD041"},
		"two outputs":                 {"complete_task", named("output_location", "x", "storage_path", "y"), 400, "GW001"},
		"a body that is too large":    {"update-task-status", named("status", strings.Repeat("x", 2<<20)), 413, "GW007"},
		"a file that is too large":    {"complete_task", named("file_data", strings.Repeat("AAAA", 2<<20)), 413, "GW007"},
		"a child outside of any tree": {"create-task", string(object("task_id", uuid.New(), "project_id", s.project, "task_type", "single_image", "params", map[string]any{"prompt": "x"})), 403, "TD041"},
		"a function that is none":     {"drop-task", "{}", 404, "GW004"},
	} {
		t.Run(name, func(t *testing.T) { s.post(token, c.function, c.body).wantError(t, c.status, c.code) })
	}
	if got := s.wantStatus(task, taskdb.StatusInProgress); got.Attempt != 1 || got.Progress != nil {
		t.Errorf("something was done: %+v", got)
	}
	s.healthy()
}

// Who may call what: workers' functions are for workers and the service, apps' for users and the service; anon has none.
func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	s := setup(t)
	user, err := s.db.CreateAccessToken(t.Context(), "user", "test", 0, s.user)
	must(t, err)
	task := s.image()
	for function, body := range aim(task.String(), s) {
		s.post(anonKey, function, string(body)).wantError(t, http.StatusUnauthorized, "TD040")
		if function != "cancel_task" {
			s.post(user.Token, function, string(body)).wantError(t, http.StatusForbidden, "TD041")
		}
	}
	for _, function := range []string{"task-counts", "claim-next-task", "update-worker-model"} {
		s.post(user.Token, function, `{"worker_id":"w"}`).wantError(t, http.StatusForbidden, "TD041")
		s.post("wrong", function, `{}`).want(t, http.StatusUnauthorized)
	}

	// An app.
	create := string(object("project_id", s.project, "tool_id", "image-generation", "input", map[string]any{"prompt": "x"}))
	made := s.post(user.Token, "create_task", create).want(t, http.StatusOK).object(t)
	s.post(user.Token, "calculate-task-cost", create).want(t, http.StatusOK)
	s.post(user.Token, "cancel_task", string(object("task_id", made["id"]))).want(t, http.StatusOK)
	for path, key := range map[string]string{
		"/tasks/" + task.String(): user.Token, "/projects/" + s.project.String() + "/generations": user.Token,
	} {
		for key, status := range map[string]int{key: http.StatusOK, serviceKey: http.StatusOK, anonKey: http.StatusUnauthorized} {
			got, err := s.send(http.MethodGet, path, nil, "Apikey", key)
			must(t, err)
			got.want(t, status)
		}
	}

	// A worker with the service key: it runs everybody's tasks, and is not told apart from others of its kind.
	w := s.worker(serviceKey, "gpu-1")
	claimed := w.post(serviceKey, "claim-next-task", `{"worker_id":"gpu-1"}`).want(t, http.StatusOK).object(t)
	if claimed["task_id"] != task.String() {
		t.Fatalf("claimed %v", claimed)
	}
	if _, marker := w.finishA(task.String(), pngOf(1), "a.png", nil); marker != "" {
		t.Error(marker)
	}
	s.healthy()
}

// The same names for other bytes: nothing is written over, and only the first result counts.
func TestTwoResultsOfOneName(t *testing.T) {
	t.Parallel()
	s := setup(t)
	w := s.worker(s.token(s.user), "gpu-1")
	task := s.image()
	w.claim(task)
	first, marker := w.finishA(task.String(), pngOf(1), "a.png", jpegOf(1))
	if marker != "" || first["thumbnail_url"] == nil {
		t.Fatal(marker, first)
	}
	w.mustCall("complete_task", map[string]any{"task_id": task, "file_data": pngOf(1), "filename": "a.png"})
	got, _ := w.call("complete_task", map[string]any{"task_id": task, "file_data": pngOf(2), "filename": "a.png"})
	got.wantError(t, http.StatusConflict, "TD032")
	got, _ = w.call("generate-upload-url", map[string]any{"task_id": task, "filename": "a.png"})
	got.wantError(t, http.StatusConflict, "TD032")
	if !bytes.Equal(s.get(first["public_url"].(string)), pngOf(1)) {
		t.Error("the file was written over")
	}
}

func TestLimitsOfBodies(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int64{
		"complete_task": 8 << 20, "complete-task": 8 << 20, "process-completed-task": 8 << 20, "create-task": 2 << 20, "": 2 << 20,
	} {
		if got := functions.MaxBytes(name); got != want {
			t.Errorf("%q: %d", name, got)
		}
	}
}

// FuzzFunctionBody: no body of any function gives a 500, or an error of another shape.
func FuzzFunctionBody(f *testing.F) {
	s := setup(f)
	token := s.token(s.user)
	w := s.worker(token, "gpu-1")
	task := s.travel()
	w.claim(task)
	for function, body := range aim(task.String(), s) {
		f.Add(function, string(body))
	}
	f.Add("create-task", string(object("task_id", uuid.New(), "project_id", s.project, "task_type", "travel_segment", "dependant_on", []string{task.String()},
		"params", map[string]any{"orchestrator_task_id_ref": task})))
	f.Add("claim-next-task", `{"worker_id":"\u0000"}`)
	f.Add("task-counts", `{"run_type":"gpu","include_active":true}`)
	f.Add("get-completed-segments", `{"run_id":"r1","project_id":null}`)
	f.Add("update-worker-model", `{"worker_id":"gpu-1","model":"vace"}`)
	f.Add("calculate-task-cost", `{"task_type":"single_image","params":{"prompt":"a"}}`)
	f.Fuzz(func(t *testing.T, function, body string) {
		if strings.ContainsAny(function, "/?#%") || strings.TrimSpace(function) != function || function == "" {
			return
		}
		for _, r := range function {
			if r <= ' ' || r > '~' {
				return
			}
		}
		s.t = t
		got := s.post(token, function, body)
		switch {
		case got.status == http.StatusOK || got.status == http.StatusNoContent:
		case got.status == http.StatusMethodNotAllowed || got.status == http.StatusTeapot: // a name that Echo's router takes for another address
		case got.status >= 400 && got.status < 500 && json.Valid(got.body):
			got.wantError(t, got.status, got.object(t)["code"].(string))
		default:
			t.Errorf("%s %q: %d %s", function, body, got.status, got.body)
		}
	})
}
