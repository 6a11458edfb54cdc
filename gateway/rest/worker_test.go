package rest_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/uuid"
)

// The reads and writes of Headless-Wan2GP on tables , with a worker's token.
func TestTableCallsOfAWorker(t *testing.T) {
	t.Parallel()
	d := setup(t)
	const single = "application/vnd.pgrst.object+json"
	full := "return=representation"

	// A worker of b's took the name first: a's has another id, and knows itself by name all the same.
	for _, worker := range []string{"worker of b", "worker"} {
		d.want(d.call(worker, http.MethodPost, "rpc/register_worker?select=name", `{"worker_id":"gpu-1","capabilities":["wan2gp"]}`), http.StatusOK, `{"name":"gpu-1"}`)
	}
	id := value[string](d, "select id from workers where token_id = $1", d.who["worker"].Token)
	if id == "gpu-1" {
		t.Fatal("both workers have one id")
	}
	got := d.call("worker", http.MethodGet, "tasks?select=count&limit=1", "{}", "Prefer", "count=exact")
	d.want(got, http.StatusOK, `[{"count":0}]`)
	if got.header.Get("Content-Range") != "0-0/0" {
		t.Errorf("Content-Range %s", got.header.Get("Content-Range"))
	}
	recovery := "tasks?select=id, params, task_type, project_id&worker_id=eq.gpu-1&status=eq.In Progress&limit=1"
	d.want(d.call("worker", http.MethodGet, recovery, "{}"), http.StatusOK, `[]`)
	d.want(d.call("worker", http.MethodPost, "rpc/claim_next_tasks?select=id", `{"worker_id":"gpu-1"}`), http.StatusOK, `[{"id":"`+d.a.task.String()+`"}]`)
	d.want(d.call("worker", http.MethodGet, recovery, "{}"), http.StatusOK,
		`[{"id":"`+d.a.task.String()+`","params":{"prompt":"a lighthouse"},"task_type":"single_image","project_id":"`+d.a.project.String()+`"}]`)
	d.want(d.call("worker", http.MethodGet, "tasks?select=id&worker_id=in.(gpu-1,gpu-2)", ""), http.StatusOK, `[{"id":"`+d.a.task.String()+`"}]`)
	d.want(d.call("worker", http.MethodGet, "tasks?select=id&worker_id=neq.gpu-1", ""), http.StatusOK, `[]`)
	d.want(d.call("worker of b", http.MethodGet, recovery, ""), http.StatusOK, `[]`)
	d.want(d.call("worker", http.MethodGet, "tasks?select=status&id=eq."+d.a.task.String(), "", "Accept", single), http.StatusOK, `{"status":"In Progress"}`)
	d.wantError(d.call("worker", http.MethodGet, "tasks?select=status&id=eq."+uuid.NewString(), "", "Accept", single), http.StatusNotAcceptable, "PGRST116", "0 rows")
	d.wantError(d.call("worker", http.MethodGet, "tasks?select=status&id=eq.unknown_task_1", ""), http.StatusBadRequest, "22P02", "unknown_task_1")
	d.wantError(d.call("worker", http.MethodGet, "tasks?select=generation_started_at", ""), http.StatusBadRequest, "42703", "generation_started_at")

	// A fatal error: the task goes back, once.
	back := "tasks?id=eq." + d.a.task.String() + "&worker_id=eq.gpu-1&status=eq.In Progress"
	body := `{"status":"Queued","worker_id":null,"generation_started_at":null,"error_details":"CUDA out of memory"}`
	d.want(d.call("worker of b", http.MethodPatch, back, body, "Prefer", full), http.StatusOK, `[]`)
	d.want(d.call("worker", http.MethodPatch, back+"&select=status,failed_attempts,error_message", body, "Prefer", full), http.StatusOK,
		`[{"status":"Queued","failed_attempts":1,"error_message":"CUDA out of memory"}]`)
	d.want(d.call("worker of b", http.MethodPatch, back, body, "Prefer", full), http.StatusOK, `[]`)
	if n := value[int](d, "select failed_attempts from tasks where id = $1", d.a.task); n != 1 {
		t.Errorf("%d failed attempts, want 1", n)
	}
	for patch, names := range map[string]string{
		`{"status":"Complete"}`: "only give it back", `{"status":"Queued","worker_id":"x"}`: "only give it back", `{}`: "only give it back",
	} {
		d.wantError(d.call("worker", http.MethodPatch, back, patch), http.StatusBadRequest, "PGRST127", names)
	}
	d.wantError(d.call("worker", http.MethodPatch, back, `{"status":"Queued","cost":0}`), http.StatusBadRequest, "PGRST204", "cost")
	for _, filters := range []string{"", "?status=eq.In Progress", "?id=neq." + uuid.NewString(), "?id=eq." + uuid.NewString() + "&status=eq.Queued", "?id=eq.x&params=cs.{}"} {
		d.wantError(d.call("worker", http.MethodPatch, "tasks"+filters, body), http.StatusBadRequest, "PGRST127", "")
	}
	d.wantError(d.call("worker", http.MethodPatch, "tasks?id=eq.x", body), http.StatusBadRequest, "22P02", "uuid")

	// What it says of itself.
	d.want(d.call("worker", http.MethodPatch, "workers?id=eq.gpu-1&select=metadata", `{"status":"error","metadata":{"reason":"fatal"}}`, "Prefer", full),
		http.StatusOK, `[{"metadata":{"reason":"fatal","status":"error"}}]`)
	d.want(d.call("worker", http.MethodGet, "workers?select=id,metadata&id=eq.gpu-1", "", "Accept", single), http.StatusOK,
		`{"id":"`+id+`","metadata":{"reason":"fatal","status":"error"}}`)
	if note := value[string](d, "select info::text from workers where id = 'gpu-1'"); note != "{}" {
		t.Errorf("the worker of b was noted: %s", note)
	}
	d.want(d.call("worker", http.MethodPatch, "workers?id=eq.gpu-9", `{"status":"error","metadata":{}}`, "Prefer", full), http.StatusOK, `[]`)
	d.wantError(d.call("worker", http.MethodPatch, "workers?id=eq.gpu-1", `{"owner_id":null}`), http.StatusBadRequest, "PGRST204", "owner_id")
	d.wantError(d.call("worker", http.MethodPatch, "workers?id=eq.gpu-1", `{"metadata":1}`), http.StatusBadRequest, "PGRST102", "metadata")
	d.wantError(d.call("worker", http.MethodDelete, "workers?id=eq.gpu-1", ""), http.StatusForbidden, "42501", "workers")
	d.wantError(d.call("a", http.MethodGet, "workers?select=metadata", ""), http.StatusBadRequest, "42703", "metadata")
}

// A worker reads the tree of its orchestrator, and drops a child that it made twice.
func TestAWorkerDropsAChild(t *testing.T) {
	t.Parallel()
	d := setup(t)
	full := "return=representation"
	d.exec("select cancel_task(task_id => $1)", d.a.task)
	root := value[uuid.UUID](d, `select id from create_task(project_id => $1, task_type => 'travel_orchestrator', params => '{"orchestrator_details":{"num_new_segments_to_generate":2}}')`, d.a.project)
	d.call("worker", http.MethodPost, "rpc/register_worker", `{"worker_id":"gpu","capabilities":["wan2gp"]}`)
	d.want(d.call("worker", http.MethodPost, "rpc/claim_next_tasks?select=id", `{"worker_id":"gpu"}`), http.StatusOK, `[{"id":"`+root.String()+`"}]`)
	child := func(kind string, index int, after ...uuid.UUID) uuid.UUID {
		t.Helper()
		id := uuid.New()
		data, err := json.Marshal(map[string]any{
			"task_id": id, "project_id": d.a.project, "task_type": kind, "dependant_on": after,
			"params": map[string]any{"orchestrator_task_id_ref": root, "segment_index": index},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := d.call("worker", http.MethodPost, "rpc/create_task", string(data)); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
		return id
	}
	first := child("travel_segment", 0)
	second := child("travel_segment", 1, first)
	stitch := child("travel_stitch", 0, second)
	twice := child("travel_stitch", 0, second)
	d.want(d.call("worker", http.MethodGet, `tasks?select=id,status&params=cs.{"orchestrator_task_id_ref": "`+root.String()+`"}&order=created_at`, ""), http.StatusOK,
		`[{"id":"`+first.String()+`","status":"Queued"},{"id":"`+second.String()+`","status":"Queued"},{"id":"`+stitch.String()+`","status":"Queued"},{"id":"`+twice.String()+`","status":"Queued"}]`)

	d.wantError(d.call("worker", http.MethodDelete, "tasks?id=eq."+first.String(), "", "Prefer", full), http.StatusBadRequest, "TD023", "waits for task")
	d.want(d.call("worker of b", http.MethodDelete, "tasks?id=eq."+twice.String(), "", "Prefer", full), http.StatusOK, `[]`)
	d.want(d.call("worker", http.MethodDelete, "tasks?select=id,status&id=eq."+twice.String(), "", "Prefer", full), http.StatusOK, `[{"id":"`+twice.String()+`","status":"Queued"}]`)
	d.want(d.call("worker", http.MethodDelete, "tasks?select=status&id=eq."+twice.String(), "", "Prefer", full), http.StatusOK, `[{"status":"Cancelled"}]`)
	d.want(d.call("worker", http.MethodDelete, "tasks?id=eq."+root.String(), "", "Prefer", full), http.StatusOK, `[]`)
	d.want(d.call("worker", http.MethodGet, "tasks?select=status&id=in.("+root.String()+","+stitch.String()+")&order=status", ""), http.StatusOK,
		`[{"status":"In Progress"},{"status":"Queued"}]`)
	d.wantError(d.call("worker", http.MethodDelete, "tasks", ""), http.StatusBadRequest, "PGRST127", "by id=eq.")

	// An orchestrator whose tree runs is not given back.
	d.want(d.call("worker", http.MethodPatch, "tasks?select=status&id=eq."+root.String()+"&worker_id=eq.gpu", `{"status":"Queued","worker_id":null}`, "Prefer", full), http.StatusOK,
		`[{"status":"In Progress"}]`)

	// What runs is not dropped, and nothing is broken.
	d.want(d.call("worker", http.MethodPost, "rpc/claim_next_tasks?select=id", `{"worker_id":"gpu"}`), http.StatusOK, `[{"id":"`+first.String()+`"}]`)
	d.wantError(d.call("worker", http.MethodDelete, "tasks?id=eq."+first.String(), ""), http.StatusConflict, "TD032", "In Progress")
	d.wantError(d.call("a", http.MethodDelete, "tasks?id=eq."+stitch.String(), ""), http.StatusForbidden, "42501", "tasks")
	if n := value[int](d, "select count(*)::integer from invariant_violations"); n != 0 {
		t.Errorf("%d violations: %s", n, value[string](d, "select json_agg(v)::text from invariant_violations v"))
	}
}
