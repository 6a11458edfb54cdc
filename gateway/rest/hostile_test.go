package rest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// hostile are texts that end a string, a name or a statement, or begin another.
var hostile = []string{
	`'`, `"`, `\`, `;`, `--`, `/*`, `'--`, `' or '1'='1`, `" or "1"="1`, `') or ('1'='1`, `") or ("1"="1`, `1; drop table tasks; --`, `1) union select * from users --`,
	`' union select id::text from users --`, `x' and 1=(select count(*) from users) --`, `' || pg_sleep(5) || '`, `1 or pg_sleep(5) is null`, `$$; select 1; $$`, `$1`, `$99`,
	`id"::text as x, (select json_agg(u) from users u) as "y`, `id" from users --`, `*,(select 1)`, `(select id from users)`, `id) , (select 1`, `t.id`, `public.users.id`,
	`id=1 or 1=1`, `id.eq.1)or(1=1`, `not.not.eq.1`, `eq.1;--`, `tasks"."id`, `pg_catalog.pg_user`, `information_schema.tables`, `%27`, `%00`, "\x00", "\xff", "a\nb", `E'\x27'`, `U&"x"`,
	`{"a":"'; drop table tasks; --"}`, `{'}`, `{"}`, `{{{`, `}`, `[`, `]`, `,`, `(`, `)`, `()`, `((`, `->`, `->>`, `a->>'b'`, `params->'x') or (1=1`, `params->>x' or '1'='1`, `::text`, `a::text;--`,
	`current_user`, `version()`, `query_to_xml('select * from users',true,true,'')`, `count(*)`, `..`, `.`, ` `, ``, `null`, `NaN`, `99999999999999999999`, `-1`, `0x1`, `1e999`, `🎈`, "\u202e",
}

// TestS21InjectionIsRefused puts hostile texts into every place of a request: nothing gives more rows than the caller has, and nothing is a fault of ours.
func TestS21InjectionIsRefused(t *testing.T) {
	t.Parallel()
	d := setup(t)
	before := d.fingerprint()
	e := url.QueryEscape
	for _, text := range hostile {
		body, err := json.Marshal(map[string]string{text: text, "name": text})
		if err != nil {
			t.Fatal(err)
		}
		value, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		id := d.a.shot.String()
		for _, c := range []struct{ method, path, body, prefer string }{
			{"GET", "tasks?select=" + e(text), "", ""},
			{"GET", "tasks?select=x:" + e(text), "", ""},
			{"GET", "tasks?select=" + e(text+":id"), "", ""},
			{"GET", "generations?select=" + e("params->"+text), "", ""},
			{"GET", "generations?select=" + e("x:params->>"+text), "", ""},
			{"GET", "tasks?order=" + e(text), "", ""},
			{"GET", "tasks?order=" + e("id."+text), "", ""},
			{"GET", "tasks?limit=" + e(text), "", ""},
			{"GET", "tasks?offset=" + e(text), "", ""},
			{"GET", "tasks?" + e(text) + "=eq.1", "", ""},
			{"GET", "tasks?" + e(text) + "=" + e(text), "", ""},
			{"GET", "tasks?id=" + e(text), "", ""},
			{"GET", "tasks?id=eq." + e(text), "", ""},
			{"GET", "tasks?status=eq." + e(text), "", ""},
			{"GET", "tasks?status=in.(" + e(text) + ")", "", ""},
			{"GET", "tasks?status=like." + e(text), "", ""},
			{"GET", "tasks?status=match." + e(text), "", ""},
			{"GET", "tasks?status=is." + e(text), "", ""},
			{"GET", "tasks?params=cs." + e(text), "", ""},
			{"GET", "tasks?dependant_on=cs." + e(text), "", ""},
			{"GET", "tasks?status=" + e(text) + ".1", "", ""},
			{"GET", "tasks?or=" + e(text), "", ""},
			{"GET", "tasks?or=(" + e(text) + ")", "", ""},
			{"GET", "tasks?or=(status.eq." + e(text) + ",id.is.null)", "", ""},
			{"GET", "tasks?" + e("params->>"+text) + "=eq.1", "", ""},
			{"GET", url.PathEscape(text), "", ""},
			{"POST", "rpc/" + url.PathEscape(text), "{}", ""},
			{"POST", "rpc/get_task", string(body), ""},
			{"POST", "rpc/get_task", `{"task_id":` + string(value) + `}`, ""},
			{"GET", "rpc/get_task?task_id=" + e(text), "", ""},
			{"GET", "rpc/get_task?" + e(text) + "=1", "", ""},
			{"GET", "rpc/calculate_task_cost?tool_id=" + e(text) + "&input=" + e(text), "", ""},
			{"POST", "shots", string(body), ""},
			{"POST", "shots?columns=" + e(text), `{"name":"x"}`, ""},
			{"POST", "shots?on_conflict=" + e(text), `{"name":"x"}`, "resolution=merge-duplicates"},
			{"PATCH", "shots?name=eq." + e(text), `{"name":"injected"}`, "return=representation"},
			{"PATCH", "shots?name=in.(" + e(text) + ")", `{"name":"injected"}`, "return=representation"},
			{"PATCH", "shots?id=eq." + id, `{"name":"shot",` + string(value) + `:1}`, ""},
			{"DELETE", "shots?name=eq." + e(text), "", "return=representation"},
			{"DELETE", "shots?or=(name.eq." + e(text) + ",id.is.null)", "", "return=representation"},
		} {
			r := httptest.NewRequestWithContext(t.Context(), c.method, "/", strings.NewReader(c.body))
			target, err := url.Parse("/rest/v1/" + c.path)
			if err != nil {
				continue // no client can send it
			}
			r.URL = target
			r.Header.Set("Test-As", "b")
			r.Header.Set("Prefer", c.prefer)
			w := httptest.NewRecorder()
			d.web.ServeHTTP(w, r)
			d.harmless(t, c.method+" "+c.path, w)
		}
	}
	if after := d.fingerprint(); after != before {
		t.Errorf("rows changed:\n%s\n%s", before, after)
	}
}

// harmless checks that an answer to b is no fault of the gateway, has nothing of a in it, and is no error of SQL that we wrote wrong.
func (d *door) harmless(t testing.TB, what string, w *httptest.ResponseRecorder) {
	t.Helper()
	body := w.Body.String()
	if w.Code >= http.StatusInternalServerError {
		t.Errorf("%s: %d %s", what, w.Code, body)
	}
	for _, secret := range []string{d.a.id.String(), d.a.project.String(), d.a.shot.String(), d.a.task.String(), d.a.generation.String()} {
		if strings.Contains(body, secret) && !strings.Contains(what, secret) {
			t.Errorf("%s: shows what is somebody else's: %s", what, body)
		}
	}
	var said struct {
		Code string `json:"code"`
	}
	if json.Unmarshal(w.Body.Bytes(), &said) == nil {
		switch said.Code {
		case "42601", "42P02", "42P18", "42702", "26000": // syntax, parameters
			t.Errorf("%s: the statement was wrong: %s", what, body)
		}
	}
}

// fingerprint is of all rows that a request of b's must not change.
func (d *door) fingerprint() string {
	d.t.Helper()
	return value[string](d, `select concat(
		(select json_agg(t order by t.id) from tasks t), (select json_agg(s order by s.id) from shots s), (select json_agg(p order by p.id) from projects p),
		(select json_agg(g order by g.id) from generations g), (select json_agg(u order by u.id) from users u), (select json_agg(l order by l.owner_id, l.seq) from credit_ledger l))`)
}
