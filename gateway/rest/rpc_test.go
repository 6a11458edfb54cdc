package rest_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestFunctions(t *testing.T) {
	t.Parallel()
	d := setup(t)
	task, project := d.a.task.String(), d.a.project.String()

	// A value, an object, a list, nothing.
	d.want(d.call("anon", http.MethodPost, "rpc/calculate_task_cost", `{"tool_id":"image-generation","input":{"prompt":"x"}}`), http.StatusOK, `1.000`)
	d.want(d.call("anon", http.MethodPost, "rpc/calculate_task_cost", `{"tool_id":"image-generation","input":{"prompt":"x"}}`, "Accept", "application/vnd.pgrst.object+json"), http.StatusOK, `1.000`)
	got := d.call("a", http.MethodPost, "rpc/get_task", `{"task_id":"`+task+`"}`, "Content-Profile", "public")
	if got.status != http.StatusOK || !strings.HasPrefix(got.body, `{"id":"`+task+`"`) || !strings.Contains(got.body, `"params":{"prompt": "a lighthouse"}`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	d.want(d.call("a", http.MethodPost, "rpc/get_task?select=id,prompt:params->>prompt", `{"task_id":"`+task+`"}`), http.StatusOK, `{"id":"`+task+`","prompt":"a lighthouse"}`)
	d.want(d.call("a", http.MethodPost, "rpc/get_task?select=status", `{"task_id":"`+task+`"}`, "Prefer", "undefinedreturn=representation"), http.StatusOK, `{"status":"Queued"}`)
	d.want(d.call("a", http.MethodPost, "rpc/get_task?select=id", `{"task_id":"`+task+`"}`, "Accept", "application/vnd.pgrst.object+json"), http.StatusOK, `{"id":"`+task+`"}`)
	list := `{"project_id":"` + project + `"}`
	id := d.a.generation.String()
	d.want(d.call("a", http.MethodPost, "rpc/list_generations?select=id", list), http.StatusOK, `[{"id":"`+id+`"}]`)
	d.want(d.call("a", http.MethodPost, "rpc/list_generations?select=id&type=eq.video", list), http.StatusOK, `[]`)
	d.want(d.call("a", http.MethodPost, "rpc/list_generations?select=id&limit=1", list, "Accept", "application/vnd.pgrst.object+json"), http.StatusOK, `{"id":"`+id+`"}`)
	d.wantError(d.call("a", http.MethodPost, "rpc/list_generations?type=eq.video", list, "Accept", "application/vnd.pgrst.object+json"), http.StatusNotAcceptable, "PGRST116", "0 rows")
	d.exec("create function nothing() returns void language sql as ''; create function words() returns setof text language sql stable as $$ values ('a'), ('b'), (null) $$;" +
		"create function pair(out a integer, out b text) language sql immutable as $$ select 1, 'x' $$; create function no_text() returns text language sql immutable return null;" +
		"create function rows_of(ids integer[], doc jsonb, raw text) returns table (n integer, doc2 jsonb, raw2 text) language sql immutable as $$ select i, doc, raw from unnest(ids) i $$;" +
		"create function about() returns json language sql stable as $$ select json_build_object('method', current_setting('request.method'), 'path', current_setting('request.path'), 'headers', current_setting('request.headers')::json, 'role', current_user) $$;" +
		"create function fails(code text) returns integer language plpgsql as $$ begin raise exception 'said' using errcode = code, detail = 'd', hint = 'h'; end $$;" +
		"create function writes() returns integer language plpgsql stable as $$ begin return nextval('counter'); end $$; create sequence counter; grant usage on sequence counter to anon")
	d.await(func() bool { return d.call("anon", http.MethodPost, "rpc/nothing", "").status == http.StatusNoContent })
	d.want(d.call("anon", http.MethodPost, "rpc/nothing", "{}"), http.StatusNoContent, "")
	d.want(d.call("anon", http.MethodGet, "rpc/words", ""), http.StatusOK, `["a","b",null]`)
	d.want(d.call("anon", http.MethodGet, "rpc/words?limit=1&offset=1", ""), http.StatusOK, `["b"]`)
	d.want(d.call("anon", http.MethodPost, "rpc/pair", ""), http.StatusOK, `{"a":1,"b":"x"}`)
	d.want(d.call("anon", http.MethodPost, "rpc/no_text", ""), http.StatusOK, `null`)
	d.want(d.call("anon", http.MethodPost, "rpc/rows_of", `{"ids":[1,2],"doc":{"a":[1]},"raw":{"b": 2}}`), http.StatusOK, `[{"n":1,"doc2":{"a":[1]},"raw2":"{\"b\": 2}"},{"n":2,"doc2":{"a":[1]},"raw2":"{\"b\": 2}"}]`)
	d.want(d.call("anon", http.MethodGet, `rpc/rows_of?ids={1,2,3}&doc={"a":1}&raw=x&n=gt.1&select=n,raw2&order=n.desc`, ""), http.StatusOK, `[{"n":3,"raw2":"x"},{"n":2,"raw2":"x"}]`)
	got = d.call("anon", http.MethodHead, `rpc/rows_of?ids={1,2,3}&doc=1&raw=x`, "", "Prefer", "count=exact")
	if got.status != http.StatusOK || got.body != "" || got.header.Get("Content-Range") != "0-2/3" {
		t.Errorf("HEAD: %d %q %s", got.status, got.body, got.header.Get("Content-Range"))
	}
	got = d.call("anon", http.MethodPost, `rpc/rows_of`, `{"ids":[1,2,3],"doc":1,"raw":"x"}`, "Prefer", "count=exact,return=minimal")
	if got.status != http.StatusNoContent || got.header.Get("Content-Range") != "0-2/3" {
		t.Errorf("minimal: %d %q %s", got.status, got.body, got.header.Get("Content-Range"))
	}
	got = d.call("anon", http.MethodPost, "rpc/about", "", "Authorization", "Bearer secret1", "Apikey", "secret2", "Cookie", "secret3", "X-Client-Info", "me")
	if !strings.Contains(got.body, `"path" : "/rest/v1/rpc/about"`) || !strings.Contains(got.body, `"x-client-info":"me"`) || !strings.Contains(got.body, `"role" : "anon"`) ||
		!strings.Contains(got.body, `"method" : "POST"`) || strings.Contains(got.body, "secret") {
		t.Errorf("%s", got.body)
	}

	// What does not fit.
	d.wantError(d.call("a", http.MethodPost, "rpc/get_taks", `{}`), http.StatusNotFound, "PGRST202", "public.get_task")
	d.wantError(d.call("a", http.MethodPost, "rpc/get_task", `{}`), http.StatusNotFound, "PGRST202", "Missing: task_id.")
	d.wantError(d.call("a", http.MethodPost, "rpc/get_task", `{"task_id":"`+task+`","more":1}`), http.StatusNotFound, "PGRST202", "Unknown: more.")
	d.wantError(d.call("a", http.MethodGet, "rpc/get_task?task_id="+task+"&more=1", ""), http.StatusBadRequest, "42703", "more")
	d.wantError(d.call("a", http.MethodGet, "rpc/get_task?task_id="+task+"&task_id=x", ""), http.StatusBadRequest, "PGRST100", "task_id")
	d.wantError(d.call("a", http.MethodGet, "rpc/calculate_task_cost?more=1", ""), http.StatusNotFound, "PGRST202", "more")
	d.wantError(d.call("a", http.MethodGet, "rpc/cancel_task?task_id="+task, ""), http.StatusMethodNotAllowed, "PGRST101", "cancel_task")
	d.wantError(d.call("a", http.MethodPut, "rpc/get_task", `{}`), http.StatusMethodNotAllowed, "PGRST101", "PUT")
	d.wantError(d.call("a", http.MethodPost, "rpc/get_task", `[1]`), http.StatusBadRequest, "PGRST102", "JSON object")
	d.wantError(d.call("a", http.MethodPost, "rpc/get_task", `{"task_id":"x"}`), http.StatusBadRequest, "22P02", "uuid")
	d.wantError(d.call("a", http.MethodPost, "rpc/get_task?select=count", `{"task_id":"`+task+`"}`), http.StatusBadRequest, "PGRST123", "count")
	d.wantError(d.call("a", http.MethodPost, "rpc/create_generation_on_task_complete", `{}`), http.StatusNotFound, "PGRST202", "create_generation")
	d.wantError(d.call("b", http.MethodPost, "rpc/get_task", `{"task_id":"`+task+`"}`), http.StatusNotFound, "TD021", "Task not found")
	d.wantError(d.call("anon", http.MethodPost, "rpc/get_task", `{"task_id":"`+task+`"}`), http.StatusUnauthorized, "42501", "get_task")
	d.wantError(d.call("worker", http.MethodPost, "rpc/get_task", `{"task_id":"`+task+`"}`), http.StatusForbidden, "42501", "get_task")
	d.wantError(d.call("anon", http.MethodPost, "rpc/writes", ``), http.StatusMethodNotAllowed, "25006", "read-only")
	for code, status := range map[string]int{
		"PT402": 402, "P0001": 400, "P0002": 500, "23503": 409, "22012": 400, "40001": 500, "53100": 503, "53400": 500, "54001": 413, "55P03": 500, "57014": 500,
		"28000": 403, "0L000": 403, "42501": 401, "42P01": 404, "42883": 404, "25006": 405, "TD010": 402, "TD031": 409, "PT999": 500, "22P02": 400,
	} {
		d.wantError(d.call("anon", http.MethodPost, "rpc/fails", `{"code":"`+code+`"}`), status, code, `"message":"said","details":"d","hint":"h"`)
	}
	got = d.call("anon", http.MethodPost, "rpc/fails", `{"code":"XX001"}`)
	d.wantError(got, http.StatusInternalServerError, "XX001", "Internal error")
	if strings.Contains(got.body, "said") {
		t.Errorf("a fault of the server is told: %s", got.body)
	}
	d.wantError(d.call("anon", http.MethodPost, "rpc/writes", ``, "Prefer", "missing=default"), http.StatusBadRequest, "PGRST122", "missing")
}

// What a console asks: why a task waits, who runs what, how many tasks there are, and one of them again.
func TestFunctionsForAConsole(t *testing.T) {
	t.Parallel()
	d := setup(t)
	task, project := d.a.task.String(), d.a.project.String()
	this := `{"task_id":"` + task + `"}`
	d.exec("delete from workers; insert into workers (id, last_heartbeat) values ('gpu-1', clock_timestamp())")
	d.want(d.call("a", http.MethodPost, "rpc/explain_task?select=task_id,status,runnable,reasons,queue_position", this), http.StatusOK,
		`{"task_id":"`+task+`","status":"Queued","runnable":true,"reasons":[],"queue_position":1}`)
	d.want(d.call("a", http.MethodGet, "rpc/list_workers?select=id,alive,task_types,running", ""), http.StatusOK, `[{"id":"gpu-1","alive":true,"task_types":["single_image"],"running":[]}]`)
	d.want(d.call("b", http.MethodPost, "rpc/list_workers?select=id", "{}"), http.StatusOK, `[{"id":"gpu-1"}]`)
	d.exec("delete from workers")
	d.want(d.call("a", http.MethodGet, "rpc/explain_task?task_id="+task+"&select=code:reasons->0->>code,detail:reasons->0->detail", ""), http.StatusOK,
		`{"code":"no_worker","detail":{"route": "any", "task_type": "single_image"}}`)
	d.want(d.call("a", http.MethodPost, "rpc/list_workers", "{}"), http.StatusOK, `[]`)
	d.wantError(d.call("a", http.MethodPost, "rpc/retry_task", this), http.StatusConflict, "TD033", "Nothing to retry")
	d.want(d.call("a", http.MethodPost, "rpc/cancel_task?select=status", this), http.StatusOK, `{"status":"Cancelled"}`)
	d.want(d.call("a", http.MethodPost, "rpc/retry_task?select=status", `{"task_id":"`+task+`","idempotency_key":"again"}`), http.StatusOK, `{"status":"Queued"}`)
	d.want(d.call("a", http.MethodPost, "rpc/retry_task?select=status", `{"task_id":"`+task+`","idempotency_key":"again"}`), http.StatusOK, `{"status":"Queued"}`)
	for status, want := range map[string]string{"Queued": "*/1", "Cancelled": "*/1", "Failed": "*/0"} {
		got := d.call("a", http.MethodHead, "tasks?project_id=eq."+project+"&status=eq."+status+"&limit=0", "", "Prefer", "count=exact")
		if got.header.Get("Content-Range") != want {
			t.Errorf("%s: %d %s, want %s", status, got.status, got.header.Get("Content-Range"), want)
		}
	}
	for _, function := range []string{"explain_task", "retry_task"} {
		d.wantError(d.call("b", http.MethodPost, "rpc/"+function, this), http.StatusNotFound, "TD021", "Task not found")
		d.wantError(d.call("worker", http.MethodPost, "rpc/"+function, this), http.StatusForbidden, "42501", function)
	}
	d.wantError(d.call("anon", http.MethodPost, "rpc/list_workers", "{}"), http.StatusUnauthorized, "42501", "list_workers")
}

// A function that writes does so once, and an app sees its refusals as SQL gives them.
func TestFunctionsThatWrite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	body := `{"project_id":"` + d.a.project.String() + `","tool_id":"image-generation","input":{"prompt":"x"}}`
	got := d.call("a", http.MethodPost, "rpc/create_task?select=status,cost", body)
	d.want(got, http.StatusOK, `{"status":"Queued","cost":1.000}`)
	if n := value[int](d, "select count(*)::integer from tasks where owner_id = $1", d.a.id); n != 2 {
		t.Errorf("%d tasks, want 2", n)
	}
	d.want(d.call("a", http.MethodPost, "rpc/create_task?select=status", body, "Prefer", "tx=rollback"), http.StatusOK, `{"status":"Queued"}`)
	if n := value[int](d, "select count(*)::integer from tasks where owner_id = $1", d.a.id); n != 2 {
		t.Errorf("%d tasks, want 2: the third was rolled back", n)
	}
	dear := `{"project_id":"` + d.a.project.String() + `","task_type":"travel_orchestrator","params":{"orchestrator_details":{"num_new_segments_to_generate":100}}}`
	d.wantError(d.call("a", http.MethodPost, "rpc/create_task", dear), http.StatusPaymentRequired, "TD010", "Insufficient credits")
	d.wantError(d.call("b", http.MethodPost, "rpc/cancel_task", `{"task_id":"`+d.a.task.String()+`"}`), http.StatusNotFound, "TD021", "")
	d.want(d.call("a", http.MethodPost, "rpc/cancel_task?select=status", `{"task_id":"`+d.a.task.String()+`"}`), http.StatusOK, `{"status":"Cancelled"}`)

	// A worker that gets many rows gets all of them.
	d.want(d.call("worker", http.MethodPost, "rpc/register_worker?select=name", `{"worker_id":"gpu"}`), http.StatusOK, `{"name":"gpu"}`)
	d.want(d.call("worker", http.MethodPost, "rpc/claim_next_tasks?select=status", `{"worker_id":"gpu","max_tasks":5}`, "Prefer", "return=representation"), http.StatusOK, `[{"status":"In Progress"}]`)
	d.want(d.call("worker", http.MethodPost, "rpc/claim_next_tasks?select=status", `{"worker_id":"gpu","max_tasks":5}`), http.StatusOK, `[]`)
}
