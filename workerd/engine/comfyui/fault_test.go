package comfyui

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/enginetest"
)

// hurried is connect with short times.
func hurried(t *testing.T, f *fake) *Engine {
	t.Helper()
	e := connect(t, f.URL)
	e.pace = pace{quiet: 300 * time.Millisecond, patience: time.Second, pause: 10 * time.Millisecond, longest: 50 * time.Millisecond, doubt: 300 * time.Millisecond}
	return e
}

func slowTask(t testing.TB, params string) engine.Task {
	t.Helper()
	return engine.Task{ID: uuid.New(), Attempt: 1, Type: single, Params: json.RawMessage(params), OutDir: t.TempDir()}
}

const (
	quick = `{"prompt":"x","steps":3}`
	slow1 = `{"prompt":"x","steps":8,"step_seconds":0.05}`
	long  = `{"prompt":"x","steps":200,"step_seconds":0.05}`
)

func subject(e *Engine) enginetest.Subject {
	task := func(params string) func(t *testing.T) engine.Task {
		return func(t *testing.T) engine.Task {
			t.Helper()
			return slowTask(t, params)
		}
	}
	return enginetest.Subject{Engine: e, Good: task(quick), Long: task(long), Bad: map[string]func(t *testing.T) engine.Task{
		"no prompt":              task(`{}`),
		"refused by the server":  task(`{"prompt":"x","steps":0}`),
		"a link for a number":    task(`{"prompt":"x","steps":["1",0]}`),
		"params that are a list": task(`[]`),
		"a travel without images": func(t *testing.T) engine.Task {
			t.Helper()
			task := slowTask(t, `{}`)
			task.Type = travel
			return task
		},
		"an image that is none": func(t *testing.T) engine.Task {
			t.Helper()
			file := filepath.Join(t.TempDir(), "in")
			if err := os.WriteFile(file, []byte("<html>"), 0o600); err != nil {
				t.Fatal(err)
			}
			task := slowTask(t, `{}`)
			task.Type, task.Inputs = travel, []engine.Input{{Path: file, Role: engine.StartImage}, {Path: file, Role: engine.EndImage}}
			return task
		},
	}}
}

//nolint:paralleltest // the suite watches goroutines
func TestEngine(t *testing.T) {
	f := serve(t, &fake{})
	enginetest.Run(t, subject(connect(t, f.URL)))
}

func BenchmarkCancel(b *testing.B) {
	f := serve(b, &fake{})
	enginetest.BenchmarkCancel(b, connect(b, f.URL), func() engine.Task { return slowTask(b, long) })
}

func TestARunGoesOnThroughBrokenConnections(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(f *fake){
		"the websocket breaks at every step": func(f *fake) { f.onStep = func(int) { f.drop() } },
		"the websocket breaks at the last step": func(f *fake) {
			f.onStep = func(step int) {
				if step == 7 {
					f.drop()
				}
			}
		},
		"the websocket says nothing": func(f *fake) {
			f.onStep = func(step int) {
				if step == 2 { // the server forgets the socket without closing it
					f.mu.Lock()
					clear(f.sockets)
					f.mu.Unlock()
				}
			}
		},
		"the websocket says nonsense": func(f *fake) {
			f.greet = func(ctx context.Context, socket *websocket.Conn) {
				for _, nonsense := range []string{
					"{", "[]", `{"type":"progress","data":{"value":"x"}}`, `{"type":"progress","data":{"node":"2","value":5,"max":1e-320}}`,
					`{"type":"progress_state","data":{"nodes":{"2":{"value":-1,"max":1,"state":"running"}}}}`, `{"type":"execution_cached","data":{"nodes":{}}}`,
				} {
					_ = socket.Write(ctx, websocket.MessageText, []byte(nonsense))
				}
				for _, nonsense := range []string{"", "\x00", "\x00\x00\x00\x01\x00\x00\x00\x01GIF", "\x00\x00\x00\x04\xff\xff\xff\xff{}", "\x00\x00\x00\x04\x00\x00\x00\x02{}"} {
					_ = socket.Write(ctx, websocket.MessageBinary, []byte(nonsense))
				}
			}
		},
		"the server fails for a moment": func(f *fake) {
			var until atomic.Pointer[time.Time]
			f.onStep = func(step int) {
				if step == 2 {
					end := time.Now().Add(200 * time.Millisecond)
					until.Store(&end)
					f.drop()
				}
			}
			f.answer = func(w http.ResponseWriter, _ *http.Request) bool {
				end := until.Load()
				if end == nil || time.Now().After(*end) {
					return false
				}
				w.WriteHeader(http.StatusBadGateway)
				return true
			}
		},
		"the submission is not answered": func(f *fake) {
			f.answer = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/prompt" {
					f.prompt(discard{}, r)
					panic(http.ErrAbortHandler)
				}
				return false
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{}
			fault(f)
			serve(t, f)
			result, err := hurried(t, f).Run(t.Context(), slowTask(t, slow1), &listener{})
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := result.File(engine.Output); !ok || f.posts != 1 {
				t.Errorf("%d submissions, %+v", f.posts, result)
			}
		})
	}
}

// discard is an answer that nobody gets.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func TestALostRunIsGivenBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault   func(f *fake)
		message string
	}{
		"the server restarts": {func(f *fake) { f.onStep = func(int) { go f.restart() } }, "The ComfyUI server lost the task, as by a restart; it will be tried again."},
		"somebody interrupts it": {func(f *fake) {
			f.onStep = func(int) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.running.interrupt()
			}
		}, "The run was interrupted on the ComfyUI server; the task will be tried again."},
		"the submission is lost": {func(f *fake) {
			f.answer = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/prompt" {
					panic(http.ErrAbortHandler)
				}
				return false
			}
		}, "The ComfyUI server did not take the task; it will be tried again."},
		"the server is gone for good": {func(f *fake) {
			var gone atomic.Bool
			f.onStep = func(int) { gone.Store(true); go f.drop() }
			f.answer = func(http.ResponseWriter, *http.Request) bool {
				if gone.Load() {
					panic(http.ErrAbortHandler)
				}
				return false
			}
		}, "The connection to the engine's server broke off; the task will be tried again."},
		"something else answers": {func(f *fake) {
			f.answer = func(w http.ResponseWriter, _ *http.Request) bool {
				_, _ = io.WriteString(w, "<html>Welcome to nginx!</html>")
				return true
			}
		}, "The server does not open ComfyUI's websocket; the operator must check the engine's address."},
		"the answers are garbage": {func(f *fake) {
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/ws" {
					return false
				}
				_, _ = io.WriteString(w, `{"queue_running":[1]}`)
				return true
			}
		}, "The engine's server sent an answer that is not the expected JSON; the operator must check its address and version."},
		"the result has no end": {func(f *fake) {
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				for r.URL.Path == "/view" {
					if _, err := w.Write(bytes.Repeat([]byte("\x89PNG\r\n\x1a\n"), 1<<12)); err != nil {
						panic(http.ErrAbortHandler)
					}
				}
				return false
			}
		}, "The engine made a file larger than 1 MiB; ask for a smaller output."},
		"the result is no picture": {func(f *fake) { f.picture = []byte("GIF89a") }, "The engine's server sent a file that is neither a PNG, JPEG or WebP picture nor an MP4 or WebM video."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{}
			c.fault(f)
			serve(t, f)
			e := hurried(t, f)
			e.most = 1 << 20
			want := engine.EngineDown
			if strings.Contains(name, "no end") {
				want = engine.BadInput
			}
			task := slowTask(t, slow1)
			_, err := e.Run(t.Context(), task, &listener{})
			if engine.ClassOf(err) != want || engine.MessageOf(err) != c.message {
				t.Errorf("got %s: %v", engine.ClassOf(err), err)
			}
			if f.posts > 1 {
				t.Errorf("%d submissions", f.posts)
			}
			if left, _ := os.ReadDir(task.OutDir); len(left) != 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

// ending checks that a run ends soon after its context, which it ends when told.
func ending(t *testing.T, e *Engine, task engine.Task, when <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := e.Run(ctx, task, &listener{})
		ended <- err
	}()
	select {
	case <-when:
	case err := <-ended:
		t.Fatalf("it ended before it was cancelled: %v", err)
	}
	start := time.Now()
	cancel()
	err := <-ended
	if took := time.Since(start); took > 5*time.Second || engine.ClassOf(err) != engine.Cancelled {
		t.Errorf("%v after the cancel: %v", took, err)
	}
}

func TestACancelFreesTheSlotOfAServerThatHangs(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"/ws", "/queue", "/prompt", "/view"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			f, hanging := &fake{}, make(chan struct{})
			hang := sync.OnceFunc(func() { close(hanging) })
			f.answer = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != where {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body) // else the server does not see the client go
				hang()
				<-r.Context().Done()
				return true
			}
			serve(t, f)
			ending(t, connect(t, f.URL), slowTask(t, quick), hanging)
		})
	}
}

func TestACancelStopsOnlyItsOwnWorkflow(t *testing.T) {
	t.Parallel()
	stepping, queued := make(chan struct{}), make(chan struct{})
	f := &fake{}
	step, look := sync.OnceFunc(func() { close(stepping) }), sync.OnceFunc(func() { close(queued) })
	f.onStep = func(int) { step() }
	f.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.posts == 2 && r.Method+r.URL.Path == "GET/queue" {
			look()
		}
		return false
	}
	serve(t, f)
	e := hurried(t, f)

	// Another one runs; ours waits behind it.
	other := make(chan error, 1)
	go func() {
		_, err := e.Run(t.Context(), slowTask(t, `{"prompt":"x","steps":20,"step_seconds":0.05}`), &listener{})
		other <- err
	}()
	<-stepping
	ending(t, e, slowTask(t, long), queued)
	if err := <-other; err != nil {
		t.Errorf("the other one: %v", err)
	}
	if slices.Contains(f.calls, "POST /interrupt") || !slices.Contains(f.calls, "POST /queue") || len(f.pending) != 0 {
		t.Errorf("calls: %v", f.calls)
	}
}

func TestARepeatOfAnAttemptGoesOnWithItsRun(t *testing.T) {
	t.Parallel()
	stepping := make(chan struct{})
	f := &fake{}
	step := sync.OnceFunc(func() { close(stepping) })
	f.onStep = func(int) { step() }
	serve(t, f)
	task := slowTask(t, slow1)

	first := make(chan error, 1)
	go func() {
		_, err := hurried(t, f).Run(t.Context(), task, &listener{})
		first <- err
	}()
	<-stepping
	sink := &listener{}
	again := task
	again.OutDir = t.TempDir()
	if _, err := hurried(t, f).Run(t.Context(), again, sink); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	if f.posts != 1 || !sink.logged("works on this attempt already") {
		t.Errorf("%d submissions, log %q", f.posts, sink.log)
	}
	if other := task; promptID(other) == promptID(engine.Task{ID: task.ID, Attempt: 2}) {
		t.Error("two attempts have one prompt id")
	}
}
