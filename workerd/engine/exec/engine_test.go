package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	osexec "os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/enginetest"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(testChild); mode != "" {
		childMain(mode)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if err := os.Setenv("DATABASE_URL", "postgres://secret"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// configOf is the configuration of an engine with a child of this mode.
func configOf(mode string) Config {
	return Config{
		Command: []string{os.Args[0]}, Env: map[string]string{testChild: mode}, Tasks: []string{"paint"}, Slots: 2,
		Device: "test:0", HungAfter: 20 * time.Second, pause: 10 * time.Millisecond,
	}
}

// open makes an engine that is closed at the end of the test.
func open(t testing.TB, c Config) *Engine {
	t.Helper()
	e, err := New(t.Context(), "exec", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// opened is open with a child that has become ready.
func opened(t testing.TB, c Config) *Engine {
	t.Helper()
	e := open(t, c)
	if _, err := e.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

func taskOf(t testing.TB, do string) engine.Task {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]string{"do": do})
	if err != nil {
		t.Fatal(err)
	}
	return engine.Task{ID: uuid.New(), Attempt: 1, Type: "paint", Params: raw, OutDir: dir}
}

// sink keeps what a run tells.
type sink struct {
	moving func() // called at progress above 0

	mu       sync.Mutex
	progress []engine.Progress
	previews int
	logs     []string
}

func (s *sink) Progress(progress engine.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress = append(s.progress, progress)
	if progress.Value > 0 && s.moving != nil {
		s.moving()
	}
}

func (s *sink) Preview([]byte, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.previews++
}

func (s *sink) Log(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs = append(s.logs, line)
}

// good runs a good task and returns the process that did it.
func good(t testing.TB, e *Engine) int {
	t.Helper()
	result, err := e.Run(t.Context(), taskOf(t, "good"), &sink{})
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(fmt.Sprint(result.Metadata["pid"]))
	if err != nil {
		t.Fatalf("no pid: %v", result.Metadata)
	}
	return pid
}

func checkError(t testing.TB, err error, class engine.Class, part string) {
	t.Helper()
	if failure, ok := errors.AsType[*engine.Error](err); !ok || failure.Class != class || !strings.Contains(err.Error(), part) {
		t.Errorf("got %q, %v; want %q with %q", engine.ClassOf(err), err, class, part)
	}
	if message := engine.MessageOf(err); !strings.HasSuffix(message, ".") || strings.Contains(message, "/") {
		t.Errorf("no message for the owner of a task: %s", message)
	}
}

func TestEngineConforms(t *testing.T) { //nolint:paralleltest // it watches goroutines
	do := func(what string) func(t *testing.T) engine.Task {
		return func(t *testing.T) engine.Task {
			t.Helper()
			return taskOf(t, what)
		}
	}
	params := func(raw string) func(t *testing.T) engine.Task {
		return func(t *testing.T) engine.Task {
			t.Helper()
			task := taskOf(t, "good")
			task.Params = json.RawMessage(raw)
			return task
		}
	}
	for _, mode := range []string{"good", "stdout", "chatty"} { //nolint:paralleltest // it watches goroutines
		t.Run(mode, func(t *testing.T) {
			enginetest.Run(t, enginetest.Subject{
				Engine: opened(t, configOf(mode)),
				Good:   do("good"),
				Long:   do("long"),
				Bad: map[string]func(t *testing.T) engine.Task{
					"said by the child": do("bad input"), "params that are no object": params(`[1]`), "broken params": params(`{`),
					"params of 1 MiB": params(`{"do":"` + strings.Repeat("x", maxLine) + `"}`),
				},
			})
		})
	}
}

func TestFaultsLoseNoTask(t *testing.T) {
	t.Parallel()
	type fault struct {
		class   engine.Class
		part    string // of the error
		restart bool
	}
	for do, want := range map[string]fault{
		"die":                {engine.EngineDown, "signal: killed", true},
		"leave a grandchild": {engine.EngineDown, "exit status 3", true},
		"garbage":            {engine.EngineDown, "no JSON at all", true},
		"half a line":        {engine.EngineDown, "broke its protocol", true},
		"wrong kind":         {engine.EngineDown, "broke its protocol", true},
		"100 MB line":        {engine.EngineDown, "more than 1 MiB", true},
		"wrong id":           {engine.EngineDown, "which it was not given", true},
		"hang":               {engine.EngineDown, "did not answer", true},
		"outside":            {engine.EngineDown, "outside its output folder", false},
		"dots":               {engine.EngineDown, "outside its output folder", false},
		"link":               {engine.EngineDown, "a link instead of a file", false},
		"linked folder":      {engine.EngineDown, "a link instead of a file", false},
		"missing":            {engine.EngineDown, "not there", false},
		"empty":              {engine.EngineDown, "an empty file", false},
		"folder":             {engine.EngineDown, "no file", false},
		"pipe":               {engine.EngineDown, "no file", false},
		"10 GB":              {engine.EngineDown, "larger than 4 GiB", false},
		"no picture":         {engine.EngineDown, "neither a PNG", false},
		"no files":           {engine.EngineDown, "named no output", false},
		"two outputs":        {engine.EngineDown, "more than one file", false},
		"role":               {engine.EngineDown, "unknown role", false},
		"png thumbnail":      {engine.EngineDown, "no JPEG", false},
		"bad input":          {engine.BadInput, "[Errno 2] No such file: 'a file'.", false},
		"oom":                {engine.OutOfMem, "CUDA out of memory. Tried to allocate 2 GiB.", false},
		"own timeout":        {engine.Timeout, "It took too long.", false},
		"own cancel":         {engine.EngineDown, "nobody had cancelled it", false},
		"unknown code":       {engine.EngineDown, "Broken in two lines.", false},
		"never again":        {engine.BadInput, "Never.", false},
		"no message":         {engine.EngineDown, "the worker's log", false},
	} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			config := configOf("good")
			if do == "hang" {
				config.HungAfter = 2 * time.Second
			}
			e := opened(t, config)
			before := good(t, e)
			task := taskOf(t, do)
			if do == "leave a grandchild" {
				defer waitForEnd(t, filepath.Join(task.OutDir, "fifo"))()
			}
			_, err := e.Run(t.Context(), task, &sink{})
			checkError(t, err, want.class, want.part)
			if after := good(t, e); (before != after) != want.restart {
				t.Errorf("the child was %d, then %d; want a restart: %t", before, after, want.restart)
			}
		})
	}
}

// waitForEnd makes a pipe, and returns a function that waits until nobody holds it open for writing any more.
func waitForEnd(t *testing.T, fifo string) func() {
	t.Helper()
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		reader, err := os.Open(fifo)
		if err == nil {
			_, err = io.Copy(io.Discard, reader)
			reader.Close()
		}
		ended <- err
	}()
	return func() {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Error("a process lives on")
		}
	}
}

func TestWhatIsHarmlessKeepsTheModelWarm(t *testing.T) {
	t.Parallel()
	e := opened(t, configOf("good"))
	before := good(t, e)
	for _, do := range []string{"twice", "flood", "backwards"} {
		s := &sink{}
		if _, err := e.Run(t.Context(), taskOf(t, do), s); err != nil {
			t.Errorf("%s: %v", do, err)
		}
		for i, progress := range s.progress {
			if i > 0 && progress.Value < s.progress[i-1].Value || progress.Value > progress.Max {
				t.Errorf("%s: progress %+v", do, s.progress)
			}
		}
		if last := s.progress[len(s.progress)-1]; last.Value != last.Max {
			t.Errorf("%s: progress ended at %+v", do, last)
		}
		if len(s.logs) > 5000 { // of 10,000; a slow machine takes several times the period of the gate
			t.Errorf("%s: %d lines in the log", do, len(s.logs))
		}
	}
	if after := good(t, e); after != before {
		t.Errorf("restarted: %d, then %d", before, after)
	}
}

func TestRunTellsWhatTheChildTells(t *testing.T) {
	t.Parallel()
	e := opened(t, configOf("good"))
	task, s := taskOf(t, "good"), &sink{}
	task.Attempt = 3
	task.Inputs = []engine.Input{{Path: "/in/1.png", MediaType: "image/png", Role: engine.StartImage}}
	result, err := e.Run(t.Context(), task, s)
	if err != nil {
		t.Fatal(err)
	}
	if want := (engine.Progress{Value: 4, Max: 4, Phase: "done"}); len(s.progress) != 5 || s.progress[4] != want || s.progress[1].Phase != "painting" {
		t.Errorf("progress: %+v", s.progress)
	}
	if s.previews != 1 || !slices.Equal(s.logs, []string{"two lines"}) {
		t.Errorf("%d previews, log %q", s.previews, s.logs)
	}
	if output, ok := result.File(engine.Output); !ok || output.MediaType != "image/png" {
		t.Errorf("files: %+v", result.Files)
	}
	wanted := fmt.Sprint([]any{map[string]any{"media_type": "image/png", "path": "/in/1.png", "role": "start_image"}})
	if got := fmt.Sprint(result.Metadata["inputs"]); got != wanted || result.Metadata["attempt"] != json.Number("3") {
		t.Errorf("the child got the inputs %s and attempt %v", got, result.Metadata["attempt"])
	}
	environment := fmt.Sprint(result.Metadata["environment"])
	if strings.Contains(environment, "DATABASE_URL") || !strings.Contains(environment, "DARKROOM_PROTOCOL_FD=3") || !strings.Contains(environment, "PATH=") {
		t.Errorf("environment: %s", environment)
	}
}

func TestCancelFreesTheSlotWithinASecond(t *testing.T) { //nolint:paralleltest // it measures time
	for do, restart := range map[string]bool{"long": false, "late result": false, "late result twice": false, "disobey": true} { //nolint:paralleltest // it measures time
		t.Run(do, func(t *testing.T) {
			e := opened(t, configOf("good"))
			before := good(t, e)
			if took := cancelled(t, e, do); took > 5*time.Second {
				t.Errorf("the slot was free after %s", took)
			}
			if after := good(t, e); (before != after) != restart {
				t.Errorf("the child was %d, then %d; want a restart: %t", before, after, restart)
			}
		})
	}
}

// cancelled cancels a task that runs, and returns how long its end took.
func cancelled(t testing.TB, e *Engine, do string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked time.Time
	var once sync.Once
	_, err := e.Run(ctx, taskOf(t, do), &sink{moving: func() {
		once.Do(func() {
			asked = time.Now()
			cancel()
		})
	}})
	took := time.Since(asked)
	checkError(t, err, engine.Cancelled, "cancelled")
	return took
}

func TestChildrenThatDoNotGetReady(t *testing.T) {
	t.Parallel()
	for mode, part := range map[string]string{
		"exit":         "No module named 'torch'",
		"mute":         "did not get ready in time",
		"version 2":    "version 2 of the protocol",
		"other tasks":  "does not do paint, only other",
		"one slot":     "1 slots, 2 are configured",
		"garbage":      "first line on fd 3",
		"endless line": "more than 1 MiB",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			config := configOf(mode)
			config.pause = time.Minute // it stays down
			if mode == "mute" {
				config.StartTimeout = 200 * time.Millisecond
			}
			e := open(t, config)
			checkError(t, e.Health(t.Context()), engine.EngineDown, "")
			_, err := e.Run(t.Context(), taskOf(t, "good"), &sink{})
			checkError(t, err, engine.EngineDown, part)
			checkError(t, e.Health(t.Context()), engine.EngineDown, part)
		})
	}
}

func TestAMissingProgramIsDown(t *testing.T) {
	t.Parallel()
	config := configOf("good")
	config.Command = []string{filepath.Join(t.TempDir(), "no-such-program")}
	config.pause = time.Minute
	_, err := open(t, config).Run(t.Context(), taskOf(t, "good"), &sink{})
	checkError(t, err, engine.EngineDown, "cannot be started")
}

func TestRestartsBackOff(t *testing.T) {
	t.Parallel()
	marks := filepath.Join(t.TempDir(), "starts")
	config := configOf("exit|" + marks)
	config.pause = 50 * time.Millisecond
	e := open(t, config)
	const starts = 4
	began := time.Now()
	for {
		e.mu.Lock()
		changed := e.changed
		e.mu.Unlock()
		if data, err := os.ReadFile(marks); err == nil && strings.Count(string(data), "\n") >= starts {
			break
		}
		select {
		case <-changed:
		case <-time.After(time.Minute):
			t.Fatal("it is not started again")
		}
	}
	if took, least := time.Since(began), (1+2+4)*config.pause; took < least {
		t.Errorf("%d starts within %s; at least %s", starts, took, least)
	}
}

func TestRunWaitsForAChildThatLoads(t *testing.T) {
	t.Parallel()
	e := open(t, configOf("good")) // it is not ready yet, as a rule
	good(t, e)
	mute := open(t, configOf("mute"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := mute.Run(ctx, taskOf(t, "good"), &sink{})
	checkError(t, err, engine.Timeout, "")
	checkError(t, mute.Health(t.Context()), engine.EngineDown, "still loading")
}

func TestCloseEndsARun(t *testing.T) {
	t.Parallel()
	e := opened(t, configOf("good"))
	var once sync.Once
	closed := make(chan struct{})
	_, err := e.Run(t.Context(), taskOf(t, "long"), &sink{moving: func() {
		once.Do(func() {
			go func() {
				defer close(closed)
				_ = e.Close()
			}()
		})
	}})
	checkError(t, err, engine.EngineDown, "being closed")
	<-closed
	_, err = e.Run(t.Context(), taskOf(t, "good"), &sink{})
	checkError(t, err, engine.EngineDown, "being closed")
}

// TestChildrenDieWithTheirParent kills a process that has an engine. The pipe is held open by the child.
func TestChildrenDieWithTheirParent(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	wait := waitForEnd(t, fifo)
	parent := osexec.Command(os.Args[0], "-test.run", "^TestParent$")
	parent.Env = append(os.Environ(), "DARKROOM_TEST_PARENT="+fifo)
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	wait()
}

// TestParent is the process that TestChildrenDieWithTheirParent kills.
func TestParent(t *testing.T) {
	t.Parallel()
	fifo := os.Getenv("DARKROOM_TEST_PARENT")
	if fifo == "" {
		t.Skip("runs in a process of its own")
	}
	config := configOf("good")
	config.Command = []string{"sh", "-c", `exec "$0" 9>"$1"`, os.Args[0], fifo}
	opened(t, config)
	fmt.Fprintln(os.Stdout, "ready")
	forever()
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(c *Config){
		"no command":      func(c *Config) { c.Command = nil },
		"empty command":   func(c *Config) { c.Command = []string{""} },
		"no tasks":        func(c *Config) { c.Tasks = nil },
		"empty task":      func(c *Config) { c.Tasks = []string{""} },
		"start_timeout":   func(c *Config) { c.StartTimeout = -1 },
		"hung_after":      func(c *Config) { c.HungAfter = -1 },
		"memory_bytes":    func(c *Config) { c.MemoryBytes = -1 },
		"a bad variable":  func(c *Config) { c.Env = map[string]string{"A=B": "c"} },
		"a variable of 0": func(c *Config) { c.Env = map[string]string{"A": "\x00"} },
	} {
		config := configOf("good")
		change(&config)
		if e, err := New(t.Context(), "exec", config); err == nil {
			_ = e.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestConfigIsReadFromYAML(t *testing.T) {
	t.Parallel()
	const text = `
command: [program, --model, x]
tasks: [paint]
slots: 2
env: {A: b}
dir: /tmp
device: cuda:0
models: [x]
memory_bytes: 25769803776
start_timeout: 30m
hung_after: 90s
`
	want := Config{
		Command: []string{"program", "--model", "x"}, Tasks: []string{"paint"}, Slots: 2, Env: map[string]string{"A": "b"}, Dir: "/tmp",
		Device: "cuda:0", Models: []string{"x"}, MemoryBytes: 24 << 30, StartTimeout: 30 * time.Minute, HungAfter: 90 * time.Second,
	}
	var got Config
	if err := yaml.UnmarshalWithOptions([]byte(text), &got, yaml.Strict()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	for _, chunk := range []int{1, 2, 3, 100} {
		var got []string
		l := &lines{limit: 4, each: func(line []byte, whole bool) { got = append(got, fmt.Sprintf("%s %t", line, whole)) }}
		for text := range slices.Chunk([]byte("ab\n\ncdef\ncdefg\ncdefghijklm\nno\nend"), chunk) {
			if n, err := l.Write(text); n != len(text) || err != nil {
				t.Fatal(n, err)
			}
		}
		l.end()
		want := []string{"ab true", "cdef true", "cdef false", "cdef false", "no true", "end true"}
		if !slices.Equal(got, want) {
			t.Errorf("in chunks of %d: %q", chunk, got)
		}
	}
}

// BenchmarkCancel measures the time from a cancel to the free slot, of a child that obeys and of one that must be killed.
func BenchmarkCancel(b *testing.B) {
	for _, do := range []string{"long", "disobey"} {
		b.Run(do, func(b *testing.B) {
			e := opened(b, configOf("good"))
			enginetest.BenchmarkCancel(b, e, func() engine.Task { return taskOf(b, do) })
		})
	}
}

// BenchmarkRun measures what the engine adds to the work of a warm child.
func BenchmarkRun(b *testing.B) {
	e := opened(b, configOf("good"))
	for b.Loop() {
		good(b, e)
	}
}
