package cog

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
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

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/enginetest"
)

// fake is a small server that behaves as Cog does, but for the faults that it is told to have.
type fake struct {
	URL string

	// Set before the first request.
	streams bool                                                     // as a model with @streaming
	answer  func(w http.ResponseWriter, r *http.Request) (done bool) // may answer in place of the server
	output  any                                                      // a PNG as a data URL when nil
	running chan struct{}                                            // a prediction runs while it can't be sent to

	mu      sync.Mutex
	now     map[string]context.CancelFunc // the predictions that run
	calls   []string
	taken   int // predictions
	accepts []string
}

func serve(t testing.TB, f *fake) *fake {
	t.Helper()
	f.now, f.running = map[string]context.CancelFunc{}, make(chan struct{}, 1)
	if f.output == nil {
		f.output = "data:image/png;base64," + base64.StdEncoding.EncodeToString(drawing(t, 8, 8))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health-check", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status":"READY"}`) })
	mux.HandleFunc("PUT /predictions/{id}", f.predict)
	mux.HandleFunc("POST /predictions/{id}/cancel", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if cancel, ok := f.now[r.PathValue("id")]; ok {
			cancel()
		} else {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, "{}")
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.calls = append(f.calls, r.Method+" "+r.URL.Path)
		f.mu.Unlock()
		if f.answer == nil || !f.answer(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	f.URL = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return f
}

func (f *fake) predict(w http.ResponseWriter, r *http.Request) {
	var body struct {
		ID    string `json:"id"`
		Input struct {
			Steps   int     `json:"steps"`
			Seconds float64 `json:"step_seconds"`
		} `json:"input"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.ID != r.PathValue("id") || body.Input.Steps < 1 {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"detail":[{"loc":["body","input","steps"],"msg":"ensure this value is greater than or equal to 1","type":"value_error"}]}`)
		return
	}
	accept := r.Header.Get("Accept")
	sse := strings.Contains(accept, "text/event-stream")
	f.mu.Lock()
	f.accepts = append(f.accepts, accept)
	f.mu.Unlock()
	if sse && !f.streams {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	select {
	case f.running <- struct{}{}:
		defer func() { <-f.running }()
	default:
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"detail":"Already running a prediction"}`)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	f.mu.Lock()
	f.taken++
	f.now[body.ID] = cancel
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.now, body.ID)
	}()
	event := func(string, any) {}
	if sse {
		w.Header().Set("Content-Type", "text/event-stream")
		event = func(name string, data any) {
			text, err := json.Marshal(data)
			if err != nil {
				panic(err)
			}
			_, _ = fmt.Fprintf(w, ": keep-alive\n\nevent: %s\ndata: %s\n\n", name, text)
			_ = http.NewResponseController(w).Flush()
		}
	}
	event("start", map[string]string{"id": body.ID, "status": "processing"})
	status := "succeeded"
	for i := range body.Input.Steps {
		select {
		case <-ctx.Done():
			status = "canceled"
		case <-time.After(time.Duration(body.Input.Seconds * float64(time.Second))):
		}
		event("log", map[string]any{"source": "stderr", "data": fmt.Sprintf("\r%3d%%|##| %d", 100*(i+1)/body.Input.Steps, i+1)})
		event("output", map[string]any{"chunk": f.output, "index": i})
		if status == "canceled" {
			break
		}
	}
	made := map[string]any{"id": body.ID, "status": status, "output": f.output, "metrics": map[string]float64{"predict_time": 0.1}}
	if sse {
		event("completed", made)
		return
	}
	if err := json.NewEncoder(w).Encode(made); err != nil && r.Context().Err() == nil {
		panic(err)
	}
}

func hurried(t *testing.T, f *fake) *Engine {
	t.Helper()
	e := connect(t, f.URL)
	e.pace = pace{busy: 300 * time.Millisecond, pause: 10 * time.Millisecond, longest: 50 * time.Millisecond}
	return e
}

func someTask(t testing.TB, params string) engine.Task {
	t.Helper()
	return engine.Task{ID: uuid.New(), Attempt: 1, Type: single, Params: json.RawMessage(params), OutDir: t.TempDir()}
}

const (
	quick = `{"prompt":"x"}`
	long  = `{"prompt":"x","steps":60,"step_seconds":0.1}`
)

func subject(e *Engine) enginetest.Subject {
	task := func(params string) func(t *testing.T) engine.Task {
		return func(t *testing.T) engine.Task {
			t.Helper()
			return someTask(t, params)
		}
	}
	return enginetest.Subject{Engine: e, Good: task(quick), Long: task(long), Bad: map[string]func(t *testing.T) engine.Task{
		"no prompt":              task(`{}`),
		"refused by the server":  task(`{"prompt":"x","steps":0}`),
		"params that are a list": task(`[]`),
		"an image that is none": func(t *testing.T) engine.Task {
			t.Helper()
			file := filepath.Join(t.TempDir(), "in")
			if err := os.WriteFile(file, []byte("<html>"), 0o600); err != nil {
				t.Fatal(err)
			}
			task := someTask(t, `{}`)
			task.Type, task.Inputs = repaint, []engine.Input{{Path: file, Role: "image"}}
			return task
		},
	}}
}

//nolint:paralleltest // the suite watches goroutines
func TestEngine(t *testing.T) {
	for name, streams := range map[string]bool{"synchronous": false, "streaming": true} {
		t.Run(name, func(t *testing.T) {
			enginetest.Run(t, subject(connect(t, serve(t, &fake{streams: streams}).URL)))
		})
	}
}

func BenchmarkCancel(b *testing.B) {
	for name, streams := range map[string]bool{"synchronous": false, "streaming": true} {
		b.Run(name, func(b *testing.B) {
			e := connect(b, serve(b, &fake{streams: streams}).URL)
			enginetest.BenchmarkCancel(b, e, func() engine.Task { return someTask(b, long) })
		})
	}
}

func TestAStreamGivesProgressPreviewsAndLog(t *testing.T) {
	t.Parallel()
	f, sink := serve(t, &fake{streams: true}), &listener{}
	if _, err := hurried(t, f).Run(t.Context(), someTask(t, quick), sink); err != nil {
		t.Fatal(err)
	}
	if want := []float64{0, 1, 3, 5, 7, 9, 10}; !slices.Equal(slices.Compact(sink.progress), want) {
		t.Errorf("progress: %v, want %v", sink.progress, want)
	}
	if !slices.Equal(sink.previews, []string{"image/png", "image/png", "image/png", "image/png"}) || !slices.Contains(sink.log, "50%|##| 2") {
		t.Errorf("previews %q, log %q", sink.previews, sink.log)
	}
}

func TestAModelThatDoesNotStreamIsAskedOnce(t *testing.T) {
	t.Parallel()
	f := serve(t, &fake{})
	e := hurried(t, f)
	for range 2 {
		if _, err := e.Run(t.Context(), someTask(t, quick), &listener{}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"text/event-stream, application/json", "application/json", "application/json"}; !slices.Equal(f.accepts, want) {
		t.Errorf("asked for %q", f.accepts)
	}
}

func TestABusyServerIsAskedAgain(t *testing.T) {
	t.Parallel()
	f := &fake{}
	puts := 0
	f.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			if puts++; puts == 4 { // the first one is for a stream, two find the server busy
				<-f.running
			}
		}
		return false
	}
	serve(t, f)
	f.running <- struct{}{}
	if _, err := hurried(t, f).Run(t.Context(), someTask(t, quick), &listener{}); err != nil {
		t.Error(err)
	}
	f.running <- struct{}{}
	_, err := hurried(t, f).Run(t.Context(), someTask(t, quick), &listener{})
	if engine.ClassOf(err) != engine.EngineDown || engine.MessageOf(err) != "The model is busy with other work; the task will be tried again." {
		t.Errorf("got %s: %v", engine.ClassOf(err), err)
	}
}

// write answers predictions with a text.
func write(status int, mediaType, text string) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		w.Header().Set("Content-Type", mediaType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
		return true
	}
}

func TestFaultsHaveTheirClass(t *testing.T) {
	t.Parallel()
	const events, jsons = "text/event-stream", "application/json"
	for name, c := range map[string]struct {
		fake  *fake
		class engine.Class
		want  string
	}{
		"the connection breaks": {&fake{answer: func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				_, _ = io.Copy(io.Discard, r.Body)
				panic(http.ErrAbortHandler)
			}
			return false
		}}, engine.EngineDown, "The connection to the engine's server broke off; the task will be tried again."},
		"still in setup":      {&fake{answer: write(503, jsons, `{"error":"not ready","status":"failed"}`)}, engine.EngineDown, "The engine's server failed (HTTP 503); the task will be tried again."},
		"garbage":             {&fake{answer: write(200, "text/html", "<html>")}, engine.EngineDown, "The engine's server sent an answer that is not the expected JSON; the operator must check its address and version."},
		"another server":      {&fake{answer: write(200, jsons, `{"ok":true}`)}, engine.EngineDown, "The model's server sent an answer that is no prediction; the operator must check its address and version."},
		"from before":         {&fake{answer: write(202, jsons, `{"status":"processing"}`)}, engine.EngineDown, "The model still works on the task from before; it will be tried again."},
		"cancelled by others": {&fake{answer: write(200, jsons, `{"status":"canceled"}`)}, engine.EngineDown, "The prediction was cancelled on the model's server; the task will be tried again."},
		"no reason":           {&fake{answer: write(200, jsons, `{"status":"failed"}`)}, engine.BadInput, "The model failed and gave no reason."},
		"no output":           {&fake{answer: write(200, jsons, `{"status":"succeeded","output":[]}`)}, engine.BadInput, "The model gave no file; the operator must look at the engine's output."},
		"a text":              {&fake{output: "a poem"}, engine.BadInput, "The model gave a text and no file; the operator must look at the engine's output."},
		"a local file":        {&fake{output: "file:///etc/passwd"}, engine.BadInput, "The model gave a text and no file; the operator must look at the engine's output."},
		"another host":        {&fake{output: "http://169.254.169.254/latest"}, engine.EngineDown, "The engine's server names a file on another host, which is not fetched."},
		"broken base64":       {&fake{output: "data:image/png;base64,iVBORw0KGgo?"}, engine.EngineDown, "The model gave a file that cannot be read."},
		"no base64":           {&fake{output: "data:image/svg+xml,<svg/>"}, engine.EngineDown, "The model gave a file that cannot be read."},
		"no picture":          {&fake{output: "data:image/png;base64,R0lGODlh"}, engine.EngineDown, "The engine's server sent a file that is neither a PNG, JPEG or WebP picture nor an MP4 or WebM video."},
		"too large":           {&fake{output: "data:image/png;base64," + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("\x89PNG\r\n\x1a\n"), 1<<18))}, engine.BadInput, "The engine made a file larger than 1 MiB; ask for a smaller output."},
		"an endless answer": {&fake{answer: func(w http.ResponseWriter, r *http.Request) bool {
			for r.Method == http.MethodPut {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<20)); err != nil {
					panic(http.ErrAbortHandler)
				}
			}
			return false
		}}, engine.EngineDown, "The engine's server sent an answer of more than 64 MB."},
		"a stream that ends":     {&fake{answer: write(200, events, "event: start\ndata: {}\n\nevent: log\ndata: {\"data\":5}\n\n")}, engine.EngineDown, "The model's server ended its answer too early; the task will be tried again."},
		"a stream that lags":     {&fake{answer: write(200, events, "event: error\ndata: {\"error\":\"SSE stream lagged\"}\n\n")}, engine.EngineDown, "The model's server lost its answer; the task will be tried again."},
		"a stream of garbage":    {&fake{answer: write(200, events, "\x00\xff\n::\n\nevent: completed\ndata: {\n\n")}, engine.EngineDown, "The model's server sent an answer that cannot be read."},
		"a stream that succeeds": {&fake{answer: write(200, events+"; charset=utf-8", "event:completed\r\ndata:{\"status\":\"failed\",\r\ndata:\"error\":\"CUDA out of memory\"}\r\n\r\n")}, engine.OutOfMem, "The model ran out of memory; a smaller output may fit."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := serve(t, c.fake)
			e := hurried(t, f)
			e.most = 1 << 20
			task := someTask(t, quick)
			_, err := e.Run(t.Context(), task, &listener{})
			if engine.ClassOf(err) != c.class || engine.MessageOf(err) != c.want {
				t.Errorf("got %s: %v", engine.ClassOf(err), err)
			}
			if left, _ := os.ReadDir(task.OutDir); len(left) != 0 {
				t.Errorf("it left %v", left)
			}
			if f.taken > 1 {
				t.Errorf("%d predictions", f.taken)
			}
		})
	}
}

func TestFilesComeFromTheServersThatAreNamed(t *testing.T) {
	t.Parallel()
	picture := drawing(t, 8, 8)
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(picture) }))
	t.Cleanup(store.Close)
	f := serve(t, &fake{output: map[string]any{"log": "a", "video": []string{store.URL + "/a", store.URL + "/b.png"}}})
	config := configure(f.URL)
	config.Files = store.URL
	config.Tasks[single] = Task{Input: config.Tasks[single].Input, Output: "video"}
	e, err := New(t.Context(), "cog", config)
	if err != nil {
		t.Fatal(err)
	}
	result, err := e.Run(t.Context(), someTask(t, quick), &listener{})
	if err != nil {
		t.Fatal(err)
	}
	if file, _ := result.File(engine.Output); file.MediaType != "image/png" {
		t.Errorf("files: %+v", result.Files)
	}
}

func TestACancelFreesTheSlotOfAServerThatHangs(t *testing.T) {
	t.Parallel()
	hanging := make(chan struct{})
	hang := sync.OnceFunc(func() { close(hanging) })
	f := serve(t, &fake{answer: func(_ http.ResponseWriter, r *http.Request) bool { // nothing is answered while it works, as before v0.14
		_, _ = io.Copy(io.Discard, r.Body)
		hang()
		<-r.Context().Done()
		return true
	}})
	e := hurried(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := e.Run(ctx, someTask(t, quick), &listener{})
		ended <- err
	}()
	<-hanging
	if err := e.Health(t.Context()); err != nil {
		t.Errorf("a server that works for us is out of order: %v", err)
	}
	start := time.Now()
	cancel()
	err := <-ended
	if took := time.Since(start); took > 5*time.Second || engine.ClassOf(err) != engine.Cancelled {
		t.Errorf("%v after the cancel: %v", took, err)
	}
	late, done := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer done()
	if err := e.Health(late); err == nil {
		t.Error("a server that does not answer, and works for nobody, is well")
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]string{
		"READY": "", "BUSY": "", "STARTING": "The model is still being set up; the task will be tried again.",
		"SETUP_FAILED": "The model is out of order; the operator must look at its log.", "DEFUNCT": "The model is out of order; the operator must look at its log.",
		"UNHEALTHY": "The model is out of order; the operator must look at its log.", "": "The model is out of order; the operator must look at its log.",
	} {
		f := serve(t, &fake{answer: func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, `{"status":"`+status+`","setup":{}}`)
			return true
		}})
		if err := connect(t, f.URL).Health(t.Context()); (err == nil) != (want == "") || err != nil && (engine.MessageOf(err) != want || engine.ClassOf(err) != engine.EngineDown) {
			t.Errorf("%s: got %v", status, err)
		}
	}
}

func TestAWrongConfigurationIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	const url = "http://127.0.0.1:1"
	good := configure(url).Tasks
	for want, config := range map[string]Config{
		"must begin with http":         {URL: "localhost:5000", Tasks: good},
		"files: the address":           {URL: url, Files: "ftp://a", Tasks: good},
		"slots is -1":                  {URL: url, Slots: -1, Tasks: good},
		"tasks is empty":               {URL: url},
		"the input of x is missing":    {URL: url, Tasks: map[string]Task{"x": {}}},
		"{{promt}} is no placeholder:": {URL: url, Tasks: map[string]Task{"x": {Input: map[string]any{"a": []any{"{{promt}}"}}}}},
	} {
		if _, err := New(t.Context(), "cog", config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
