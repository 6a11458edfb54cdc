package server_test

import (
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"darkroom/gateway/problem"
	"darkroom/sql/taskdb"
)

// wantError wants the status and the code, in the shape that all errors have.
func (b *testBundle) wantError(got answer, status int, code string) {
	b.t.Helper()
	object := got.json(b.t)
	if got.status != status || object["code"] != code {
		b.t.Errorf("%d %s, want %d %s", got.status, got.body, status, code)
	}
	keys := 4
	if _, storage := object["statusCode"]; storage {
		keys += 2 // and error, as storage-js reads them
	}
	for _, key := range []string{"code", "message", "details", "hint"} {
		if _, found := object[key]; !found || len(object) != keys {
			b.t.Errorf("%s has not the four keys", got.body)
		}
	}
	if message, _ := object["message"].(string); message == "" {
		b.t.Errorf("%s says nothing", got.body)
	}
}

func TestEveryErrorHasAStatusAndStandsInTheReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	must(t, err)
	codes := problem.Codes()
	for _, refusal := range taskdb.Errors() {
		codes = append(codes, refusal.Code)
	}
	for _, code := range codes {
		status := problem.Status(code)
		if status == http.StatusInternalServerError && code != "TD050" && code != "GW010" {
			t.Errorf("%s is not in the table of errors.go", code)
		}
		if row := "| " + code + " | " + strconv.Itoa(status) + " |"; !strings.Contains(string(readme), row) {
			t.Errorf("gateway/README.md lacks %q", row)
		}
	}
}

func TestBadInputIsRefusedWithACode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	project, task, unknown := b.project.String(), b.image(), uuid.NewString()
	create := func(rest string) string { return `{"project_id":"` + project + `",` + rest + `}` }
	deep := func(levels int) string { return strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels) }

	for name, c := range map[string]struct {
		function, body string
		status         int
		code           string
	}{
		"no JSON":                   {"create_task", `{"project_id":`, 400, "GW001"},
		"a list":                    {"create_task", `[]`, 400, "GW001"},
		"two values":                {"create_task", `{}{}`, 400, "GW001"},
		"NaN":                       {"create_task", create(`"tool_id":"image-generation","input":{"prompt":NaN}`), 400, "GW001"},
		"a number for a text":       {"create_task", create(`"tool_id":7`), 400, "GW001"},
		"null":                      {"create_task", `null`, 400, "TD001"},
		"no project":                {"create_task", `{"tool_id":"image-generation","input":{}}`, 400, "TD001"},
		"no tool":                   {"create_task", create(`"input":{}`), 400, "TD001"},
		"no input":                  {"create_task", create(`"tool_id":"image-generation"`), 400, "TD001"},
		"no prompt":                 {"create_task", create(`"tool_id":"image-generation","input":{"prompt":null}`), 400, "TD001"},
		"input is a list":           {"create_task", create(`"tool_id":"image-generation","input":[]`), 400, "TD001"},
		"an endless key":            {"create_task", create(`"tool_id":"image-generation","input":{"prompt":"a"},"idempotency_key":"` + strings.Repeat("k", 300) + `"`), 400, "TD001"},
		"an unknown tool":           {"create_task", create(`"tool_id":"time-machine","input":{}`), 400, "TD002"},
		"an unknown type":           {"create_task", create(`"task_type":"time_travel","params":{}`), 400, "TD002"},
		"a negative number":         {"create_task", create(`"task_type":"travel_orchestrator","params":{"orchestrator_details":{"num_new_segments_to_generate":-1}}`), 400, "TD003"},
		"a fraction":                {"create_task", create(`"task_type":"travel_orchestrator","params":{"orchestrator_details":{"num_new_segments_to_generate":1.5}}`), 400, "TD003"},
		"a huge number":             {"create_task", create(`"task_type":"travel_orchestrator","params":{"orchestrator_details":{"num_new_segments_to_generate":1e30}}`), 400, "TD003"},
		"a number beyond numeric":   {"create_task", create(`"tool_id":"image-generation","input":{"prompt":"a","n":1e200000}`), 400, "22003"},
		"the text NaN":              {"calculate_task_cost", `{"task_type":"travel_orchestrator","params":{"orchestrator_details":{"num_new_segments_to_generate":"NaN"}}}`, 400, "TD003"},
		"a NUL in params":           {"create_task", create(`"tool_id":"image-generation","input":{"prompt":"\u0000"}`), 400, "22P05"},
		"a NUL in a text":           {"create_task", create(`"tool_id":"\u0000","input":{}`), 400, "22021"},
		"half a surrogate":          {"create_task", create(`"tool_id":"image-generation","input":{"prompt":"\ud800"}`), 400, "22P02"},
		"no UTF-8":                  {"create_task", create("\"tool_id\":\"image-generation\",\"input\":{\"prompt\":\"\xff\"}"), 400, "22021"},
		"params too deep":           {"create_task", create(`"tool_id":"image-generation","input":` + deep(40)), 413, "TD004"},
		"params far too deep":       {"create_task", create(`"tool_id":"image-generation","input":` + deep(9000)), 413, "TD004"},
		"a body too deep":           {"create_task", create(`"tool_id":"image-generation","input":` + deep(20000)), 413, "TD004"},
		"params too large":          {"create_task", create(`"tool_id":"image-generation","input":{"prompt":"` + strings.Repeat("a", 1<<20) + `"}`), 413, "TD004"},
		"a body too large":          {"create_task", create(`"tool_id":"image-generation","input":{"prompt":"` + strings.Repeat("a", 2<<20) + `"}`), 413, "GW007"},
		"a malformed project":       {"create_task", `{"project_id":"42","tool_id":"image-generation","input":{"prompt":"a"}}`, 400, "GW002"},
		"another spelling of ids":   {"create_task", `{"project_id":"{` + project + `}","tool_id":"image-generation","input":{"prompt":"a"}}`, 400, "GW002"},
		"an unknown project":        {"create_task", `{"project_id":"` + unknown + `","tool_id":"image-generation","input":{"prompt":"a"}}`, 404, "TD020"},
		"a malformed task id":       {"create_task", create(`"task_id":"unknown_task_17","task_type":"single_image","params":{"prompt":"a"}`), 400, "GW002"},
		"a malformed dependency":    {"create_task", create(`"task_type":"single_image","params":{"prompt":"a"},"dependant_on":"x"`), 400, "GW002"},
		"an empty dependency":       {"create_task", create(`"task_type":"single_image","params":{"prompt":"a"},"dependant_on":[""]`), 400, "TD001"},
		"a number as dependency":    {"create_task", create(`"task_type":"single_image","params":{"prompt":"a"},"dependant_on":[7]`), 400, "GW001"},
		"an unknown dependency":     {"create_task", create(`"task_type":"single_image","params":{"prompt":"a"},"dependant_on":["` + unknown + `"]`), 400, "TD023"},
		"the same id, another body": {"create_task", create(`"task_id":"` + task + `","tool_id":"image-generation","input":{"prompt":"b"}`), 409, "TD030"},
		"too little credit":         {"create_task", create(`"task_type":"travel_orchestrator","params":{"orchestrator_details":{"num_new_segments_to_generate":100}}`), 402, "TD010"},

		"a claim by nobody":          {"claim_next_task", `{}`, 400, "TD001"},
		"a claim by an endless name": {"claim_next_task", `{"worker_id":"` + strings.Repeat("w", 300) + `"}`, 400, "TD003"},
		"a claim with NUL":           {"claim_next_task", `{"worker_id":"\u0000"}`, 400, "22021"},

		"completing nothing":               {"complete_task", `{}`, 400, "TD001"},
		"completing a malformed id":        {"complete_task", `{"task_id":"unknown_task_17","output_location":"x"}`, 400, "GW002"},
		"completing an unknown task":       {"complete_task", `{"task_id":"` + unknown + `","output_location":"x"}`, 404, "TD021"},
		"completing a queued task":         {"complete_task", `{"task_id":"` + task + `","output_location":"x"}`, 409, "TD031"},
		"completing without output":        {"complete_task", `{"task_id":"` + task + `"}`, 400, "TD006"},
		"completing with a blank output":   {"complete_task", `{"task_id":"` + task + `","output_location":"  "}`, 400, "TD006"},
		"an output that is no text":        {"complete_task", `{"task_id":"` + task + `","output_location":{"url":"x"}}`, 400, "GW001"},
		"metadata that is no object":       {"complete_task", `{"task_id":"` + task + `","output_location":"x","metadata":[1]}`, 400, "TD003"},
		"a file in the body":               {"complete_task", `{"task_id":"` + task + `","file_data":"AAAA","filename":"a.mp4"}`, 409, "TD031"},
		"a file that is not in base64":     {"complete_task", `{"task_id":"` + task + `","file_data":"A*","filename":"a.mp4"}`, 400, "GW001"},
		"two outputs":                      {"complete_task", `{"task_id":"` + task + `","storage_path":"a/b","output_location":"x"}`, 400, "GW001"},
		"an attempt that can't be":         {"complete_task", `{"task_id":"` + task + `","output_location":"x","attempt":0}`, 400, "GW001"},
		"an attempt beyond all numbers":    {"complete_task", `{"task_id":"` + task + `","output_location":"x","attempt":3000000000}`, 400, "GW001"},
		"an attempt of the future":         {"complete_task", `{"task_id":"` + task + `","output_location":"x","attempt":9}`, 409, "TD031"},
		"a foreign worker":                 {"complete_task", `{"task_id":"` + task + `","output_location":"x","worker_id":"nobody"}`, 409, "TD031"},
		"failing an unknown task":          {"fail_task", `{"task_id":"` + unknown + `","error_message":"x"}`, 404, "TD021"},
		"failing a queued task":            {"fail_task", `{"task_id":"` + task + `","error_message":"x"}`, 409, "TD031"},
		"failing with NUL":                 {"fail_task", `{"task_id":"` + task + `","error_message":"\u0000"}`, 400, "22021"},
		"retryable that is no truth value": {"fail_task", `{"task_id":"` + task + `","retryable":"yes"}`, 400, "GW001"},
		"cancelling an unknown task":       {"cancel_task", `{"task_id":"` + unknown + `"}`, 404, "TD021"},
		"a function that is none":          {"drop_task", `{}`, 404, "GW004"},
		"a function below a function":      {"create_task/more", `{}`, 404, "GW004"},
		"a function of another schema":     {"darkroom.close_tasks", `{}`, 404, "GW004"},
	} {
		t.Run(name, func(t *testing.T) {
			got := b.send(http.MethodPost, "/functions/v1/"+c.function, c.body)
			code := c.code
			if code == "" { // the server's own limit of depth may be lower or higher than ours
				code, _ = got.json(t)["code"].(string)
			}
			b.wantError(got, c.status, code)
		})
	}

	for path, want := range map[string]struct {
		status int
		code   string
	}{
		"/tasks/42":                             {400, "GW002"},
		"/tasks/%00":                            {400, "GW002"},
		"/tasks/" + unknown:                     {404, "TD021"},
		"/projects/42/generations":              {400, "GW002"},
		"/projects/" + unknown + "/generations": {404, "TD020"},
		"/projects/" + project + "/generations?shot_id=x":         {400, "GW002"},
		"/projects/" + project + "/generations?limit=x":           {400, "GW001"},
		"/projects/" + project + "/generations?limit=0":           {400, "TD003"},
		"/projects/" + project + "/generations?limit=99999999999": {400, "GW001"},
		"/projects/" + project + "/generations?older_than=today":  {400, "GW001"},
		"/tasks":                    {404, "GW004"},
		"/functions/v1/create_task": {405, "GW006"},
	} {
		b.wantError(b.send(http.MethodGet, path, ""), want.status, want.code)
	}
	b.wantError(b.send(http.MethodPost, "/functions/v1/create_task", "{}", "Content-Type", "text/plain"), 415, "GW008")
	b.wantError(b.send(http.MethodDelete, "/tasks/"+task, ""), 405, "GW006")

	// Nothing was done, nor half done.
	if got := b.send(http.MethodGet, "/tasks/"+task, "").json(t); got["status"] != "Queued" || got["attempt"] != 0.0 {
		t.Errorf("the task: %v", got)
	}
	var tasks, workers int
	must(t, b.pg.Pool.QueryRow(t.Context(), "select (select count(*) from tasks), (select count(*) from workers)").Scan(&tasks, &workers))
	if tasks != 1 || workers != 0 {
		t.Errorf("%d tasks, %d workers", tasks, workers)
	}
	b.healthy()
}

func TestAStaleAttemptChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := b.image()
	b.call("claim_next_task", `{"worker_id":"first"}`, http.StatusOK)
	_, err := b.db.ReleaseTask(t.Context(), taskdb.Hold{TaskID: uuid.MustParse(task), WorkerID: "first", Attempt: 1}, "")
	must(t, err)
	if claim := b.call("claim_next_task", `{"worker_id":"second"}`, http.StatusOK).json(t); claim["attempt"] != 2.0 {
		t.Fatalf("claim: %v", claim)
	}

	stale := `{"task_id":"` + task + `","worker_id":"first","attempt":1,"output_location":"x","error_message":"x"}`
	for _, function := range []string{"complete_task", "fail_task"} {
		b.wantError(b.send(http.MethodPost, "/functions/v1/"+function, stale), http.StatusConflict, "TD031")
	}
	b.call("complete_task", `{"task_id":"`+task+`","worker_id":"second","attempt":2,"output_location":"x"}`, http.StatusOK)
	b.wantError(b.send(http.MethodPost, "/functions/v1/cancel_task", stale), http.StatusConflict, "TD032")
	b.wantError(b.send(http.MethodPost, "/functions/v1/fail_task", `{"task_id":"`+task+`","worker_id":"second","attempt":2}`), http.StatusConflict, "TD032")
	b.healthy()
}

func TestInternalErrorsAreNotTold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.pg.Pool.Exec(t.Context(), "drop function get_task")
	must(t, err)
	got := b.send(http.MethodGet, "/tasks/"+uuid.NewString(), "")
	b.wantError(got, http.StatusInternalServerError, "GW010")
	if strings.Contains(string(got.body), "get_task") || !strings.Contains(b.log.String(), "get_task") {
		t.Errorf("the answer must not name what failed, the log must: %s", got.body)
	}

	config := b.pg.Pool.Config().ConnConfig.Copy()
	name := config.Database
	config.Database = "postgres"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	must(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "alter database "+name+" allow_connections false")
	must(t, err)
	_, err = conn.Exec(t.Context(), "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1", name)
	must(t, err)
	got = b.send(http.MethodGet, "/projects/"+b.project.String()+"/generations", "")
	b.wantError(got, http.StatusServiceUnavailable, "GW011")
	b.wantError(b.send(http.MethodGet, "/readyz", ""), http.StatusServiceUnavailable, "GW011")
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}
