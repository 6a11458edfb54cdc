package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"darkroom/gateway/server"
	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

const testKey = "a key of the tests, long enough"

// testBundle is a gateway over a database with one user, who has credits, a project and a shot.
type testBundle struct {
	t       *testing.T
	pg      *taskdbtest.DB
	db      *taskdb.DB
	gateway *server.Server
	web     *httptest.Server
	bucket  *storage.Bucket
	log     *syncBuffer
	user    uuid.UUID
	project uuid.UUID
	shot    uuid.UUID
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	ctx := t.Context()
	b := &testBundle{t: t, pg: taskdbtest.New(t), log: &syncBuffer{}}
	must(t, server.Migrate(ctx, b.pg.URL))
	b.db = taskdb.New(b.pg.Pool)
	storageURL := "file://" + t.TempDir()
	var err error
	b.gateway, err = server.Open(ctx, server.Config{
		DatabaseURL: b.pg.Login(t, "authenticator"), StorageURL: storageURL, ServiceKey: testKey, Log: slog.New(slog.NewTextHandler(b.log, nil)),
	})
	must(t, err)
	b.web = httptest.NewServer(b.gateway)
	b.bucket, err = storage.Open(ctx, storageURL)
	must(t, err)
	t.Cleanup(func() {
		b.web.Close()
		must(t, b.gateway.Close())
		must(t, b.bucket.Close())
	})

	b.user = uuid.New()
	_, err = b.db.CreateUser(ctx, b.user, "")
	must(t, err)
	_, err = b.db.GrantCredits(ctx, b.user, taskdb.WholeCredits(100), "", "")
	must(t, err)
	project, err := b.db.CreateProject(ctx, b.user, "test")
	must(t, err)
	b.project = project.ID
	shot, err := b.db.CreateShot(ctx, b.project, "test")
	must(t, err)
	b.shot = shot.ID
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(a.body, &object); err != nil {
		t.Fatalf("answer %d %q is no JSON object: %v", a.status, a.body, err)
	}
	return object
}

// send makes a request with the service key; pairs are more headers, "" takes one away.
func (b *testBundle) send(method, path, body string, pairs ...string) answer {
	b.t.Helper()
	return do(b.t, method, b.web.URL+path, body, append([]string{"Authorization", "Bearer " + testKey}, pairs...)...)
}

func do(t *testing.T, method, url, body string, pairs ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	must(t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(pairs); i += 2 {
		r.Header.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "" {
			r.Header.Del(pairs[i])
		}
	}
	response, err := http.DefaultClient.Do(r)
	must(t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	must(t, err)
	return answer{response.StatusCode, response.Header, data}
}

// call posts to a function and wants the status.
func (b *testBundle) call(name, body string, status int) answer {
	b.t.Helper()
	got := b.send(http.MethodPost, "/functions/v1/"+name, body)
	if got.status != status {
		b.t.Fatalf("%s %s: %d %s, want %d", name, body, got.status, got.body, status)
	}
	return got
}

// image creates a single_image and returns its id.
func (b *testBundle) image() string {
	b.t.Helper()
	body := `{"project_id":"` + b.project.String() + `","tool_id":"image-generation","input":{"prompt":"a","shot_id":"` + b.shot.String() + `"}}`
	id, _ := b.call("create_task", body, http.StatusOK).json(b.t)["id"].(string)
	return id
}

func (b *testBundle) healthy() {
	b.t.Helper()
	faults, err := b.db.InvariantViolations(context.WithoutCancel(b.t.Context()))
	if err != nil || len(faults) > 0 {
		b.t.Fatalf("invariant_violations: %v, %v", faults, err)
	}
}

type syncBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.String()
}

func TestATaskGoesFromCreateToGenerationOverHTTP(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := b.image()

	claim := b.call("claim_next_task", `{"worker_id":"gpu-1","run_type":"gpu"}`, http.StatusOK).json(t)
	params, isObject := claim["params"].(map[string]any)
	if claim["task_id"] != task || claim["task_type"] != "single_image" || claim["project_id"] != b.project.String() ||
		claim["attempt"] != 1.0 || !isObject || params["prompt"] != "a" {
		t.Fatalf("claim: %v", claim)
	}
	if got := b.call("claim_next_task", `{"worker_id":"gpu-1"}`, http.StatusNoContent); len(got.body) != 0 {
		t.Fatalf("nothing to claim: %q", got.body)
	}

	done := `{"task_id":"` + task + `","output_location":"https://example.com/a.png","thumbnail_url":"https://example.com/t.jpg",` +
		`"metadata":{"seed":7},"worker_id":"gpu-1","attempt":1}`
	first := b.call("process-completed-task", done, http.StatusOK)
	if got := first.json(t); got["status"] != "Complete" || got["public_url"] != "https://example.com/a.png" || got["thumbnail_url"] != "https://example.com/t.jpg" {
		t.Fatalf("completion: %v", got)
	}
	if again := b.call("process-completed-task", done, http.StatusOK); !bytes.Equal(again.body, first.body) {
		t.Fatalf("a repeat answers %s, the first %s", again.body, first.body)
	}

	if got := b.send(http.MethodGet, "/tasks/"+task, "").json(t); got["status"] != "Complete" || got["generation_created"] != true {
		t.Fatalf("task: %v", got)
	}
	for _, query := range []string{"", "?shot_id=" + b.shot.String(), "?limit=1&older_than=2999-01-01T00:00:00%2B01:00", "?older_than=2999-01-01T00:00:00+01:00"} {
		got := b.send(http.MethodGet, "/projects/"+b.project.String()+"/generations"+query, "")
		var list []taskdb.Generation
		must(t, json.Unmarshal(got.body, &list))
		if len(list) != 1 || list[0].SourceTaskID.String() != task || list[0].Type != "image" {
			t.Fatalf("generations%s: %s", query, got.body)
		}
	}
	for _, query := range []string{"?shot_id=" + uuid.NewString(), "?older_than=2000-01-01T00:00:00Z"} {
		if got := b.send(http.MethodGet, "/projects/"+b.project.String()+"/generations"+query, ""); string(got.body) != "[]\n" {
			t.Fatalf("generations%s: %s", query, got.body)
		}
	}
	if account, err := b.db.GetCredits(t.Context(), b.user); err != nil || account.Available != taskdb.WholeCredits(99) {
		t.Fatalf("credits: %+v, %v", account, err)
	}
	b.healthy()
}

func TestEveryFunctionAnswersToBothSpellings(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, name := range []string{"create_task", "claim_next_task", "process_completed_task", "complete_task", "fail_task", "cancel_task"} {
		for _, spelling := range []string{name, strings.ReplaceAll(name, "_", "-"), strings.Replace(name, "_", "-", 1)} {
			b.wantError(b.send(http.MethodPost, "/functions/v1/"+spelling, "{}"), http.StatusBadRequest, "TD001")
		}
	}
	for _, spelling := range []string{"calculate_task_cost", "calculate-task-cost"} {
		got := b.call(spelling, `{"task_type":"travel_orchestrator","params":{"orchestrator_details":{"num_new_segments_to_generate":3}}}`, http.StatusOK)
		if string(got.body) != `{"cost":15}`+"\n" {
			t.Errorf("%s: %s", spelling, got.body)
		}
	}
	b.call("calculate-task-cost", `{"tool_id":"image-generation","input":{"prompt":"a"}}`, http.StatusOK)
}

func TestAWorkersCreateIsTakenAsItSendsIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second, third := uuid.NewString(), uuid.NewString(), uuid.NewString()
	for _, step := range []struct{ id, dependency string }{
		{first, "null"}, {second, `"` + first + `"`}, {third, `["` + first + `","` + second + `"]`},
	} {
		body := `{"task_id":"` + step.id + `","project_id":"` + b.project.String() + `","task_type":"single_image","params":{"prompt":"a","extra":{"kept":1}},` +
			`"dependant_on":` + step.dependency + `,"run_type":"gpu"}`
		got := b.call("create-task", body, http.StatusOK)
		if task := got.json(t); task["id"] != step.id || task["status"] != "Queued" {
			t.Fatalf("created: %v", task)
		}
		if again := b.call("create-task", body, http.StatusOK); !bytes.Equal(again.body, got.body) {
			t.Fatalf("a repeat answers %s, the first %s", again.body, got.body)
		}
	}
}

func TestTheIdempotencyKeyMayComeAsAHeader(t *testing.T) {
	t.Parallel()
	b := setup(t)
	create := func(prompt, field, header string) answer {
		body := `{"project_id":"` + b.project.String() + `","tool_id":"image-generation","input":{"prompt":"` + prompt + `"}` + field + `}`
		return b.send(http.MethodPost, "/functions/v1/create_task", body, "Idempotency-Key", header)
	}
	first := create("a", "", "key-1")
	for _, same := range []answer{create("a", "", "key-1"), create("a", `,"idempotency_key":"key-1"`, ""), create("a", `,"idempotency_key":"key-1"`, "key-1")} {
		if first.status != http.StatusOK || !bytes.Equal(same.body, first.body) {
			t.Errorf("%d %s, want %s", same.status, same.body, first.body)
		}
	}
	b.wantError(create("b", "", "key-1"), http.StatusConflict, "TD030")
	b.wantError(create("a", `,"idempotency_key":"key-2"`, "key-1"), http.StatusBadRequest, "GW001")
}

func TestFailuresAreReportedInAllForms(t *testing.T) {
	t.Parallel()
	b := setup(t)
	claim := func() string {
		task := b.image()
		b.call("claim_next_task", `{"worker_id":"gpu-1"}`, http.StatusOK)
		return task
	}
	for name, call := range map[string]struct{ function, fields, status string }{
		"fail_task":                   {"fail_task", `"error_message":"out of memory"`, "Failed"},
		"fail_task, with the fence":   {"fail-task", `"error_message":"out of memory","worker_id":"gpu-1","attempt":1`, "Failed"},
		"the spec's completion":       {"process-completed-task", `"success":false,"error_message":"out of memory"`, "Failed"},
		"a retryable failure":         {"fail_task", `"error_message":"out of memory","retryable":true`, "Queued"},
		"a cancellation":              {"cancel_task", `"reason":"out of memory"`, "Cancelled"},
		"a cancellation, twice in it": {"cancel-task", `"reason":"out of memory","worker_id":"x"`, "Cancelled"},
	} {
		task := claim()
		got := b.call(call.function, `{"task_id":"`+task+`",`+call.fields+`}`, http.StatusOK).json(t)
		if got["status"] != call.status || got["error_message"] != "out of memory" {
			t.Errorf("%s: %v", name, got)
		}
		b.call("cancel_task", `{"task_id":"`+b.image()+`"}`, http.StatusOK)
	}
	b.healthy()
}

func TestConcurrentFirstClaimsOfOneWorkerLoseNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const claims = 12
	for range claims {
		b.image()
	}
	var group sync.WaitGroup
	tasks := make(chan string, claims)
	for range claims {
		group.Go(func() {
			got := b.send(http.MethodPost, "/functions/v1/claim_next_task", `{"worker_id":"shared"}`)
			if got.status == http.StatusOK {
				id, _ := got.json(t)["task_id"].(string)
				tasks <- id
			}
		})
	}
	group.Wait()
	close(tasks)
	for id := range tasks {
		task, err := b.db.GetTask(t.Context(), uuid.MustParse(id))
		if err != nil || task.Status != taskdb.StatusInProgress || task.Attempt != 1 {
			t.Errorf("task %s: %s, attempt %d, %v", id, task.Status, task.Attempt, err)
		}
	}
}

func TestOnlyTheServiceKeyOpens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := b.web.URL + "/tasks/" + uuid.NewString()
	for name, headers := range map[string][]string{
		"no key":                      nil,
		"a wrong key":                 {"Authorization", "Bearer wrong"},
		"a beginning of the key":      {"Authorization", "Bearer " + testKey[:len(testKey)-1]},
		"another scheme":              {"Authorization", "Basic " + testKey},
		"the key without scheme":      {"Authorization", testKey},
		"a wrong apikey":              {"Apikey", "wrong"},
		"a wrong bearer, right other": {"Authorization", "Bearer wrong", "Apikey", testKey},
	} {
		got := do(t, http.MethodGet, path, "", headers...)
		b.wantError(got, http.StatusUnauthorized, "GW003")
		if got.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: no WWW-Authenticate", name)
		}
	}
	for _, headers := range [][]string{{"Authorization", "Bearer " + testKey}, {"Authorization", "bearer " + testKey}, {"Apikey", testKey}} {
		b.wantError(do(t, http.MethodGet, path, "", headers...), http.StatusNotFound, "TD021")
	}
	b.wantError(do(t, http.MethodPost, b.web.URL+"/functions/v1/create_task", "{}"), http.StatusUnauthorized, "GW003")
	b.wantError(do(t, http.MethodGet, b.web.URL+"/nowhere", ""), http.StatusUnauthorized, "GW003")
	for _, open := range []string{"/healthz", "/readyz"} {
		if got := do(t, http.MethodGet, b.web.URL+open, ""); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", open, got.status, got.body)
		}
	}
	if strings.Contains(b.log.String(), testKey[:8]) {
		t.Error("the log holds the key")
	}
}

func TestAnswersCarryTheirHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.send(http.MethodGet, "/tasks/"+uuid.NewString()+"?token=secret", "", "X-Request-ID", "mine-1", "X-Forwarded-For", "203.0.113.9")
	for name, value := range map[string]string{
		"X-Request-ID": "mine-1", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Type": "application/json",
	} {
		if got.header.Get(name) != value {
			t.Errorf("%s: %q", name, got.header.Get(name))
		}
	}
	if id := b.send(http.MethodGet, "/healthz", "", "X-Request-ID", "a b\" c").header.Get("X-Request-ID"); uuid.Validate(id) != nil {
		t.Errorf("an id that is none was passed on: %q", id)
	}
	if log := b.log.String(); !strings.Contains(log, "request_id=mine-1") || !strings.Contains(log, "ip=127.0.0.1") || strings.Contains(log, "secret") {
		t.Errorf("log: %s", log)
	}
}
