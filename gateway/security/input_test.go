package security_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"darkroom/sql/taskdb"
)

// TestS22Params: "JSON params: caps on depth, size and number of keys; unknown task types and extra fields are refused; an invalid `shot_id` never breaks
// completion (a rule of the spec)." Extra fields: params are the engine's and stay open; of a task's own fields, an argument that a function does not have and
// a column that a caller may not set are refused (S8, S21). The bodies of /functions/v1 alone pass over what they do not know, because workers send it.
func TestS22Params(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ctx := t.Context()
	create := func(taskType, params string) error {
		_, err := l.db.CreateTask(ctx, taskdb.NewTask{ProjectID: l.a.project, TaskType: taskType, Params: json.RawMessage(params)})
		return err
	}
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	many := func(n int) string {
		keys := make([]string, n)
		for i := range keys {
			keys[i] = fmt.Sprintf(`"k%d":1`, i)
		}
		return `{"prompt":"x",` + strings.Join(keys, ",") + "}"
	}
	for name, c := range map[string]struct{ taskType, params, want string }{
		"ordinary":       {"single_image", `{"prompt":"x"}`, ""},
		"deep enough":    {"single_image", `{"prompt":"x","a":` + deep(30) + `}`, ""},
		"too deep":       {"single_image", `{"prompt":"x","a":` + deep(33) + `}`, "TD004"},
		"much too deep":  {"single_image", `{"prompt":"x","a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, "TD004"},
		"large":          {"single_image", `{"prompt":"` + strings.Repeat("x", 1<<19) + `"}`, ""},
		"too large":      {"single_image", `{"prompt":"` + strings.Repeat("x", 1<<20) + `"}`, "TD004"},
		"many keys":      {"single_image", many(9000), ""},
		"too many keys":  {"single_image", many(10001), "TD004"},
		"too many items": {"single_image", `{"prompt":"x","a":[` + strings.Repeat("0,", 10000) + `0]}`, "TD004"},
		"unknown type":   {"nothing", `{"prompt":"x"}`, "TD002"},
		"no object":      {"single_image", `["prompt"]`, "TD001"},
		"no prompt":      {"single_image", `{"prompt":null}`, "TD001"},
		"a zero byte":    {"single_image", `{"prompt":"\u0000"}`, "22P05"},
	} {
		if got := code(create(c.taskType, c.params)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	for _, shot := range []string{`"no uuid"`, `12`, `{}`, `[]`, `null`, `true`, `""`, `"00000000-0000-0000-0000-000000000000"`, `"' or 1=1 --"`, `"` + l.b.shot.String() + `"`} {
		l.drain()
		l.must(create("single_image", `{"prompt":"x","shot_id":`+shot+`}`))
		done, err := l.db.CompleteTask(ctx, taskdb.HoldOf(l.claimOf(l.a)), taskdb.Output{Location: "https://x.test/1"})
		if err != nil || !done.GenerationCreated {
			t.Errorf("shot_id %s: generation %v, %v", shot, done.GenerationCreated, err)
		}
	}
	l.healthy()
}

// TestS23ParamsAreData: "The worker treats params as data: no shell, no template. The ffmpeg stitch input list is escaped and protocols are whitelisted." The
// escaping is tested in workerd/media, the values of workflows in workerd/engine/template; here nobody may bring a shell in, or a program of ffmpeg
// without its whitelist.
func TestS23ParamsAreData(t *testing.T) {
	t.Parallel()
	none(t, slices.DeleteFunc(grepSource(t, `exec\.Command(Context)?\([^)]*"(/bin/)?(sh|bash|zsh|cmd|powershell)"|"text/template"|"html/template"|\bplugin\.Open`),
		func(finding string) bool { return strings.HasPrefix(finding, root+"/gateway/dev/") })) // the page of make run, escaped by html/template
	for _, finding := range grepSource(t, `"-i",`) {
		if !strings.Contains(finding, `"-protocol_whitelist", `) || !regexp.MustCompile(`"-i", ("pipe:0"|"file:" ?\+)`).MatchString(finding) {
			t.Errorf("an input of ffmpeg that may name another protocol: %s", finding)
		}
	}
	if n := len(grepSource(t, `"-protocol_whitelist"`)); n < 4 {
		t.Errorf("only %d inputs of ffmpeg were found", n)
	}
}

// ofTheService are the functions that the service alone may call and that write, and why each is in the audit log or need not be.
var ofTheService = map[string]string{
	"create_user": "audited", "grant_credits": "audited", "erase_user": "audited", "set_queue_limit": "audited",
	"admit_tasks": "mends the queue", "repair_generations": "makes what is due",
}

// TestS32NoAdminEndpoints: "Admin endpoints are off the public listener; every admin act is in the audit log with its actor." The gateway has no endpoint for
// administrators, no profiler and no metrics on its listener. What only the service may do are functions that the service key opens, and the catalog tells
// all of them: each that writes stands in the audit log (TestS33 calls them) or changes nothing that is anybody's.
func TestS32NoAdminEndpoints(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, route := range s.gateway.Routes() {
		if regexp.MustCompile(`(?i)admin|debug|pprof|metrics|expvar|internal`).MatchString(route.Path) {
			t.Errorf("%s %s", route.Method, route.Path)
		}
	}
	none(t, grepSource(t, `"net/http/pprof"|"expvar"`))
	names := s.texts(`
		select p.proname::text from pg_proc p where p.pronamespace = 'public'::regnamespace and p.provolatile = 'v' and p.prorettype <> 'trigger'::regtype
		  and has_function_privilege('service_role', p.oid, 'execute') and not has_function_privilege('authenticated', p.oid, 'execute')
		  and not has_function_privilege('worker', p.oid, 'execute')`)
	for _, name := range names {
		if ofTheService[name] == "" {
			t.Errorf("%s is the service's, and nothing says whether it is in the audit log", name)
		}
	}
	for name, why := range ofTheService {
		if !slices.Contains(names, name) {
			t.Errorf("%s is not the service's alone", name)
		}
		if why == "audited" {
			before := value[int](s.lab, "select count(*) from darkroom.audit_log")
			got := s.send("POST", "/rest/v1/rpc/"+name, serviceKey, bodyOf(s.fill, name))
			if got.status != 200 {
				t.Errorf("%s: %d %s", name, got.status, got.body)
			}
			if after := value[int](s.lab, "select count(*) from darkroom.audit_log where id > $1 and role = 'service_role'", before); after == 0 {
				t.Errorf("%s left no entry in the audit log", name)
			}
		}
	}
}

// bodyOf are the arguments for a call of the service's.
func bodyOf(fill func(string) string, name string) string {
	return strings.ReplaceAll(fill(map[string]string{
		"create_user": `{"email":"new@example.com"}`, "grant_credits": `{"user_id":{b},"amount":5}`,
		"set_queue_limit": `{"max_queued":7,"user_id":{b}}`, "erase_user": `{"user_id":{a}}`,
	}[name]), "'", `"`)
}
