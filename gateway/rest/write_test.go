package rest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestInserts(t *testing.T) {
	t.Parallel()
	d := setup(t)
	p := d.a.project.String()
	one, two := uuid.NewString(), uuid.NewString()
	full := "return=representation"

	got := d.call("a", http.MethodPost, "shots", `{"id":"`+one+`","project_id":"`+p+`","name":"first"}`)
	if got.status != http.StatusCreated || got.body != "" {
		t.Errorf("minimal: %d %q", got.status, got.body)
	}
	got = d.call("a", http.MethodPost, "shots?select=id,name", `[{"id":"`+two+`","project_id":"`+p+`","name":"second"}]`, "Prefer", full+", count=exact")
	d.want(got, http.StatusCreated, `[{"id":"`+two+`","name":"second"}]`)
	if got.header.Get("Content-Range") != "0-0/1" || got.header.Get("Preference-Applied") != full+", count=exact" {
		t.Errorf("%v", got.header)
	}
	got = d.call("a", http.MethodPost, "shots?select=name,project_id", `{"project_id":"`+p+`"}`, "Prefer", full, "Accept", "application/vnd.pgrst.object+json")
	d.want(got, http.StatusCreated, `{"name":"","project_id":"`+p+`"}`)

	// Several rows, with the columns that supabase-js names; a key that is missing is NULL, or with missing=default the default.
	rows := `[{"project_id":"` + p + `","name":"x"},{"project_id":"` + p + `"}]`
	d.wantError(d.call("a", http.MethodPost, "shots", rows), http.StatusBadRequest, "PGRST102", "All object keys must match")
	d.wantError(d.call("a", http.MethodPost, `shots?columns="project_id","name"`, rows), http.StatusBadRequest, "23502", "name")
	d.want(d.call("a", http.MethodPost, `shots?columns="project_id","name"&select=name`, rows, "Prefer", full, "Prefer", "missing=default"),
		http.StatusCreated, `[{"name":"x"},{"name":""}]`)
	d.want(d.call("a", http.MethodPost, `shots?columns=project_id&select=name`, `{"project_id":"`+p+`","name":"not meant"}`, "Prefer", full),
		http.StatusCreated, `[{"name":""}]`)
	d.want(d.call("a", http.MethodPost, "shots", `[]`, "Prefer", full), http.StatusCreated, `[]`)
	d.wantError(d.call("a", http.MethodPost, "shots", `{"nothing":1}`), http.StatusBadRequest, "PGRST204", "'nothing' column of 'shots'")
	d.wantError(d.call("a", http.MethodPost, "shots?columns=nothing", `{}`), http.StatusBadRequest, "PGRST204", "'nothing'")

	// Where it is.
	got = d.call("a", http.MethodPost, "shots", `{"id":"`+uuid.NewString()+`","project_id":"`+p+`"}`, "Prefer", "return=headers-only")
	location := got.header.Get("Location")
	if got.status != http.StatusCreated || got.body != "" || !strings.HasPrefix(location, "/rest/v1/shots?id=eq.") {
		t.Errorf("%d %q %q", got.status, got.body, location)
	}
	if at := d.call("a", http.MethodGet, strings.TrimPrefix(location, "/rest/v1/")+"&select=count", ""); !sameJSON(at.body, `[{"count":1}]`) {
		t.Errorf("at %s: %s", location, at.body)
	}

	// A project of one's own, without any column; and a shot in somebody else's.
	d.want(d.call("a", http.MethodPost, "projects?select=owner_id", `{}`, "Prefer", full), http.StatusCreated, `[{"owner_id":"`+d.a.id.String()+`"}]`)
	d.wantError(d.call("b", http.MethodPost, "shots", `{"project_id":"`+p+`"}`), http.StatusForbidden, "42501", "row-level security")
	d.wantError(d.call("anon", http.MethodPost, "shots", `{"project_id":"`+p+`"}`), http.StatusUnauthorized, "42501", "permission denied")
	d.wantError(d.call("a", http.MethodPost, "shots", `{"project_id":"`+p+`","created_at":"2020-01-01"}`), http.StatusForbidden, "42501", "shots")

	for body, names := range map[string]string{
		`{"name":`: "invalid json", `1`: "JSON object", `[1]`: "JSON object", `[null]`: "JSON object", ``: "invalid json", `null`: "JSON object",
		`{"name":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`: "deeper", `[{},{}]`: "one by one",
	} {
		d.wantError(d.call("a", http.MethodPost, "shots", body), http.StatusBadRequest, "PGRST102", names)
	}
	d.wantError(d.call("a", http.MethodPost, "shots", `{"name":"`+strings.Repeat("x", 3<<20)+`"}`), http.StatusRequestEntityTooLarge, "GW007", "Body too large")
	d.wantError(d.call("a", http.MethodPost, "shots", `{"name":"\u0000"}`), http.StatusBadRequest, "22P05", "")
	d.wantError(d.call("a", http.MethodPost, "shots", `{"id":"`+one+`","project_id":"`+p+`"}`), http.StatusConflict, "23505", "duplicate key")
	for _, query := range []string{"limit=1", "offset=1"} {
		d.wantError(d.call("a", http.MethodPost, "shots?"+query, `{}`), http.StatusBadRequest, "PGRST127", strings.Split(query, "=")[0])
	}
	d.wantError(d.call("a", http.MethodPost, "shots?id=eq."+one, `{}`), http.StatusBadRequest, "PGRST127", "filters on inserts")
	d.wantError(d.call("a", http.MethodPost, "shots?select=count", `{"project_id":"`+p+`"}`), http.StatusBadRequest, "PGRST123", "count")
}

// A task that is inserted goes through the checks of every task, some of them at the commit.
func TestInsertsOfTasks(t *testing.T) {
	t.Parallel()
	d := setup(t)
	body := func(project uuid.UUID, params string) string {
		return `{"project_id":"` + project.String() + `","task_type":"single_image","params":` + params + `,"cost":0,"status":"Complete"}`
	}
	got := d.call("a", http.MethodPost, "tasks?select=id,status,cost", body(d.a.project, `{"prompt":"x"}`), "Prefer", "return=representation")
	var rows []struct {
		ID     uuid.UUID `json:"id"`
		Status string    `json:"status"`
		Cost   float64   `json:"cost"`
	}
	if err := json.Unmarshal([]byte(got.body), &rows); err != nil || got.status != http.StatusCreated || len(rows) != 1 || rows[0].Status != "Queued" || rows[0].Cost != 1 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if !value[bool](d, "select exists (select from darkroom.task_ready where task_id = $1)", rows[0].ID) {
		t.Error("it was not filed at the commit")
	}
	d.wantError(d.call("a", http.MethodPost, "tasks", body(d.a.project, `{}`)), http.StatusBadRequest, "TD001", "prompt")
	d.wantError(d.call("b", http.MethodPost, "tasks", body(d.a.project, `{"prompt":"x"}`)), http.StatusNotFound, "TD020", "Project not found")
	d.exec("insert into users (id) values ($1)", uuid.Nil)
	poor := value[uuid.UUID](d, "insert into projects (owner_id) values ($1) returning id", uuid.Nil)
	d.who["poor"] = user(uuid.Nil)
	d.wantError(d.call("poor", http.MethodPost, "tasks", body(poor, `{"prompt":"x"}`)), http.StatusPaymentRequired, "TD010", "Insufficient credits")
	d.wantError(d.call("a", http.MethodPatch, "tasks?id=eq."+rows[0].ID.String(), `{"status":"Complete"}`), http.StatusForbidden, "42501", "tasks")
	d.wantError(d.call("a", http.MethodPost, "rpc/grant_credits", `{"user_id":"`+d.a.id.String()+`","amount":5}`), http.StatusForbidden, "42501", "grant_credits")

	// What a deferred trigger refuses at the commit is an answer too, and leaves nothing.
	d.exec(`create function refuse_late() returns trigger language plpgsql as $$ begin raise exception 'Too late' using errcode = 'PT409'; end $$;
		create constraint trigger late after insert on shots deferrable initially deferred for each row execute function refuse_late()`)
	shot := `{"project_id":"` + d.a.project.String() + `","name":"late"}`
	for _, prefer := range []string{"return=representation", "return=minimal", "tx=rollback"} {
		d.wantError(d.call("a", http.MethodPost, "shots", shot, "Prefer", prefer), http.StatusConflict, "PT409", "Too late")
	}
	d.wantError(d.call("a", http.MethodPost, "shots", shot, "Prefer", "return=representation", "Accept", "application/vnd.pgrst.object+json"), http.StatusConflict, "PT409", "Too late")
	d.want(d.call("a", http.MethodGet, "shots?select=count&name=eq.late", ""), http.StatusOK, `[{"count":0}]`)
}

func TestUpserts(t *testing.T) {
	t.Parallel()
	d := setup(t)
	d.exec("create table things (id integer primary key, code text unique, name text, no_key integer default 7); grant all on things to service_role; insert into things values (1, 'a', 'old')")
	d.await(func() bool { return d.call("service", http.MethodGet, "things", "").status == http.StatusOK })
	full, merge, ignore := "return=representation", "resolution=merge-duplicates", "resolution=ignore-duplicates"
	d.want(d.call("service", http.MethodPost, "things?select=id,name,no_key", `[{"id":1,"name":"new"},{"id":2,"name":"two"}]`, "Prefer", merge+","+full),
		http.StatusCreated, `[{"id":1,"name":"new","no_key":7},{"id":2,"name":"two","no_key":7}]`)
	d.want(d.call("service", http.MethodPost, "things?on_conflict=code&select=id,code,name", `{"id":9,"code":"a","name":"by code"}`, "Prefer", merge, "Prefer", full),
		http.StatusCreated, `[{"id":9,"code":"a","name":"by code"}]`)
	d.want(d.call("service", http.MethodPost, "things?on_conflict=id&select=id", `[{"id":2,"name":"not"},{"id":3,"name":"three"}]`, "Prefer", ignore, "Prefer", full),
		http.StatusCreated, `[{"id":3}]`)
	d.want(d.call("service", http.MethodPost, "things?on_conflict=id&select=id,name", `{"id":3}`, "Prefer", merge, "Prefer", full), http.StatusCreated, `[{"id":3,"name":"three"}]`)
	d.wantError(d.call("service", http.MethodPost, "things?on_conflict=name", `{"id":3}`, "Prefer", merge), http.StatusBadRequest, "42P10", "ON CONFLICT")
	d.wantError(d.call("service", http.MethodPost, "things?on_conflict=nothing", `{"id":3}`, "Prefer", merge), http.StatusBadRequest, "PGRST204", "nothing")
	d.wantError(d.call("service", http.MethodPost, "things?on_conflict=id", `{"id":3}`), http.StatusBadRequest, "PGRST127", "on_conflict")
	d.wantError(d.call("a", http.MethodPost, "credit_ledger", `{"owner_id":"`+d.a.id.String()+`"}`, "Prefer", merge), http.StatusForbidden, "42501", "credit_ledger")

	// A user's upsert may change what the user may update, and moves nothing.
	shot := func(of owner, project uuid.UUID) string {
		return `{"id":"` + of.shot.String() + `","project_id":"` + project.String() + `","name":"y"}`
	}
	d.want(d.call("a", http.MethodPost, "shots?select=name", shot(d.a, d.a.project), "Prefer", merge, "Prefer", full), http.StatusCreated, `[{"name":"y"}]`)
	d.wantError(d.call("a", http.MethodPost, "shots", shot(d.b, d.a.project), "Prefer", merge), http.StatusForbidden, "42501", "row-level security")
	d.wantError(d.call("b", http.MethodPost, "shots", shot(d.a, d.b.project), "Prefer", merge), http.StatusForbidden, "42501", "row-level security")
	second := value[uuid.UUID](d, "insert into projects (owner_id) values ($1) returning id", d.a.id)
	d.wantError(d.call("a", http.MethodPost, "shots", shot(d.a, second), "Prefer", merge), http.StatusForbidden, "TD041", "Not allowed")
}

func TestUpdatesAndDeletes(t *testing.T) {
	t.Parallel()
	d := setup(t)
	shot, full := d.a.shot.String(), "return=representation"
	got := d.call("a", http.MethodPatch, "shots?id=eq."+shot, `{"name":"new"}`)
	if got.status != http.StatusNoContent || got.body != "" {
		t.Errorf("%d %q", got.status, got.body)
	}
	d.want(d.call("a", http.MethodPatch, "shots?id=eq."+shot+"&select=was:name", `{"name":null,"created_at":"2020-01-01"}`, "Prefer", full), http.StatusForbidden,
		d.call("a", http.MethodPatch, "shots?id=eq."+shot+"&select=was:name", `{"name":null,"created_at":"2020-01-01"}`, "Prefer", full).body)
	got = d.call("a", http.MethodPatch, "shots?id=eq."+shot+"&select=name,project_id&order=created_at", `{"name":"newer"}`, "Prefer", full+",count=exact")
	d.want(got, http.StatusOK, `[{"name":"newer","project_id":"`+d.a.project.String()+`"}]`)
	if got.header.Get("Content-Range") != "0-0/1" {
		t.Errorf("Content-Range %s", got.header.Get("Content-Range"))
	}
	d.want(d.call("a", http.MethodPatch, "shots?id=eq."+shot+"&columns=name&select=name", `{"name":"x","id":1}`, "Prefer", full), http.StatusOK, `[{"name":"x"}]`)
	d.want(d.call("a", http.MethodPatch, "shots?id=eq."+shot, `{}`, "Prefer", full), http.StatusOK, `[]`)
	d.want(d.call("a", http.MethodPatch, "generations?id=eq."+d.a.generation.String()+"&select=params", `{"params":{"a":[1]}}`, "Prefer", full, "Accept", "application/vnd.pgrst.object+json"),
		http.StatusOK, `{"params":{"a":[1]}}`)
	d.wantError(d.call("a", http.MethodPatch, "shots?id=eq."+shot, `{"nothing":1}`), http.StatusBadRequest, "PGRST204", "nothing")
	d.wantError(d.call("a", http.MethodPatch, "shots?id=eq."+shot, `[{"name":"x"}]`), http.StatusBadRequest, "PGRST102", "JSON object")
	d.wantError(d.call("a", http.MethodPatch, "shots", `{"name":"x"}`), http.StatusBadRequest, "21000", "UPDATE requires a WHERE clause")
	d.wantError(d.call("a", http.MethodDelete, "shots", ""), http.StatusBadRequest, "21000", "DELETE requires a WHERE clause")
	d.wantError(d.call("a", http.MethodDelete, "shots?id=eq."+shot+"&limit=1", ""), http.StatusBadRequest, "PGRST127", "limit")
	d.wantError(d.call("a", http.MethodPatch, "shots?id=eq."+shot+"&limit=1", `{"name":"x"}`), http.StatusBadRequest, "PGRST127", "limit")

	// What is undone.
	for range 3 {
		d.exec("insert into shots (project_id, name) values ($1, 'many')", d.a.project)
	}
	unchanged := func() {
		t.Helper()
		d.want(d.call("a", http.MethodGet, "shots?select=count&name=eq.many", ""), http.StatusOK, `[{"count":3}]`)
	}
	d.wantError(d.call("a", http.MethodPatch, "shots?name=eq.many", `{"name":"changed"}`, "Prefer", "handling=strict", "Prefer", "max-affected=2"), http.StatusBadRequest, "PGRST124", "3 rows")
	unchanged()
	d.wantError(d.call("a", http.MethodPatch, "shots?name=eq.many", `{"name":"changed"}`, "Prefer", full, "Accept", "application/vnd.pgrst.object+json"), http.StatusNotAcceptable, "PGRST116", "3 rows")
	unchanged()
	got = d.call("a", http.MethodDelete, "shots?name=eq.many&select=name", "", "Prefer", "tx=rollback,"+full)
	d.want(got, http.StatusOK, `[{"name":"many"},{"name":"many"},{"name":"many"}]`)
	unchanged()
	d.want(d.call("b", http.MethodDelete, "shots?name=eq.many", "", "Prefer", full), http.StatusOK, `[]`)
	d.want(d.call("b", http.MethodPatch, "shots?name=eq.many", `{"name":"stolen"}`, "Prefer", full), http.StatusOK, `[]`)
	unchanged()
	if got := d.call("a", http.MethodDelete, "shots?name=eq.many", "", "Prefer", "max-affected=3,count=exact"); got.status != http.StatusNoContent || got.header.Get("Content-Range") != "*/3" {
		t.Errorf("%d %v", got.status, got.header)
	}
	d.want(d.call("a", http.MethodGet, "shots?select=count&name=eq.many", ""), http.StatusOK, `[{"count":0}]`)
}
