package openaiserver_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/enginetest"
	"darkroom/workerd/engine/openai"
	"darkroom/workerd/engine/params"
	"darkroom/workerd/openaiserver"
)

// tasks is how the engine openai uses this server.
func tasks(model string) map[string]openai.Task {
	return map[string]openai.Task{
		"single_image": {API: openai.Images, Model: model, Seed: true},
		"travel_segment": {
			API: openai.Videos, Model: model, Seed: true,
			Files:  map[string]string{"start_image": "start_image", "end_image": "end_image"},
			Params: map[string]string{"num_frames": "segment_frames_target", "fps": "fps_helpers"},
		},
	}
}

// TestTheEngineOpenAI has the client's side of this project pass its suite over this server.
func TestTheEngineOpenAI(t *testing.T) { //nolint:paralleltest // the suite watches goroutines
	p := newPainter()
	p.slots = 2
	address := serve(t, openaiserver.Config{Engine: p})
	e, err := openai.New(t.Context(), "painters", openai.Config{URL: address + "/v1", Slots: 2, Tasks: tasks("painter-1")})
	if err != nil {
		t.Fatal(err)
	}
	task := func(taskType, params string, inputs ...engine.Role) func(*testing.T) engine.Task {
		return func(t *testing.T) engine.Task {
			t.Helper()
			return newTask(t, taskType, params, inputs...)
		}
	}
	enginetest.Run(t, enginetest.Subject{
		Engine: e,
		Good:   task("single_image", `{"prompt":"a cat","size":"96x64"}`),
		Long:   task("travel_segment", `{"prompt":"slow","size":"64x64","segment_frames_target":9}`, engine.StartImage, engine.EndImage),
		Bad: map[string]func(*testing.T) engine.Task{
			"a prompt that the engine refuses": task("single_image", `{"prompt":"bad"}`),
			"no prompt":                        task("single_image", `{}`),
			"a video that the engine refuses":  task("travel_segment", `{"prompt":"bad"}`, engine.StartImage, engine.EndImage),
			"too many frames":                  task("travel_segment", `{"prompt":"a","segment_frames_target":100000}`, engine.StartImage, engine.EndImage),
			"an unknown role":                  task("travel_segment", `{"prompt":"a"}`, engine.StartImage, "mask"),
			"params that are no object":        task("single_image", `[]`),
		},
	})
	t.Run("a video", func(t *testing.T) {
		task := newTask(t, "travel_segment", `{"prompt":"a","size":"64x64","segment_frames_target":9}`, engine.StartImage, engine.EndImage)
		result, err := e.Run(t.Context(), task, silent{})
		if err != nil {
			t.Fatal(err)
		}
		file, _ := result.File(engine.Output)
		if data, err := os.ReadFile(file.Path); err != nil || file.MediaType != "video/mp4" || string(data[:len(mp4)]) != mp4 {
			t.Errorf("got %+v, %q, %v", file, data, err)
		}
	})
}

// BenchmarkCancel cancels a video that the engine openai has this server make.
func BenchmarkCancel(b *testing.B) {
	address := serve(b, openaiserver.Config{Engine: newPainter()})
	e, err := openai.New(b.Context(), "painters", openai.Config{URL: address + "/v1", Slots: 1, Tasks: tasks("painter-1")})
	if err != nil {
		b.Fatal(err)
	}
	enginetest.BenchmarkCancel(b, e, func() engine.Task {
		return newTask(b, "travel_segment", `{"prompt":"slow","size":"64x64","segment_frames_target":9}`, engine.StartImage, engine.EndImage)
	})
}

// silent is a sink that nobody listens to.
type silent struct{}

func (silent) Progress(engine.Progress) {}
func (silent) Preview([]byte, string)   {}
func (silent) Log(string)               {}

func newTask(t testing.TB, taskType, raw string, inputs ...engine.Role) engine.Task {
	t.Helper()
	task := engine.Task{ID: uuid.New(), Attempt: 1, Type: taskType, Params: json.RawMessage(raw), OutDir: t.TempDir()}
	for i, role := range inputs {
		data, err := picture("input", int64(i), params.Size{Width: 64, Height: 64})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "input")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		task.Inputs = append(task.Inputs, engine.Input{Path: path, MediaType: "image/png", Role: role})
	}
	return task
}
