package exec

import (
	"encoding/json"
	"image"
	"image/png"
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/enginetest"
	"darkroom/workerd/engine/native"
	"darkroom/workerd/media"
)

// python finds a Python that can import the modules, or skips the test.
func python(t testing.TB, modules string) string {
	t.Helper()
	for _, program := range []string{"python3", "/usr/bin/python3"} {
		if osexec.Command(program, "-c", "import sys, "+modules+"; assert sys.version_info >= (3, 9)").Run() == nil {
			return program
		}
	}
	t.Skipf("there is no python3 (3.9 or later) with the modules %s", modules)
	return ""
}

// example is the configuration of an example.
func example(t testing.TB, program, task, script string, args ...string) Config {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("examples", script))
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Command: append([]string{program, path}, args...), Tasks: []string{task}, Env: map[string]string{"PYTHONDONTWRITEBYTECODE": "1"},
		pause: 10 * time.Millisecond,
	}
}

func absolute(t testing.TB, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// asking makes tasks with params.
func asking(taskType string, params map[string]any, inputs ...engine.Input) func(t *testing.T) engine.Task {
	return func(t *testing.T) engine.Task {
		t.Helper()
		raw, err := json.Marshal(params)
		if err != nil {
			t.Fatal(err)
		}
		return engine.Task{ID: uuid.New(), Attempt: 1, Type: taskType, Params: raw, Inputs: inputs, OutDir: t.TempDir()}
	}
}

type facts = map[string]any

// TestDiffusersExample runs the example with modules that have the interface of torch and diffusers.
func TestDiffusersExample(t *testing.T) { //nolint:paralleltest // it watches goroutines
	config := example(t, python(t, "json"), "single_image", "diffusers_image.py", "--model", "some/model", "--steps", "20")
	config.Env["PYTHONPATH"] = absolute(t, "testdata/diffusers")
	e := opened(t, config)
	ask := func(params facts) func(t *testing.T) engine.Task { return asking("single_image", params) }
	enginetest.Run(t, enginetest.Subject{
		Engine: e, Good: ask(facts{"prompt": "quick", "size": "128x64"}), Long: ask(facts{"prompt": "slow", "seed": 5}),
		Bad: map[string]func(t *testing.T) engine.Task{
			"no prompt": ask(facts{}), "a number for a prompt": ask(facts{"prompt": 5}), "an odd size": ask(facts{"prompt": "quick", "size": "65x64"}),
			"no size": ask(facts{"prompt": "quick", "size": "large"}), "a width alone": ask(facts{"prompt": "quick", "width": 64}),
		},
	})
	for prompt, want := range map[string]engine.Class{"too much": engine.OutOfMem, "broken": engine.EngineDown} {
		_, err := e.Run(t.Context(), ask(facts{"prompt": prompt})(t), &sink{})
		checkError(t, err, want, "")
	}
	task := ask(facts{"orchestrator_details": facts{"base_prompt": "quick", "seed_base": 7, "parsed_resolution_wh": "72x64"}})(t)
	result, err := e.Run(t.Context(), task, &sink{})
	if err != nil || result.Metadata["seed"] != json.Number("7") || result.Metadata["width"] != json.Number("72") {
		t.Errorf("the params of the orchestrator were not read: %v, %v", result.Metadata, err)
	}
}

// TestWan2GPExample runs the example with a module that has the interface of Headless-Wan2GP.
func TestWan2GPExample(t *testing.T) { //nolint:paralleltest // it watches goroutines
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS("testdata/headless")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "Wan2GP"), 0o700); err != nil {
		t.Fatal(err)
	}
	e := opened(t, example(t, python(t, "json"), "travel_segment", "wan2gp.py", "--root", root, "--model", "some_model"))
	picture := absolute(t, "../../../testdata/pictures/cat.jpg")
	inputs := []engine.Input{{Path: picture, Role: engine.StartImage}, {Path: picture, Role: engine.EndImage}}
	ask := func(prompt string, frames any, inputs ...engine.Input) func(t *testing.T) engine.Task {
		return asking("travel_segment", facts{"base_prompt": prompt, "segment_frames_target": frames, "parsed_resolution_wh": "64x48"}, inputs...)
	}
	enginetest.Run(t, enginetest.Subject{
		Engine: e, Good: ask("quick", 17, inputs...), Long: ask("slow", 18, inputs[0]),
		Bad: map[string]func(t *testing.T) engine.Task{"no start": ask("quick", 17), "no frames": ask("quick", 0, inputs...), "frames as text": ask("quick", "x", inputs...)},
	})
	_, err := e.Run(t.Context(), ask("too much", 17, inputs...)(t), &sink{})
	checkError(t, err, engine.OutOfMem, "")
}

// TestNativeTwinExample holds the example, which really computes with PyTorch, to the picture of the built-in engine.
func TestNativeTwinExample(t *testing.T) { //nolint:paralleltest // it watches goroutines
	e := opened(t, example(t, python(t, "torch, numpy, PIL"), "single_image", "native_twin.py"))
	original, err := native.New(t.Context(), "native", native.Config{Backend: native.BackendGo, Tools: &media.Tools{}})
	if err != nil {
		t.Fatal(err)
	}
	defer original.Close()
	for _, params := range []facts{
		{"prompt": "red apple", "seed": 42},
		{"prompt": "two cats on a blue background", "seed": 7},
		{"prompt": "pizza", "seed": 1 << 53},
		{"prompt": "dragon"}, // its seed comes from the id of the task
	} {
		task := asking("single_image", params)(t)
		pictures := make([]*image.NRGBA, 0, 2)
		for _, drawing := range []engine.Engine{e, original} {
			task.OutDir = t.TempDir()
			result, err := drawing.Run(t.Context(), task, &sink{})
			if err != nil {
				t.Fatal(err)
			}
			pictures = append(pictures, readPNG(t, result.Files[0].Path))
		}
		mean, most := difference(t, pictures[0], pictures[1])
		t.Logf("%v: the pictures differ by %.4f of 255, at most %d", params, mean, most)
		if mean > 0.05 || most > 4 {
			t.Error("that is too much")
		}
	}
	ask := func(params facts) func(t *testing.T) engine.Task { return asking("single_image", params) }
	for name, task := range map[string]func(t *testing.T) engine.Task{
		"unknown words": ask(facts{"prompt": "xyzzy"}), "not square": ask(facts{"prompt": "cat", "size": "64x128"}),
	} {
		_, err := e.Run(t.Context(), task(t), &sink{})
		if engine.ClassOf(err) != engine.BadInput {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func readPNG(t *testing.T, path string) *image.NRGBA {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	img, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	out := image.NewNRGBA(img.Bounds())
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			out.Set(x, y, img.At(x, y))
		}
	}
	return out
}

// difference is the mean and the largest absolute difference of two pictures, of 255.
func difference(t *testing.T, a, b *image.NRGBA) (mean float64, most int) {
	t.Helper()
	if a.Bounds() != b.Bounds() {
		t.Fatalf("the pictures have %v and %v", a.Bounds(), b.Bounds())
	}
	sum := 0
	for i := range a.Pix {
		off := max(int(a.Pix[i])-int(b.Pix[i]), int(b.Pix[i])-int(a.Pix[i]))
		sum, most = sum+off, max(most, off)
	}
	return float64(sum) / float64(len(a.Pix)) * 4 / 3, most // alpha is always equal
}
