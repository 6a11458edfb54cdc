package cog

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/enginetest"
	"darkroom/workerd/engine/enginetest/transcript"
)

const (
	single  = "single_image"
	repaint = "repaint"
)

func configure(url string) Config {
	return Config{URL: url, Tasks: map[string]Task{
		single: {Input: map[string]any{
			"prompt": "{{prompt}}", "seed": "{{seed}}", "width": "{{width|64}}", "height": "{{height|64}}",
			"steps": "{{params.steps|4}}", "step_seconds": "{{params.step_seconds|0}}", "failure": "{{params.failure|none}}",
		}},
		repaint: {Input: map[string]any{"prompt": "{{prompt|}}", "image": "{{image.image}}"}},
	}}
}

func connect(t testing.TB, url string) *Engine {
	t.Helper()
	e, err := New(t.Context(), "cog", configure(url))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// listener is a sink that keeps what it is told.
type listener struct {
	mu       sync.Mutex
	progress []float64
	previews []string
	log      []string
}

func (l *listener) Progress(p engine.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress = append(l.progress, p.Value)
}

func (l *listener) Preview(_ []byte, mediaType string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.previews = append(l.previews, mediaType)
}

func (l *listener) Log(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, line)
}

// newTask makes a task that is the same in each run of a scenario.
func newTask(t *testing.T, taskType, params string) engine.Task {
	t.Helper()
	id := uuid.NewSHA1(uuid.NameSpaceURL, []byte("scenario:"+taskType+params))
	return engine.Task{ID: id, Attempt: 1, Type: taskType, Params: json.RawMessage(params), OutDir: t.TempDir()}
}

// drawing makes a PNG of a size.
func drawing(t testing.TB, width, height int) []byte {
	t.Helper()
	picture := image.NewGray(image.Rect(0, 0, width, height))
	picture.SetGray(5, 5, color.Gray{200})
	var data bytes.Buffer
	if err := png.Encode(&data, picture); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}

// scenarios are recorded before real servers and replayed.
var scenarios = map[string]func(t *testing.T, e *Engine){
	"health":    healthy,
	"picture":   makesPicture,
	"repaint":   takesPicture,
	"refused":   isRefused,
	"exception": raises,
}

func healthy(t *testing.T, e *Engine) {
	t.Helper()
	if err := e.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

func makesPicture(t *testing.T, e *Engine) {
	t.Helper()
	sink := &listener{}
	result, err := e.Run(t.Context(), newTask(t, single, `{"prompt":"a {{cat}} \"here\"","seed":9007199254740993,"resolution":"96x64"}`), sink)
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
	if seconds, _ := result.Metadata["predict_seconds"].(float64); result.Metadata["seed"] != int64(9007199254740993) || seconds <= 0 {
		t.Errorf("metadata: %v", result.Metadata)
	}
	if want := []float64{0, 1, 9, 10}; !slices.Equal(slices.Compact(sink.progress), want) {
		t.Errorf("progress: %v, want %v", sink.progress, want)
	}
	if !slices.Contains(sink.log, "the model made 2 files; the last is taken") {
		t.Errorf("log: %q", sink.log)
	}
}

func takesPicture(t *testing.T, e *Engine) {
	t.Helper()
	task := newTask(t, repaint, `{}`)
	file := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(file, drawing(t, 32, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	task.Inputs = []engine.Input{{Path: file, MediaType: "text/plain", Role: "image"}}
	if _, err := e.Run(t.Context(), task, &listener{}); err != nil {
		t.Error(err)
	}
}

func isRefused(t *testing.T, e *Engine) {
	t.Helper()
	wants := map[string]string{`{"prompt":"x","steps":0}`: "steps: ", `{"prompt":"x","failure":"any"}`: "failure: ", `{"prompt":"x","steps":"many"}`: "steps: "}
	for _, params := range slices.Sorted(maps.Keys(wants)) { // in the order of the transcript
		_, err := e.Run(t.Context(), newTask(t, single, params), &listener{})
		if engine.ClassOf(err) != engine.BadInput || !strings.HasPrefix(engine.MessageOf(err), "The engine refused the task: "+wants[params]) {
			t.Errorf("%s: got %s: %v", params, engine.ClassOf(err), err)
		}
	}
}

func raises(t *testing.T, e *Engine) {
	t.Helper()
	wants := map[string]engine.Error{
		"ValueError": {Class: engine.BadInput, Message: "The model failed: the picture is too dark."},
		"memory":     {Class: engine.OutOfMem, Message: "The model ran out of memory; a smaller output may fit."},
		"cuda":       {Class: engine.EngineDown, Message: "The device of the model's server failed; the task will be tried again."},
	}
	for _, failure := range slices.Sorted(maps.Keys(wants)) { // in the order of the transcript
		_, err := e.Run(t.Context(), newTask(t, single, `{"prompt":"x","failure":"`+failure+`"}`), &listener{})
		if want := wants[failure]; engine.ClassOf(err) != want.Class || engine.MessageOf(err) != want.Message {
			t.Errorf("%s: got %s: %v", failure, engine.ClassOf(err), err)
		}
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
				scenario(t, connect(t, transcript.Play(t, filepath.Join(folder, name+".json"))))
			})
		}
	}
}

// TestLive plays the scenarios, and the suite of all engines, before the Cog server at DARKROOM_COG_URL, which must run the model in
// testdata and have nothing else to do. DARKROOM_COG_RECORD names a folder for transcripts, DARKROOM_COG_VERSION what they say of the
// server, and DARKROOM_COG_ROOT a folder that they must not name.
func TestLive(t *testing.T) {
	target := os.Getenv("DARKROOM_COG_URL")
	if target == "" {
		t.Skip("DARKROOM_COG_URL names no Cog server")
	}
	folder := os.Getenv("DARKROOM_COG_RECORD")
	for name, scenario := range scenarios {
		t.Run(name, func(t *testing.T) {
			rec := transcript.Record(t, target, os.Getenv("DARKROOM_COG_ROOT"))
			scenario(t, connect(t, rec.URL()))
			if folder != "" && !t.Failed() {
				rec.Save(t, filepath.Join(folder, name+".json"), os.Getenv("DARKROOM_COG_VERSION"))
			}
		})
	}
	enginetest.Run(t, subject(connect(t, target)))
}
