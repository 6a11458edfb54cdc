package comfyui

import (
	"bytes"
	"context"
	"encoding/json"
	"image"
	"image/color"
	_ "image/jpeg" // previews
	"image/png"
	"maps"
	"net/http"
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
	"darkroom/workerd/engine/enginetest/transcript"
)

const (
	single = "single_image"
	travel = "travel_segment"
)

func connect(t testing.TB, url string) *Engine {
	t.Helper()
	e, err := New(t.Context(), "comfyui", Config{URL: url, Tasks: map[string]Task{
		single: {Workflow: "testdata/picture.json"},
		travel: {Workflow: "testdata/travel.json", OutputNode: "6"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// listener is a sink that keeps what it is told.
type listener struct {
	onProgress func(engine.Progress)

	mu       sync.Mutex
	progress []engine.Progress
	previews []string
	log      []string
}

func (l *listener) Progress(p engine.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress = append(l.progress, p)
	if l.onProgress != nil {
		l.onProgress(p)
	}
}

func (l *listener) Preview(data []byte, mediaType string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, _, err := image.DecodeConfig(bytes.NewReader(data)); err != nil {
		mediaType = err.Error()
	}
	l.previews = append(l.previews, mediaType)
}

func (l *listener) Log(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, line)
}

func (l *listener) logged(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.log, func(line string) bool { return strings.Contains(line, part) })
}

// newTask makes a task that is the same in each run of a scenario.
func newTask(t *testing.T, name, taskType, params string) engine.Task {
	t.Helper()
	id := uuid.NewSHA1(uuid.NameSpaceURL, []byte("scenario:"+name))
	return engine.Task{ID: id, Attempt: 1, Type: taskType, Params: json.RawMessage(params), OutDir: t.TempDir()}
}

func drawing(t *testing.T, role engine.Role, shade uint8) engine.Input {
	t.Helper()
	picture := image.NewGray(image.Rect(0, 0, 32, 32))
	picture.SetGray(5, 5, color.Gray{shade})
	var data bytes.Buffer
	if err := png.Encode(&data, picture); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "in.png")
	if err := os.WriteFile(file, data.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return engine.Input{Path: file, MediaType: "image/png", Role: role}
}

// stage is where a scenario plays: before a real server, or a transcript of it.
type stage struct {
	engine *Engine
	old    bool   // a server that gives prompts ids of its own
	settle func() // waits until the server has nothing to do
}

// scenarios are recorded before real servers and replayed.
var scenarios = map[string]func(t *testing.T, s stage){
	"health":    healthy,
	"picture":   makesPicture,
	"travel":    makesTravel,
	"refused":   isRefused,
	"exception": raises,
	"cancel":    isCancelled,
	"again":     runsAgain,
}

func healthy(t *testing.T, s stage) {
	t.Helper()
	if err := s.engine.Health(t.Context()); err != nil {
		t.Error(err)
	}
	if info := s.engine.Info(); info.Device != "cpu" || info.MemoryBytes < 1<<30 {
		t.Errorf("info: %+v", info)
	}
}

func makesPicture(t *testing.T, s stage) {
	t.Helper()
	task, sink := newTask(t, "picture", single, `{"prompt":"a {{cat}} \"here\"","seed":18014398509481985,"resolution":"96x64"}`), &listener{}
	result, err := s.engine.Run(t.Context(), task, sink)
	if err != nil {
		t.Fatal(err)
	}
	file, ok := result.File(engine.Output)
	if !ok || file.MediaType != "image/png" || filepath.Base(file.Path) != "output.png" {
		t.Fatalf("files: %+v", result.Files)
	}
	data, err := os.ReadFile(file.Path)
	if err != nil {
		t.Fatal(err)
	}
	if config, err := png.DecodeConfig(bytes.NewReader(data)); err != nil || config.Width != 96 || config.Height != 64 {
		t.Errorf("the picture: %+v, %v", config, err)
	}
	if result.Metadata["seed"] != json.Number("18014398509481985") || result.Metadata["prompt_id"] == "" {
		t.Errorf("metadata: %v", result.Metadata)
	}
	if len(sink.previews) == 0 || slices.ContainsFunc(sink.previews, func(kind string) bool { return kind != "image/jpeg" }) {
		t.Errorf("previews: %v", sink.previews)
	}
	var seen []float64
	for _, p := range sink.progress {
		seen = append(seen, p.Value)
	}
	// One for the first node, 20 for 4 steps, one for the last node and one for fetching.
	if want := []float64{0, 1, 6, 11, 16, 21, 22, 23}; !slices.Equal(slices.Compact(seen), want) {
		t.Errorf("progress: %v, want %v", seen, want)
	}
	if last := sink.progress[len(sink.progress)-1]; last != (engine.Progress{Value: 23, Max: 23, Phase: "done"}) {
		t.Errorf("last progress: %+v", last)
	}
	if s.old != sink.logged("older than July 2025") {
		t.Errorf("log: %q", sink.log)
	}
}

func makesTravel(t *testing.T, s stage) {
	t.Helper()
	task := newTask(t, "travel", travel, `{}`)
	task.Inputs = []engine.Input{drawing(t, engine.StartImage, 10), drawing(t, engine.EndImage, 250)}
	result, err := s.engine.Run(t.Context(), task, &listener{})
	if err != nil {
		t.Fatal(err)
	}
	if file, _ := result.File(engine.Output); file.MediaType != "image/webp" {
		t.Errorf("files: %+v", result.Files)
	}
}

func isRefused(t *testing.T, s stage) {
	t.Helper()
	wants := map[string]string{
		`{"prompt":"x","steps":0}`:        "ComfyUI refuses what the task gives: DarkroomSlow (node 2): Value 0 smaller than min of 1: steps.",
		`{"prompt":"x","failure":"none"}`: "ComfyUI refuses what the task gives: DarkroomSlow (node 2): Value not in list: failure: 'none' not in ['', 'ValueError', 'OSError', 'memory', 'cuda'].",
	}
	for _, params := range slices.Sorted(maps.Keys(wants)) { // in the order of the transcript
		want := wants[params]
		_, err := s.engine.Run(t.Context(), newTask(t, params, single, params), &listener{})
		if engine.ClassOf(err) != engine.BadInput || engine.MessageOf(err) != want {
			t.Errorf("%s: got %s: %v", params, engine.ClassOf(err), err)
		}
	}
}

func raises(t *testing.T, s stage) {
	t.Helper()
	wants := map[string]engine.Error{
		"ValueError": {Class: engine.BadInput, Message: "The workflow failed in DarkroomSlow (node 2): the picture in a.png is too dark."},
		"OSError":    {Class: engine.EngineDown, Message: "The ComfyUI server failed in DarkroomSlow (node 2); the task will be tried again."},
		"memory":     {Class: engine.OutOfMem, Message: "The engine ran out of memory in DarkroomSlow (node 2); a smaller output may fit."},
		"cuda":       {Class: engine.EngineDown, Message: "The device of the ComfyUI server failed in DarkroomSlow (node 2); the task will be tried again."},
	}
	for _, failure := range slices.Sorted(maps.Keys(wants)) { // in the order of the transcript
		want := wants[failure]
		_, err := s.engine.Run(t.Context(), newTask(t, failure, single, `{"prompt":"x","failure":"`+failure+`"}`), &listener{})
		if engine.ClassOf(err) != want.Class || engine.MessageOf(err) != want.Message {
			t.Errorf("%s: got %s: %v", failure, engine.ClassOf(err), err)
		}
	}
}

// cancelMidway runs a task and cancels it at its first step.
func cancelMidway(t *testing.T, s stage, task engine.Task) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var cancelled time.Time
	_, err := s.engine.Run(ctx, task, &listener{onProgress: func(p engine.Progress) {
		if p.Value > 1 && cancelled.IsZero() {
			cancelled = time.Now()
			cancel()
		}
	}})
	if took := time.Since(cancelled); engine.ClassOf(err) != engine.Cancelled || took > 5*time.Second {
		t.Errorf("%v after the cancel: %v", took, err)
	}
	t.Logf("free %v after the cancel", time.Since(cancelled))
}

func isCancelled(t *testing.T, s stage) {
	t.Helper()
	cancelMidway(t, s, newTask(t, "cancel", single, `{"prompt":"x","steps":100,"step_seconds":0.1}`))
	s.settle()
}

// runsAgain runs attempts that the server knows already: one that was interrupted, and one that is done.
func runsAgain(t *testing.T, s stage) {
	t.Helper()
	task := newTask(t, "again", single, `{"prompt":"x","steps":8,"step_seconds":0.1}`)
	cancelMidway(t, s, task)
	s.settle()
	task.OutDir = t.TempDir()
	if _, err := s.engine.Run(t.Context(), task, &listener{}); err != nil {
		t.Fatal(err)
	}
	sink := &listener{}
	task.OutDir = t.TempDir()
	if _, err := s.engine.Run(t.Context(), task, sink); err != nil {
		t.Fatal(err)
	}
	if s.old == sink.logged("has the result of this attempt already") {
		t.Errorf("it ran again: %q", sink.log)
	}
}

// TestReplay plays the scenarios before transcripts of real servers.
func TestReplay(t *testing.T) {
	t.Parallel()
	folders, err := filepath.Glob("testdata/v*")
	if err != nil || len(folders) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, folder := range folders {
		for name, scenario := range scenarios {
			t.Run(filepath.Base(folder)+"/"+name, func(t *testing.T) {
				t.Parallel()
				url := transcript.Play(t, filepath.Join(folder, name+".json"))
				scenario(t, stage{engine: connect(t, url), old: strings.Contains(folder, "old"), settle: func() {}})
			})
		}
	}
}

// TestLive plays the scenarios, and the suite of all engines, before the ComfyUI server at DARKROOM_COMFYUI_URL, which must have
// testdata/darkroom_nodes.py among its custom nodes and nothing else to do: its history is cleared. DARKROOM_COMFYUI_RECORD names a
// folder for transcripts, DARKROOM_COMFYUI_VERSION what they say of the server, and DARKROOM_COMFYUI_ROOT a folder that they must not name.
func TestLive(t *testing.T) {
	target := os.Getenv("DARKROOM_COMFYUI_URL")
	if target == "" {
		t.Skip("DARKROOM_COMFYUI_URL names no ComfyUI server")
	}
	folder := os.Getenv("DARKROOM_COMFYUI_RECORD")
	direct := connect(t, target)
	old := strings.Contains(os.Getenv("DARKROOM_COMFYUI_VERSION"), "2024")
	settle := func() {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			var left struct {
				Exec struct {
					Remaining int `json:"queue_remaining"`
				} `json:"exec_info"`
			}
			if err := direct.get(t.Context(), "/prompt", &left); err != nil || time.Now().After(deadline) {
				t.Fatal("the server's queue is not empty", err)
			}
			if left.Exec.Remaining == 0 {
				return
			}
		}
	}
	for name, scenario := range scenarios {
		t.Run(name, func(t *testing.T) {
			for path, body := range map[string]any{"/history": map[string]bool{"clear": true}, "/free": map[string]bool{"free_memory": true}} {
				if err := direct.client.JSON(t.Context(), http.MethodPost, path, body, nil); err != nil {
					t.Fatal(err)
				}
			}
			rec := transcript.Record(t, target, os.Getenv("DARKROOM_COMFYUI_ROOT"))
			scenario(t, stage{engine: connect(t, rec.URL()), old: old, settle: settle})
			if folder != "" && !t.Failed() {
				rec.Save(t, filepath.Join(folder, name+".json"), os.Getenv("DARKROOM_COMFYUI_VERSION"))
			}
		})
	}
	t.Run("websocket breaks", func(t *testing.T) {
		rec := transcript.Record(t, target, "")
		sink := &listener{onProgress: func(engine.Progress) { rec.Drop() }}
		task := slowTask(t, `{"prompt":"x","steps":10,"step_seconds":0.3}`)
		if _, err := connect(t, rec.URL()).Run(t.Context(), task, sink); err != nil {
			t.Error(err)
		}
		if posts, sockets := rec.Count("POST /prompt"), rec.Count("GET /ws"); posts != 1 || sockets < 3 {
			t.Errorf("%d submissions over %d websockets", posts, sockets)
		}
	})
	enginetest.Run(t, subject(direct))
}
