package rest_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// send puts a request through the door as b, and checks that the answer does no harm.
func (d *door) send(t testing.TB, method, path, rawQuery, body, prefer string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
	r.URL = &url.URL{Path: "/rest/v1/" + path, RawQuery: rawQuery}
	r.Header.Set("Test-As", "b")
	r.Header.Set("Prefer", prefer)
	w := httptest.NewRecorder()
	d.web.ServeHTTP(w, r)
	d.harmless(t, method+" "+path+"?"+rawQuery+" "+body, w)
}

// FuzzFilter: no query string is a fault of the gateway, or shows or changes a row of somebody else's.
func FuzzFilter(f *testing.F) {
	d := setup(f)
	before := value[string](d, "select json_agg(s)::text from shots s where s.project_id = $1", d.a.project)
	for _, query := range []string{
		"id=eq.1", "status=in.(Queued,\"In Progress\")", "or=(status.eq.Queued,and(cost.gt.1,not.or(id.is.null,params->>a.like.x*)))", "params=cs.{\"a\":1}",
		"not.and=(created_at.gte.2026-01-01,tasks.cs.[])", "dependant_on=ov.{}", "name=like(any).{a,b}", "name=not.match.^a", "limit=1&offset=2&order=id.desc.nullslast",
		"or=(params.cs.{\"a\":{\"b\":[1]}},name.eq.\"a\\\"b,c\")", "name=isdistinct.x&select=count", "params->a->0->>b=neq.1",
	} {
		f.Add(uint8(0), query)
		f.Add(uint8(7), query)
	}
	tables := []string{"tasks", "generations", "shots", "projects", "credit_ledger", "workers", "task_types"}
	f.Fuzz(func(t *testing.T, where uint8, query string) {
		table := tables[int(where)%len(tables)]
		switch where / 64 {
		case 0:
			d.send(t, http.MethodGet, table, query, "", "count=exact")
		case 1:
			d.send(t, http.MethodHead, table, query, "", "")
		case 2:
			d.send(t, http.MethodPatch, "shots", query, `{"name":"fuzzed"}`, "return=representation")
		case 3:
			d.send(t, http.MethodDelete, "shots", query, "", "return=representation")
		}
		own := *d
		own.t = t
		if after := value[string](&own, "select json_agg(s)::text from shots s where s.project_id = $1", d.a.project); after != before {
			t.Errorf("shots of a changed: %s", after)
		}
	})
}

// FuzzSelect: as FuzzFilter, for the texts of select, order, columns and on_conflict.
func FuzzSelect(f *testing.F) {
	d := setup(f)
	for _, text := range []string{
		"*", "id, name", "label:name", "params->a->>b", "x:params->0", "count", "name.desc.nullsfirst,id", "\"name\"", "id::text", "a(b)", "cost.sum()", "...x(y)", "id,id,*",
	} {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, choose, order string) {
		query := url.Values{"select": {choose}, "order": {order}}.Encode()
		d.send(t, http.MethodGet, "generations", query, "", "")
		d.send(t, http.MethodPost, "rpc/list_generations", query, `{"project_id":"`+d.b.project.String()+`"}`, "")
		query = url.Values{"select": {choose}, "columns": {order}, "on_conflict": {order}}.Encode()
		d.send(t, http.MethodPost, "shots", query, `{"name":"x","project_id":"`+d.b.project.String()+`"}`, "tx=rollback,return=representation,resolution=merge-duplicates,missing=default")
	})
}

// FuzzRPCParams: as FuzzFilter, for the bodies and query strings of calls, and for rows of inserts.
func FuzzRPCParams(f *testing.F) {
	d := setup(f)
	names := value[[]string](d, "select array_agg(distinct f ->> 'name' order by f ->> 'name') from jsonb_array_elements(auth.describe_api() -> 'functions') f")
	for i, name := range names {
		f.Add(uint8(i), `{}`, name)
	}
	for _, body := range []string{
		`{"task_id":"` + d.a.task.String() + `"}`, `{"project_id":"` + d.b.project.String() + `","task_type":"single_image","params":{"prompt":"x"}}`, `{"user_id":null,"amount":1e400}`,
		`{"params":{"a":[[[]]]},"tool_id":1}`, `{"tasks":[{"project_id":"x"}]}`, `[]`, `{"task_id":"\u0000"}`, `{"worker_id":{},"max_tasks":-1}`, `{"dependant_on":"{a}"}`, `{"a":1,"a":2}`,
	} {
		f.Add(uint8(3), body, "task_id="+d.a.task.String())
	}
	f.Fuzz(func(t *testing.T, which uint8, body, query string) {
		name := names[int(which)%len(names)]
		d.send(t, http.MethodPost, "rpc/"+name, "", body, "")
		d.send(t, http.MethodGet, "rpc/"+name, query, "", "")
		d.send(t, http.MethodPost, "generations", "", body, "return=representation,missing=default,tx=rollback")
	})
}
