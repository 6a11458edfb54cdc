package rest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestReadsAnswerRows(t *testing.T) {
	t.Parallel()
	d := setup(t)
	d.exec("delete from shots where project_id = $1", d.a.project)
	for i, name := range []string{"one", "two", "three, (3)", `fo"ur\`, "five*"} {
		d.exec("insert into shots (project_id, name, created_at) values ($1, $2, '2026-01-01T00:00:00Z'::timestamptz + $3 * interval '1 minute')", d.a.project, name, i)
	}
	d.exec(`update generations set params = '{"a": {"b": [1, "x"]}, "size": 7, "tags": ["red", "blue"]}' where id = $1`, d.a.generation)
	id := d.a.generation.String()
	for query, want := range map[string]string{
		"shots?select=name&order=created_at":                                                                          `[{"name":"one"},{"name":"two"},{"name":"three, (3)"},{"name":"fo\"ur\\"},{"name":"five*"}]`,
		"shots?select=name&order=created_at.desc&limit=2":                                                             `[{"name":"five*"},{"name":"fo\"ur\\"}]`,
		"shots?select=name&order=created_at.desc.nullslast&limit=1&offset=1":                                          `[{"name":"fo\"ur\\"}]`,
		"shots?select= label:name , name &order=name.asc.nullsfirst&limit=1":                                          `[{"label":"five*","name":"five*"}]`,
		"shots?select=name&name=eq.three, (3)":                                                                        `[{"name":"three, (3)"}]`,
		"shots?select=name&name=in.(one,\"three, (3)\")&order=created_at":                                             `[{"name":"one"},{"name":"three, (3)"}]`,
		`shots?select=name&name=in.("fo\"ur\\")`:                                                                      `[{"name":"fo\"ur\\"}]`,
		"shots?select=name&name=in.()":                                                                                `[]`,
		"shots?select=name&name=not.in.(one,two)&order=name&limit=1":                                                  `[{"name":"five*"}]`,
		"shots?select=name&name=neq.one&name=not.eq.two&order=name&limit=1":                                           `[{"name":"five*"}]`,
		"shots?select=name&name=like.t*o":                                                                             `[{"name":"two"}]`,
		"shots?select=name&name=ilike.T%25O":                                                                          `[]`,
		"shots?select=name&name=ilike.T%O":                                                                            `[{"name":"two"}]`,
		"shots?select=name&name=match.^t.o$":                                                                          `[{"name":"two"}]`,
		"shots?select=name&name=imatch.^T.O$":                                                                         `[{"name":"two"}]`,
		"shots?select=name&name=like(any).{on*,tw*}&order=created_at":                                                 `[{"name":"one"},{"name":"two"}]`,
		"shots?select=name&name=like(all).{t*,*o}":                                                                    `[{"name":"two"}]`,
		"shots?select=name&name=is.not_null&limit=1&order=created_at":                                                 `[{"name":"one"}]`,
		"shots?select=name&name=is.null":                                                                              `[]`,
		"shots?select=name&or=(name.eq.one,name.eq.two)&order=created_at":                                             `[{"name":"one"},{"name":"two"}]`,
		"shots?select=name&or=(name.in.(one,two),and(name.like.three*,not.or(name.eq.a,name.eq.b)))&order=created_at": `[{"name":"one"},{"name":"two"},{"name":"three, (3)"}]`,
		`shots?select=name&or=(name.eq."three, (3)",name.not.is.null)&order=created_at&limit=1&offset=2`:              `[{"name":"three, (3)"}]`,
		"shots?select=name&not.or=(name.eq.one,name.like.t*)&order=created_at":                                        `[{"name":"fo\"ur\\"},{"name":"five*"}]`,
		"shots?select=name&and=(created_at.gte.2026-01-01T00:01:00+00:00,created_at.lt.2026-01-01T00:02:00Z)":         `[{"name":"two"}]`,
		"shots?select=name&created_at=gt.2026-01-01T00:03:00Z&created_at=lte.2026-01-01T00:04:00Z":                    `[{"name":"five*"}]`,
		"shots?select=name&name=isdistinct.one&order=created_at&limit=1":                                              `[{"name":"two"}]`,
		"generations?select=params->size&params->>size=eq.7":                                                          `[{"size":7}]`,
		"generations?select=params->a->b->>1&order=params->size":                                                      `[{"b":"x"}]`,
		"generations?select=x:params->a->b->0,y:params->tags->>-1&params->a->b=eq.[1,\"x\"]":                          `[{"x":1,"y":"blue"}]`,
		`generations?select=id&params=cs.{"tags":["red"]}`:                                                            `[{"id":"` + id + `"}]`,
		`generations?select=id&or=(params.cs.{"tags":["red"],"size":7},id.is.null)`:                                   `[{"id":"` + id + `"}]`,
		`generations?select=id&params=cd.{"tags":["red"]}`:                                                            `[]`,
		"generations?select=id&tasks=cs.[]":                                                                           `[{"id":"` + id + `"}]`,
		"tasks?select=status,generation_created&generation_created=is.false":                                          `[{"status":"Queued","generation_created":false}]`,
		"tasks?select=dependant_on&dependant_on=ov.{" + id + "}":                                                      `[]`,
		"tools?select=*&order=tool_id.desc&limit=1":                                                                   `[{"tool_id":"travel-between-images","task_type":"travel_orchestrator"}]`,
	} {
		d.want(d.call("a", http.MethodGet, query, ""), http.StatusOK, want)
	}
	d.want(d.call("a", http.MethodGet, "tools?select=tool_id&limit=1&order=tool_id", "{}"), http.StatusOK, `[{"tool_id":"image-generation"}]`)
	d.want(d.call("a", http.MethodGet, "generations?select=type,source_task_id", "", "Accept", "application/vnd.pgrst.array+json;nulls=stripped"),
		http.StatusOK, `[{"type":"image"}]`)
	if got := d.call("a", http.MethodGet, "shots?limit=1", ""); !strings.Contains(got.body, `"created_at"`) {
		t.Errorf("all columns: %s", got.body)
	}
}

func TestSingleCountAndRange(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for range 4 {
		d.exec("insert into shots (project_id, name) values ($1, 'more')", d.a.project)
	}
	const object = "application/vnd.pgrst.object+json"
	d.want(d.call("a", http.MethodGet, "projects?select=name", "", "Accept", object), http.StatusOK, `{"name":"project"}`)
	none := d.call("a", http.MethodGet, "projects?name=eq.x", "", "Accept", object)
	d.wantError(none, http.StatusNotAcceptable, "PGRST116", "The result contains 0 rows")
	d.wantError(d.call("a", http.MethodGet, "shots", "", "Accept", object), http.StatusNotAcceptable, "PGRST116", "The result contains 5 rows")
	for _, c := range []struct {
		method, query, header, value, prefer string
		status                               int
		contentRange                         string
	}{
		{"GET", "shots", "", "", "", 200, "0-4/*"},
		{"GET", "shots?name=eq.x", "", "", "", 200, "*/*"},
		{"GET", "shots?name=eq.x", "", "", "count=exact", 200, "*/0"},
		{"GET", "shots?limit=2", "", "", "count=exact", 206, "0-1/5"},
		{"GET", "shots?limit=2&offset=3", "", "", "count=planned", 206, "3-4/5"},
		{"GET", "shots?offset=5", "", "", "count=exact", 416, "*/5"},
		{"GET", "shots", "Range", "1-2", "count=estimated", 206, "1-2/5"},
		{"GET", "shots", "Range", "items=3-", "", 200, "3-4/*"},
		{"HEAD", "shots?limit=3", "", "", "count=exact", 206, "0-2/5"},
		{"HEAD", "shots", "", "", "count=exact", 200, "0-4/5"},
		{"HEAD", "projects", "Accept", object, "", 200, "0-0/*"},
	} {
		got := d.call("a", c.method, c.query, "", "Prefer", c.prefer, c.header, c.value)
		if got.status != c.status || got.header.Get("Content-Range") != c.contentRange {
			t.Errorf("%s %s %s: %d %s, want %d %s", c.method, c.query, c.prefer, got.status, got.header.Get("Content-Range"), c.status, c.contentRange)
		}
		if c.method == http.MethodHead && got.body != "" {
			t.Errorf("HEAD has a body: %s", got.body)
		}
	}
	got := d.call("a", http.MethodGet, "shots?select=count&limit=1", "", "Prefer", "count=exact")
	d.want(got, http.StatusOK, `[{"count":5}]`)
	if got := got.header.Get("Content-Range"); got != "0-0/5" {
		t.Errorf("Content-Range %s", got)
	}
	d.wantError(d.call("a", http.MethodGet, "shots?limit=1", "", "Range", "0-1"), http.StatusBadRequest, "PGRST127", "Range")
	d.wantError(d.call("a", http.MethodGet, "shots", "", "Range", "bytes=0-1"), http.StatusRequestedRangeNotSatisfiable, "PGRST103", "bytes")
}

func TestAReadIsBounded(t *testing.T) {
	t.Parallel()
	d := setup(t)
	d.exec("insert into shots (project_id) select $1 from generate_series(1, 1200)", d.a.project)
	for _, query := range []string{"shots?select=name", "shots?select=name&limit=5000"} {
		got := d.call("a", http.MethodGet, query, "", "Prefer", "count=exact")
		if n := strings.Count(got.body, `"name"`); n != 1000 || got.header.Get("Content-Range") != "0-999/1201" {
			t.Errorf("%s: %d rows, %s", query, n, got.header.Get("Content-Range"))
		}
	}
	d.exec(`insert into generations (project_id, type, params) select $1, 'image', jsonb_build_object('x', repeat('x', 1000000)) from generate_series(1, 40)`, d.a.project)
	d.wantError(d.call("a", http.MethodGet, "generations", ""), http.StatusRequestEntityTooLarge, "PGRST128", "too large")
	if got := d.call("a", http.MethodGet, "generations?select=id", ""); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	d.wantError(d.call("a", http.MethodGet, "shots?name=eq."+strings.Repeat("x", 20000), ""), http.StatusBadRequest, "PGRST100", "longer than")
	d.wantError(d.call("a", http.MethodGet, "generations?params=cs."+strings.Repeat("[", 5000), ""), http.StatusBadRequest, "22P02", "json")
	d.wantError(d.call("a", http.MethodGet, "shots?or=("+strings.Repeat("or(", 9)+"id.is.null"+strings.Repeat(")", 10), ""), http.StatusBadRequest, "PGRST100", "deep")
	d.wantError(d.call("a", http.MethodGet, "shots?or=("+strings.Repeat("id.is.null,", 200)+"id.is.null)", ""), http.StatusBadRequest, "PGRST100", "up to 200")
}

// What this door does not speak it names.
func TestRefusalsName(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for _, c := range []struct {
		query  string
		status int
		code   string
		names  string
	}{
		{"nothing", 404, "PGRST205", "public.nothing"},
		{"task", 404, "PGRST205", "public.tasks"},
		{"goose_db_version", 404, "PGRST205", "goose_db_version"},
		{"access_tokens", 404, "PGRST205", "access_tokens"},
		{"tasks?select=nothing", 400, "42703", "column tasks.nothing does not exist"},
		{"tasks?select=id,error_details", 400, "42703", "column tasks.error_details does not exist"},
		{"tasks?nothing=eq.1", 400, "42703", "tasks.nothing"},
		{"tasks?order=nothing", 400, "42703", "tasks.nothing"},
		{"generations?select=*,generation_variants(*)", 400, "PGRST127", "generation_variants(*)"},
		{"tasks?select=project:projects(name)", 400, "PGRST127", "projects(name)"},
		{"tasks?select=...projects(name)", 400, "PGRST127", "projects(name)"},
		{"tasks?select=id::text", 400, "PGRST127", "id::text"},
		{"tasks?select=cost.sum()", 400, "PGRST123", "cost.sum()"},
		{"tasks?projects.name=eq.x", 400, "PGRST127", "projects.name"},
		{"tasks?order=projects(name)", 400, "PGRST127", "projects(name)"},
		{"tasks?error_message=fts.cat", 400, "PGRST127", "fts"},
		{"tasks?error_message=wfts(english).cat", 400, "PGRST127", "wfts(english)"},
		{"tasks?created_at=sl.(1,2)", 400, "PGRST127", "sl"},
		{"tasks?id=xx.1", 400, "PGRST100", "xx"},
		{"tasks?id=eq", 400, "PGRST100", "operator.value"},
		{"tasks?id=1", 400, "PGRST100", "operator.value"},
		{"tasks?id=is.maybe", 400, "PGRST100", "maybe"},
		{"tasks?id=in.1,2", 400, "PGRST100", "in takes a list"},
		{"tasks?status=cs(any).x", 400, "PGRST100", "cs(any)"},
		{"tasks?id=eq.not-a-uuid", 400, "22P02", "not-a-uuid"},
		{"tasks?limit=x", 400, "PGRST100", "limit"},
		{"tasks?limit=-1", 400, "PGRST100", "limit"},
		{"tasks?limit=1&limit=2", 400, "PGRST100", "limit"},
		{"tasks?columns=id", 400, "PGRST127", "columns"},
		{"tasks?on_conflict=id", 400, "PGRST127", "on_conflict"},
		{"tasks?or=id.eq.1", 400, "PGRST100", "expected ("},
		{"tasks?or=(id.is.null)x", 400, "PGRST100", "nothing more"},
		{"tasks?and=(id.is.null", 400, "PGRST100", "expected"},
		{"tasks?or=()", 400, "PGRST100", "column.operator.value"},
		{"tasks?or=(id.eq.\"x", 400, "PGRST100", "expected"},
		{"tasks?select=a b.c:id", 400, "PGRST100", "a b.c"},
		{"tasks?select=params->>a b'c", 400, "PGRST100", "needs an alias"},
		{"tasks?params->>a->b=eq.1", 400, "PGRST100", "JSON path"},
		{"tasks?apikey=x", 400, "42703", "apikey"},
		{"tasks/x", 404, "PGRST125", "path"},
		{"", 404, "PGRST126", "OpenAPI"},
	} {
		d.wantError(d.call("a", http.MethodGet, c.query, ""), c.status, c.code, c.names)
	}
	for _, c := range []struct {
		method, header, value string
		status                int
		code, names           string
	}{
		{"GET", "Accept", "text/csv", 406, "PGRST107", "text/csv"},
		{"GET", "Accept", "application/geo+json", 406, "PGRST107", "application/geo+json"},
		{"GET", "Accept", "application/vnd.pgrst.plan+text", 406, "PGRST107", "plan"},
		{"GET", "Accept-Profile", "darkroom", 406, "PGRST106", "darkroom"},
		{"POST", "Content-Profile", "auth", 406, "PGRST106", "auth"},
		{"GET", "Prefer", "timezone=UTC", 400, "PGRST122", "timezone=UTC"},
		{"GET", "Prefer", "count=some", 400, "PGRST122", "count=some"},
		{"GET", "Prefer", "max-affected=1", 400, "PGRST122", "max-affected"},
		{"POST", "Prefer", "max-affected=1", 400, "PGRST122", "max-affected"},
		{"PATCH", "Prefer", "resolution=merge-duplicates", 400, "PGRST122", "resolution"},
		{"POST", "Content-Type", "text/csv", 400, "PGRST102", "text/csv"},
	} {
		body := ""
		if c.method != http.MethodGet {
			body = "{}"
		}
		headers := []string{c.header, c.value}
		if c.header == "Content-Type" {
			r := d.callTyped("a", c.method, "shots", body, c.value)
			d.wantError(r, c.status, c.code, c.names)
			continue
		}
		d.wantError(d.call("a", c.method, "shots", body, headers...), c.status, c.code, c.names)
	}
	d.wantError(d.call("a", http.MethodPut, "shots?id=eq."+d.a.shot.String(), "{}"), http.StatusMethodNotAllowed, "PGRST117", "PUT")
	got := d.call("a", http.MethodGet, "shots?a;b=1", "")
	if got.status != http.StatusBadRequest {
		t.Errorf("a semicolon: %d", got.status)
	}
	if got := d.call("a", http.MethodGet, "shots", "", "Accept", "text/html;q=0.9, */*"); got.status != http.StatusOK {
		t.Errorf("a browser's Accept: %d %s", got.status, got.body)
	}
}

func TestRolesSeeTheirOwn(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for _, table := range []string{"tasks", "projects", "shots", "generations", "credit_ledger", "users"} {
		got := d.call("a", http.MethodGet, table, "")
		if got.status != http.StatusOK || !strings.Contains(got.body, d.a.id.String()) && !strings.Contains(got.body, d.a.project.String()) ||
			strings.Contains(got.body, d.b.id.String()) || strings.Contains(got.body, d.b.project.String()) {
			t.Errorf("%s: %d %s", table, got.status, got.body)
		}
		d.wantError(d.call("anon", http.MethodGet, table, ""), http.StatusUnauthorized, "42501", "permission denied for table "+table)
	}
	d.wantError(d.call("a", http.MethodGet, "invariant_violations", ""), http.StatusForbidden, "42501", "invariant_violations")
	d.want(d.call("service", http.MethodGet, "projects?select=count", ""), http.StatusOK, `[{"count":2}]`)
	d.want(d.call("anon", http.MethodGet, "tools?select=count", ""), http.StatusOK, `[{"count":2}]`)
}

func TestNewTablesAreFound(t *testing.T) {
	t.Parallel()
	d := setup(t)
	d.wantError(d.call("service", http.MethodGet, "fresh", ""), http.StatusNotFound, "PGRST205", "fresh")
	d.exec("create table fresh (id integer primary key, r text); grant select, insert on fresh to service_role; insert into fresh values (1, 'x')")
	d.await(func() bool { return d.call("service", http.MethodGet, "fresh", "").status == http.StatusOK })
	d.want(d.call("service", http.MethodGet, "fresh?select=r,_row:id", ""), http.StatusOK, `[{"r":"x","_row":1}]`)
	d.exec(`create function fresh_fn(a integer) returns integer language sql immutable return a + 1`)
	d.await(func() bool { return d.call("anon", http.MethodPost, "rpc/fresh_fn", `{"a":1}`).body == "2" })
	d.want(d.call("anon", http.MethodGet, "rpc/fresh_fn?a=41", ""), http.StatusOK, "42")
	d.wantError(d.call("anon", http.MethodGet, "rpc/fresh_fn?a=x", ""), http.StatusBadRequest, "22P02", "integer")
	d.exec(`create function fresh_fn(a text) returns text language sql immutable return a`)
	d.await(func() bool {
		d.call("anon", http.MethodPost, "rpc/unknown", `{}`) // makes it look anew
		return d.call("anon", http.MethodPost, "rpc/fresh_fn", `{"a":1}`).status == http.StatusMultipleChoices
	})
	got := d.call("anon", http.MethodPost, "rpc/fresh_fn", `{"a":1}`)
	d.wantError(got, http.StatusMultipleChoices, "PGRST203", fmt.Sprintf("public.fresh_fn(a =%s integer)", `\u003e`))
}
