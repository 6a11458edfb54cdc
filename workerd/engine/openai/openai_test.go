package openai_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/openai"
	"darkroom/workerd/engine/remote"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mp4 = "\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp41"

// pictureBytes is a PNG of 8 x 4 pixels.
var pictureBytes = func() string {
	var text strings.Builder
	if err := png.Encode(&text, image.NewGray(image.Rect(0, 0, 8, 4))); err != nil {
		panic(err)
	}
	return text.String()
}()

// seen is a request that came.
type seen struct {
	what   string // such as "POST /v1/videos"
	header http.Header
	fields map[string]string // of JSON, as JSON; of a form, as they are, with files as "name type content"
}

// backend is a server of the test. It answers by method and path, the first handler of which takes one request, the last all others.
type backend struct {
	t       *testing.T
	answers map[string][]http.HandlerFunc

	mu   sync.Mutex
	came []seen
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := seen{what: r.Method + " " + r.URL.Path, header: r.Header, fields: map[string]string{}}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		b.readForm(r, request.fields)
	} else if data, err := io.ReadAll(r.Body); err == nil && len(data) > 0 {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(data, &fields); err != nil {
			b.t.Errorf("%s came with %s: %v", request.what, data, err)
		}
		for name, value := range fields {
			request.fields[name] = string(value)
		}
	}
	_, _ = io.Copy(io.Discard, r.Body) // what follows a form; only behind it the server notices that the client has gone
	b.mu.Lock()
	b.came = append(b.came, request)
	handlers := b.answers[request.what]
	if len(handlers) > 1 {
		b.answers[request.what] = handlers[1:]
	}
	b.mu.Unlock()
	if len(handlers) == 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	handlers[0](w, r)
}

func (b *backend) readForm(r *http.Request, fields map[string]string) {
	if err := r.ParseMultipartForm(1 << 20); err != nil {
		b.t.Error(err)
		return
	}
	defer func() { _ = r.MultipartForm.RemoveAll() }()
	for name, values := range r.MultipartForm.Value {
		fields[name] = strings.Join(values, "|")
	}
	for name, files := range r.MultipartForm.File {
		f, err := files[0].Open()
		if err != nil {
			b.t.Error(err)
			continue
		}
		content, err := io.ReadAll(f)
		if err != nil {
			b.t.Error(err)
		}
		_ = f.Close()
		fields[name] = files[0].Filename + " " + files[0].Header.Get("Content-Type") + " " + string(content)
	}
}

// requests lists what came.
func (b *backend) requests() []seen {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.came)
}

// list lists what came, in words, each only once in a row.
func (b *backend) list() []string {
	var list []string
	for _, request := range b.requests() {
		list = append(list, request.what)
	}
	return slices.Compact(list)
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func pictureAnswer() http.HandlerFunc {
	return says(200, `{"created":1,"data":[{"b64_json":"`+base64.StdEncoding.EncodeToString([]byte(pictureBytes))+`","url":null,"revised_prompt":"a nice cat"}]}`)
}

// start starts a backend and an engine for it that does single_image as one says.
func start(t *testing.T, answers map[string][]http.HandlerFunc, tasks map[string]openai.Task) (*backend, *openai.Engine) {
	t.Helper()
	b := &backend{t: t, answers: answers}
	server := httptest.NewServer(b)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	e, err := openai.New(t.Context(), "remote", openai.Config{URL: server.URL + "/v1", Tasks: tasks})
	if err != nil {
		t.Fatal(err)
	}
	return b, e
}

func newTask(t *testing.T, taskType, params string, inputs ...engine.Input) engine.Task {
	t.Helper()
	return engine.Task{
		ID: uuid.MustParse("6ba7b810-9dad-41d1-80b4-00c04fd430c8"), Attempt: 2, Type: taskType, Params: json.RawMessage(params), Inputs: inputs, OutDir: t.TempDir(),
	}
}

func input(t *testing.T, role engine.Role, content string) engine.Input {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return engine.Input{Path: path, MediaType: "text/plain", Role: role}
}

// quiet is a sink that nobody listens to.
type quiet struct{}

func (quiet) Progress(engine.Progress) {}
func (quiet) Preview([]byte, string)   {}
func (quiet) Log(string)               {}

// failed checks the class and the words of an error, and that nothing is left in the output folder.
func failed(t *testing.T, task engine.Task, err error, class engine.Class, words string) {
	t.Helper()
	var failure *engine.Error
	if !errors.As(err, &failure) || failure.Class != class || !strings.Contains(failure.Message, words) || !strings.HasSuffix(failure.Message, ".") {
		t.Errorf("got %v, want %s with %q", err, class, words)
	}
	if left, err := os.ReadDir(task.OutDir); err != nil || len(left) != 0 {
		t.Errorf("files stay: %v, %v", left, err)
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	t.Setenv("OPENAI_TEST_EMPTY", "")
	tasks := func(task openai.Task) map[string]openai.Task { return map[string]openai.Task{"x": task} }
	fine := openai.Task{API: openai.Images}
	for words, c := range map[string]openai.Config{
		"url":                    {Tasks: tasks(fine)},
		"tasks is empty":         {URL: "http://a"},
		"slots":                  {URL: "http://a", Slots: -1, Tasks: tasks(fine)},
		"OPENAI_TEST_EMPTY":      {URL: "http://a", APIKeyEnv: "OPENAI_TEST_EMPTY", Tasks: tasks(fine)},
		"api is \"\"":            {URL: "http://a", Tasks: tasks(openai.Task{})},
		"it has no name":         {URL: "http://a", Tasks: map[string]openai.Task{"": fine}},
		"takes no files":         {URL: "http://a", Tasks: tasks(openai.Task{API: openai.Images, Files: map[string]string{"image": "image"}})},
		"json is for":            {URL: "http://a", Tasks: tasks(openai.Task{API: openai.Edits, JSON: true})},
		"sizes":                  {URL: "http://a", Tasks: tasks(openai.Task{API: openai.Images, Sizes: []string{"big"}})},
		"size is written":        {URL: "http://a", Tasks: tasks(openai.Task{API: openai.Images, Extra: map[string]any{"size": "1x1"}})},
		"n is written":           {URL: "http://a", Tasks: tasks(openai.Task{API: openai.Images, Params: map[string]string{"n": "count"}})},
		"seed is written":        {URL: "http://a", Tasks: tasks(openai.Task{API: openai.Images, Seed: true, Extra: map[string]any{"seed": 1}})},
		"name of a field":        {URL: "http://a", Tasks: tasks(openai.Task{API: openai.Edits, Files: map[string]string{"image": "a\"\r\nb"}})},
		"must name the server's": {URL: "http://a", Tasks: map[string]openai.Task{"travel_segment": {API: openai.Videos}}},
	} {
		if _, err := openai.New(t.Context(), "e", c); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("want %q, got %v", words, err)
		}
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	_, e := start(t, nil, map[string]openai.Task{
		"b": {API: openai.Images, Model: "m2"}, "a": {API: openai.Videos, Model: "m1"}, "c": {API: openai.Edits, Model: "m1"}, "d": {API: openai.Images},
	})
	if got, want := fmt.Sprint(e.Info()), "{remote [a b c d] remote 1 [m1 m2] 0}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestThePictureAndItsRequest(t *testing.T) {
	t.Setenv("OPENAI_TEST_KEY", "sk-test-key")
	b := &backend{t: t, answers: map[string][]http.HandlerFunc{"POST /v1/images/generations": {pictureAnswer()}}}
	server := httptest.NewServer(b)
	defer server.Close()
	e, err := openai.New(t.Context(), "remote", openai.Config{URL: server.URL + "/v1/", APIKeyEnv: "OPENAI_TEST_KEY", Tasks: map[string]openai.Task{"single_image": {
		API: openai.Images, Model: "m", Sizes: []string{"1024x1024", "1536x1024", "1024x1536", "768x512"}, Seed: true,
		Params: map[string]string{"negative_prompt": "negative", "steps": "steps"}, Extra: map[string]any{"quality": "low"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	task := newTask(t, "single_image", `{"prompt":"a cat","size":"700x500","seed":5,"negative":"dogs","secret":"no"}`)
	result, err := e.Run(t.Context(), task, quiet{})
	if err != nil {
		t.Fatal(err)
	}
	file, _ := result.File(engine.Output)
	if data, err := os.ReadFile(file.Path); err != nil || string(data) != pictureBytes || file.MediaType != "image/png" || filepath.Base(file.Path) != "output.png" {
		t.Errorf("got %+v, %v", file, err)
	}
	facts, err := json.Marshal(result.Metadata)
	want := `{"height":4,"method":"openai/images","model":"m","revised_prompt":"a nice cat","seed":5,"size":"768x512","width":8}`
	if err != nil || string(facts) != want {
		t.Errorf("metadata: got %s, want %s", facts, want)
	}
	request := b.requests()[0]
	fields := map[string]string{
		"model": `"m"`, "prompt": `"a cat"`, "n": "1", "size": `"768x512"`, "seed": "5", "negative_prompt": `"dogs"`, "quality": `"low"`,
	}
	if !maps.Equal(request.fields, fields) {
		t.Errorf("the request has %v, want %v", request.fields, fields)
	}
	if got := request.header.Get("Authorization"); got != "Bearer sk-test-key" {
		t.Errorf("got %q", got)
	}
	key := request.header.Get("Idempotency-Key")
	if _, err := e.Run(t.Context(), newTask(t, "single_image", `{"prompt":"a cat"}`), quiet{}); err != nil {
		t.Fatal(err)
	}
	task = newTask(t, "single_image", `{"prompt":"a cat"}`)
	task.Attempt++
	if _, err := e.Run(t.Context(), task, quiet{}); err != nil {
		t.Fatal(err)
	}
	same, next := b.requests()[1], b.requests()[2]
	if same.header.Get("Idempotency-Key") != key || next.header.Get("Idempotency-Key") == key || uuid.MustParse(key).Version() != 5 {
		t.Errorf("the keys are %s, %v and %v", key, same.header["Idempotency-Key"], next.header["Idempotency-Key"])
	}
	if same.fields["size"] != `"1024x1024"` || same.fields["seed"] == "" {
		t.Errorf("without a size and a seed the request has %v", same.fields)
	}
}

func TestTheNearestSizeIsSent(t *testing.T) {
	t.Parallel()
	b, e := start(t, map[string][]http.HandlerFunc{"POST /v1/images/generations": {pictureAnswer()}}, map[string]openai.Task{
		"listed": {API: openai.Images, Sizes: []string{"1024x1024", "1536x1024", "1024x1536", "512x512"}}, "free": {API: openai.Images},
	})
	for i, test := range []struct{ taskType, size, want string }{
		{"listed", "256x256", `"512x512"`},
		{"listed", "2000x2000", `"1024x1024"`},
		{"listed", "900x600", `"1536x1024"`},
		{"listed", "1x1000", `"1024x1536"`},
		{"free", "900x600", `"900x600"`},
	} {
		if _, err := e.Run(t.Context(), newTask(t, test.taskType, `{"prompt":"a","resolution":"`+test.size+`"}`), quiet{}); err != nil {
			t.Fatal(err)
		}
		if got := b.requests()[i].fields["size"]; got != test.want {
			t.Errorf("%s %s: got %s, want %s", test.taskType, test.size, got, test.want)
		}
	}
}

func TestEditsSendTheirPictures(t *testing.T) {
	t.Parallel()
	b, e := start(t, map[string][]http.HandlerFunc{"POST /v1/images/edits": {pictureAnswer()}}, map[string]openai.Task{
		"edit": {API: openai.Edits, Model: "m", Extra: map[string]any{"a": 1.5, "b": "x", "c": []int{1}}},
	})
	if _, err := e.Run(t.Context(), newTask(t, "edit", `{"prompt":"more hats"}`, input(t, "image", pictureBytes), input(t, "mask", mp4)), quiet{}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"prompt": "more hats", "model": "m", "n": "1", "a": "1.5", "b": "x", "c": "[1]", "image": "input.png image/png " + pictureBytes, "mask": "input.mp4 video/mp4 " + mp4,
	}
	if got := b.requests()[0].fields; !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, test := range map[string]struct {
		params string
		inputs []engine.Input
		words  string
	}{
		"no picture":     {`{"prompt":"a"}`, nil, "needs a picture"},
		"another role":   {`{"prompt":"a"}`, []engine.Input{input(t, "start_image", pictureBytes)}, "takes no file as start_image"},
		"not a picture":  {`{"prompt":"a"}`, []engine.Input{input(t, "image", "hello")}, "neither"},
		"an empty file":  {`{"prompt":"a"}`, []engine.Input{input(t, "image", "")}, "neither"},
		"a wrong prompt": {`{"prompt":1}`, []engine.Input{input(t, "image", pictureBytes)}, "prompt must be a text"},
		"a wrong size":   {`{"prompt":"a","size":"x"}`, []engine.Input{input(t, "image", pictureBytes)}, "not a size"},
	} {
		task := newTask(t, "edit", test.params, test.inputs...)
		_, err := e.Run(t.Context(), task, quiet{})
		t.Run(name, func(t *testing.T) { failed(t, task, err, engine.BadInput, test.words) })
	}
	if count := len(b.requests()); count != 1 {
		t.Errorf("%d requests were sent", count)
	}
}

func TestAnswersWithAddresses(t *testing.T) {
	t.Parallel()
	answers := map[string][]http.HandlerFunc{"GET /v1/images/1/content": {says(200, pictureBytes)}, "GET /made/2.png": {says(200, pictureBytes)}}
	_, e := start(t, answers, map[string]openai.Task{"single_image": {API: openai.Images}})
	for address, words := range map[string]string{
		"/v1/images/1/content":     "",
		"/made/2.png":              "",
		"/made/3.png":              "does not know",
		"http://127.0.0.1:1/x.png": "another host",
		"file:///etc/passwd":       "another host",
		"//evil.example/x.png":     "another host",
		":":                        "without a usable address",
	} {
		answers["POST /v1/images/generations"] = []http.HandlerFunc{says(200, `{"data":[{"url":"`+address+`"}]}`)}
		task := newTask(t, "single_image", `{"prompt":"a"}`)
		_, err := e.Run(t.Context(), task, quiet{})
		if words != "" {
			failed(t, task, err, engine.EngineDown, words)
		} else if err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestPicturesThatFail(t *testing.T) {
	t.Parallel()
	openAI := func(code, message string) string {
		return fmt.Sprintf(`{"error":{"message":%q,"type":"t","param":null,"code":%q}}`, message, code)
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		class  engine.Class
		words  string
		sick   string // what Health then says
	}{
		"bad size":         {says(400, openAI("invalid_value", "Bad size")), engine.BadInput, "refused the task: Bad size.", ""},
		"content policy":   {says(400, openAI("content_policy_violation", "Your request was rejected")), engine.BadInput, "rules for content: Your request was rejected.", ""},
		"moderation":       {says(403, openAI("moderation_blocked", "No.")), engine.BadInput, "rules for content: No.", ""},
		"rate limit":       {says(429, openAI("rate_limit_exceeded", "Slow down")), engine.EngineDown, "no more work", "asked for a rest"},
		"no quota":         {says(429, openAI("insufficient_quota", "Pay")), engine.EngineDown, "no credit left", "no credit left"},
		"no money":         {says(402, ""), engine.EngineDown, "no credit left", "no credit left"},
		"wrong key":        {says(401, openAI("invalid_api_key", "Wrong")), engine.EngineDown, "key", ""},
		"out of memory":    {says(500, `{"detail":"CUDA out of memory"}`), engine.OutOfMem, "out of memory", ""},
		"broken":           {says(502, "<html>"), engine.EngineDown, "HTTP 502", ""},
		"no JSON":          {says(200, "<html>"), engine.EngineDown, "not the expected JSON", ""},
		"nothing":          {says(200, `{}`), engine.EngineDown, "without a picture", ""},
		"an empty picture": {says(200, `{"data":[{"b64_json":""}]}`), engine.EngineDown, "without a picture", ""},
		"broken base64":    {says(200, `{"data":[{"b64_json":"&"}]}`), engine.EngineDown, "not the expected JSON", ""},
		"text":             {says(200, `{"data":[{"b64_json":"aGFsbG8="}]}`), engine.EngineDown, "neither a PNG", ""},
		"a video":          {says(200, `{"data":[{"b64_json":"`+base64.StdEncoding.EncodeToString([]byte(mp4))+`"}]}`), engine.EngineDown, "wrong kind", ""},
		"a cut":            {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, engine.EngineDown, "broke off", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, e := start(t, map[string][]http.HandlerFunc{"POST /v1/images/generations": {test.answer}}, map[string]openai.Task{"single_image": {API: openai.Images}})
			task := newTask(t, "single_image", `{"prompt":"a"}`)
			_, err := e.Run(t.Context(), task, quiet{})
			failed(t, task, err, test.class, test.words)
			err = e.Health(t.Context())
			if test.sick == "" && err != nil || test.sick != "" && !strings.Contains(fmt.Sprint(err), test.sick) {
				t.Errorf("health is %v, want %q", err, test.sick)
			}
		})
	}
}

func TestARestEnds(t *testing.T) {
	t.Parallel()
	_, e := start(t, map[string][]http.HandlerFunc{"GET /v1/models": {func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}, says(200, "{}")}}, map[string]openai.Task{"single_image": {API: openai.Images}})
	began := time.Now()
	if got := engine.ClassOf(e.Health(t.Context())); got != engine.EngineDown {
		t.Errorf("got %q", got)
	}
	for e.Health(t.Context()) != nil {
		if time.Since(began) > 30*time.Second {
			t.Fatal("the rest does not end")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("it rested for %v only", took)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for status, well := range map[int]bool{200: true, 404: true, 405: true, 401: false, 500: false, 503: false} {
		_, e := start(t, map[string][]http.HandlerFunc{"GET /v1/models": {says(status, "{}")}}, map[string]openai.Task{"single_image": {API: openai.Images}})
		if err := e.Health(t.Context()); (err == nil) != well || err != nil && engine.ClassOf(err) != engine.EngineDown {
			t.Errorf("%d: got %v", status, err)
		}
	}
	e, err := openai.New(t.Context(), "e", openai.Config{URL: "http://127.0.0.1:1", Tasks: map[string]openai.Task{"a": {API: openai.Images}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Health(t.Context()); engine.ClassOf(err) != engine.EngineDown {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Health(ctx); engine.ClassOf(err) != engine.Cancelled {
		t.Errorf("cancelled: %v", err)
	}
}

func TestAPictureEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	_, e := start(t, map[string][]http.HandlerFunc{"POST /v1/images/generations": {func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}}}, map[string]openai.Task{"single_image": {API: openai.Images}})
	task := newTask(t, "single_image", `{"prompt":"a"}`)
	began := time.Now()
	_, err := e.Run(ctx, task, quiet{})
	failed(t, task, err, engine.Cancelled, "cancelled")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAStatusStaysInTheChain(t *testing.T) {
	t.Parallel()
	_, e := start(t, nil, map[string]openai.Task{"single_image": {API: openai.Images}})
	_, err := e.Run(t.Context(), newTask(t, "single_image", `{"prompt":"a"}`), quiet{})
	if status, ok := errors.AsType[*remote.StatusError](err); !ok || status.Code != http.StatusNotFound {
		t.Errorf("got %v", err)
	}
}
