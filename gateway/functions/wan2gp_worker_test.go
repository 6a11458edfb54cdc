package functions_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
)

// wan2gp speaks as an unmodified Headless-Wan2GP of January 2026 does (github.com/peteromallet/Headless-Wan2GP at 50066ea): its requests in its order, with its
// headers, retries and way to read answers.
type wan2gp struct {
	*stage

	token string
	name  string
	wait  time.Duration // before the first retry; it doubles
}

func (s *stage) worker(token, name string) *wan2gp {
	return &wan2gp{s, token, name, time.Millisecond}
}

// call posts to a function: up to three times on 502, 503, 504 and broken connections. marker is what the worker writes when it gives up.
func (w *wan2gp) call(function string, body any) (got answer, marker string) {
	w.t.Helper()
	data, err := json.Marshal(body)
	must(w.t, err)
	pause := w.wait
	for try := 1; ; try++ {
		got, err = w.send(http.MethodPost, "/functions/v1/"+function, data, "Content-Type", "application/json", "Authorization", "Bearer "+w.token)
		passing := err != nil || got.status == http.StatusBadGateway || got.status == http.StatusServiceUnavailable || got.status == http.StatusGatewayTimeout
		switch {
		case !passing && got.status == http.StatusOK:
			return got, ""
		case !passing:
			return got, fmt.Sprintf("[EDGE_FAIL:%s:HTTP_%d] %.200s", function, got.status, got.body)
		case try == 3 && err != nil:
			return got, fmt.Sprintf("[EDGE_FAIL:%s:NETWORK] %v", function, err)
		case try == 3:
			return got, fmt.Sprintf("[EDGE_FAIL:%s:5XX_TRANSIENT] %d", function, got.status)
		}
		time.Sleep(pause)
		pause *= 2
	}
}

// mustCall is a call that has to end with 200.
func (w *wan2gp) mustCall(function string, body any) answer {
	w.t.Helper()
	got, marker := w.call(function, body)
	if marker != "" {
		w.t.Fatalf("%s: %s", function, marker)
	}
	return got
}

// table is a request to PostgREST, with the token in both headers, as when the worker is started with it as its anon key.
func (w *wan2gp) table(method, address string, body []byte, pairs ...string) answer {
	w.t.Helper()
	got, err := w.send(method, "/rest/v1/"+address, body, append([]string{
		"Apikey", w.token, "Authorization", "Bearer " + w.token, "Content-Type", "application/json", "Accept-Profile", "public",
	}, pairs...)...)
	must(w.t, err)
	return got
}

// rows reads a table; filters are pairs.
func (w *wan2gp) rows(table, columns string, filters ...string) []map[string]any {
	w.t.Helper()
	got := w.table(http.MethodGet, table+"?"+queryOf(columns, filters), nil)
	var list []map[string]any
	if err := json.Unmarshal(got.want(w.t, http.StatusOK).body, &list); err != nil {
		w.t.Fatalf("%s: %s", table, got.body)
	}
	return list
}

// single reads one row; nil when it is not there, which the worker knows by the words "0 rows".
func (w *wan2gp) single(table, columns string, filters ...string) map[string]any {
	w.t.Helper()
	got := w.table(http.MethodGet, table+"?"+queryOf(columns, filters), nil, "Accept", "application/vnd.pgrst.object+json")
	if got.status == http.StatusNotAcceptable && strings.Contains(string(got.body), "0 rows") {
		return nil
	}
	return got.want(w.t, http.StatusOK).object(w.t)
}

func queryOf(columns string, filters []string) string {
	parts := []string{"select=" + url.QueryEscape(columns)}
	for i := 0; i < len(filters); i += 2 {
		parts = append(parts, filters[i]+"="+url.QueryEscape(filters[i+1]))
	}
	return strings.Join(parts, "&")
}

// heartbeat is what its other process sends by curl, with the key in one header.
func (w *wan2gp) heartbeat(status string, logs ...map[string]any) answer {
	w.t.Helper()
	body := object("worker_id_param", w.name, "vram_total_mb_param", 24576, "vram_used_mb_param", 8192, "logs_param", append([]map[string]any{}, logs...), "status_param", status)
	got, err := w.send(http.MethodPost, "/rest/v1/rpc/func_worker_heartbeat_with_logs", body, "Apikey", w.token, "Content-Type", "application/json", "Prefer", "return=representation")
	must(w.t, err)
	return got
}

// poll is one turn of its loop: recovery, counts, claim. nil: nothing to do. deferred is an orchestrator of its own that it found running.
func (w *wan2gp) poll() (claimed map[string]any, deferred string) {
	w.t.Helper()
	for _, row := range w.rows("tasks", "id,params,task_type,project_id", "worker_id", "eq."+w.name, "status", "eq.In Progress", "limit", "1") {
		if !strings.Contains(row["task_type"].(string), "_orchestrator") {
			row["task_id"] = row["id"]
			return row, ""
		}
		deferred, _ = row["id"].(string)
	}
	counts, _ := w.call("task-counts", map[string]any{"run_type": "gpu", "include_active": true})
	if counts.status == http.StatusOK {
		totals := counts.object(w.t)["totals"].(map[string]any)
		if totals["queued_only"].(float64) <= 0 && totals["eligible_queued"].(float64) <= 0 {
			return nil, deferred
		}
	}
	got := w.post(w.token, "claim-next-task", string(object("worker_id", w.name, "run_type", "gpu")))
	if got.status == http.StatusNoContent {
		return nil, deferred
	}
	return got.want(w.t, http.StatusOK).object(w.t), deferred
}

// claim polls, and wants this task.
func (w *wan2gp) claim(task uuid.UUID) map[string]any {
	w.t.Helper()
	claimed, _ := w.poll()
	if claimed == nil || claimed["task_id"] != task.String() {
		w.t.Fatalf("claimed %v, want %s", claimed, task)
	}
	if _, isObject := claimed["params"].(map[string]any); !isObject || claimed["project_id"] != w.project.String() || claimed["task_type"] == "" {
		w.t.Fatalf("claimed %v", claimed)
	}
	return claimed
}

// status sends a report and returns the answer, which the worker only logs.
func (w *wan2gp) status(task, status, text string) answer {
	w.t.Helper()
	got, _ := w.call("update-task-status", map[string]any{"task_id": task, "status": status, "output_location": text})
	return got
}

// finish completes with the body, and as the worker does reports a failure when that is refused.
func (w *wan2gp) finish(body map[string]any) (done map[string]any, marker string) {
	w.t.Helper()
	got, marker := w.call("complete_task", body)
	if marker != "" {
		w.status(body["task_id"].(string), "Failed", "Upload failed: "+marker)
		return nil, marker
	}
	return got.object(w.t), ""
}

// finishA sends a file below 2 MiB in the body.
func (w *wan2gp) finishA(task string, file []byte, name string, frame []byte) (map[string]any, string) {
	w.t.Helper()
	body := map[string]any{"task_id": task, "file_data": base64.StdEncoding.EncodeToString(file), "filename": name}
	if frame != nil {
		body["first_frame_data"], body["first_frame_filename"] = base64.StdEncoding.EncodeToString(frame), "thumb_0123abcd.jpg"
	}
	return w.finish(body)
}

// upload stores a larger file by a signed address, and its first frame.
func (w *wan2gp) upload(task string, file []byte, name string, frame []byte) (path, framePath string) {
	w.t.Helper()
	body := map[string]any{"task_id": task, "filename": name, "content_type": "video/mp4"}
	if frame != nil {
		body["generate_thumbnail_url"] = true
	}
	given := w.mustCall("generate-upload-url", body).object(w.t)
	if given["token"] == "" || given["expires_at"] == "" {
		w.t.Fatalf("generate-upload-url: %v", given)
	}
	w.put(given["upload_url"].(string), file, "video/mp4")
	path, _ = given["storage_path"].(string)
	if frame != nil {
		w.put(given["thumbnail_upload_url"].(string), frame, "image/jpeg")
		framePath, _ = given["thumbnail_storage_path"].(string)
	}
	return path, framePath
}

func (w *wan2gp) put(address string, file []byte, contentType string) {
	w.t.Helper()
	for try := 1; ; try++ {
		got, err := w.send(http.MethodPut, address, file, "Content-Type", contentType)
		if err == nil && (got.status == http.StatusOK || got.status == http.StatusCreated) {
			return
		}
		if try == 3 || err == nil && got.status < 500 {
			w.t.Fatalf("PUT: %d %s %v", got.status, got.body, err)
		}
	}
}
