package comfyui

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"darkroom/workerd/engine"
)

// write makes a workflow file.
func write(t *testing.T, workflow string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "workflow.json")
	if err := os.WriteFile(file, []byte(workflow), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAWrongConfigurationIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	good := map[string]Task{single: {Workflow: "testdata/picture.json"}}
	workflow := func(text string) map[string]Task { return map[string]Task{single: {Workflow: write(t, text)}} }
	for want, config := range map[string]Config{
		"must begin with http":                {URL: "localhost:8188", Tasks: good},
		"tasks is empty":                      {URL: "http://127.0.0.1:1"},
		"slots is -1":                         {URL: "http://127.0.0.1:1", Tasks: good, Slots: -1},
		"workflow is empty":                   {URL: "http://127.0.0.1:1", Tasks: map[string]Task{single: {}}},
		"read it":                             {URL: "http://127.0.0.1:1", Tasks: map[string]Task{single: {Workflow: "testdata/none.json"}}},
		"is not JSON":                         {URL: "http://127.0.0.1:1", Tasks: workflow("{")},
		"not an object of nodes":              {URL: "http://127.0.0.1:1", Tasks: workflow("[]")},
		"in the format of the editor":         {URL: "http://127.0.0.1:1", Tasks: workflow(`{"nodes":[],"links":[]}`)},
		"lacks class_type or inputs":          {URL: "http://127.0.0.1:1", Tasks: workflow(`{"1":{"inputs":{}}}`)},
		"{{promt}} is no placeholder":         {URL: "http://127.0.0.1:1", Tasks: workflow(`{"1":{"class_type":"A","inputs":{"text":"{{promt}}"}}}`)},
		`no node "9", as output_node has it`:  {URL: "http://127.0.0.1:1", Tasks: map[string]Task{single: {Workflow: "testdata/picture.json", OutputNode: "9"}}},
		"must not hold a user name or passwo": {URL: "http://a:b@127.0.0.1:1", Tasks: good},
	} {
		if _, err := New(t.Context(), "comfyui", config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestTheExamplesAreRight(t *testing.T) {
	t.Parallel()
	e, err := New(t.Context(), "comfyui", Config{URL: "http://127.0.0.1:1", Slots: 2, Tasks: map[string]Task{
		travel: {Workflow: "examples/travel_segment_wan.json", OutputNode: "16"},
		single: {Workflow: "examples/single_image_sdxl.json"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	info := e.Info()
	if info.Device != "comfyui" || info.Slots != 2 || !slices.Equal(info.TaskTypes, []string{single, travel}) || !slices.Equal(info.Models, []string{
		"clip_vision_h.safetensors", "sd_xl_base_1.0.safetensors", "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
		"wan2.1_flf2v_720p_14B_fp16.safetensors", "wan_2.1_vae.safetensors",
	}) {
		t.Errorf("info: %+v", info)
	}
	for taskType, flow := range e.flows {
		total := 0.
		for _, id := range flow.ids {
			total += flow.weight(id)
			for name, input := range flow.nodes[id].Inputs {
				if link, ok := input.([]any); ok && flow.nodes[link[0].(string)].Class == "" {
					t.Errorf("%s: the input %s of node %s comes from nowhere", taskType, name, id)
				}
			}
		}
		if want := map[string]float64{single: 31, travel: 35}[taskType]; total != want {
			t.Errorf("%s: weights sum to %v, want %v", taskType, total, want)
		}
	}
	if err := e.Health(t.Context()); engine.ClassOf(err) != engine.EngineDown || engine.MessageOf(err) != "The engine's server cannot be reached; the task will be tried again." {
		t.Errorf("health of a dead server: %v", err)
	}
}

func TestASamplerWeighsItsSteps(t *testing.T) {
	t.Parallel()
	flow, err := load(Task{Workflow: write(t, `{
		"1": {"class_type":"BasicScheduler","inputs":{"steps":30}},
		"2": {"class_type":"SamplerCustomAdvanced","inputs":{"sigmas":["1",0],"latent_image":["9",0]}},
		"3": {"class_type":"KSampler","inputs":{"steps":"{{params.steps}}","latent_image":["9",0]}},
		"4": {"class_type":"KSampler","inputs":{"steps":1e99,"latent_image":["9",0]}},
		"5": {"class_type":"Odd","inputs":{"sigmas":[1,2],"latent_image":["9",0]}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]float64{"1": 1, "2": 30, "3": 20, "4": 1, "5": 1} {
		if got := flow.weight(id); got != want {
			t.Errorf("node %s weighs %v, want %v", id, got, want)
		}
	}
}

func TestHealthNamesWhatTheServerLacks(t *testing.T) {
	t.Parallel()
	workflow := `{"1":{"class_type":"Load/er","inputs":{"ckpt_name":"a.safetensors"}}}`
	for answer, want := range map[string]string{
		`{}`: `The ComfyUI server lacks the node "Load/er", which the workflow of single_image needs; the operator must install it.`,
		`{"Load/er":{"input":{"required":{"ckpt_name":[["b.safetensors"]]}}}}`:                       `The ComfyUI server lacks the model "a.safetensors", which the workflow of single_image needs; the operator must install it.`,
		`{"Load/er":{"input":{"optional":{"ckpt_name":["COMBO",{"options":["b"]}]}}}}`:               `The ComfyUI server lacks the model "a.safetensors", which the workflow of single_image needs; the operator must install it.`,
		`{"Load/er":{"input":{"required":{"ckpt_name":[["a.safetensors"]]}}}}`:                       "",
		`{"Load/er":{"input":{"required":{"ckpt_name":["COMBO",{"options":["a.safetensors",1]}]}}}}`: "",
		`{"Load/er":{"input":{"required":{"ckpt_name":["STRING",{}]},"hidden":{"x":"PROMPT"}}}}`:     "",
	} {
		f := serve(t, &fake{answer: func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/object_info/Load/er" {
				return false
			}
			_, _ = w.Write([]byte(answer))
			return true
		}})
		e, err := New(t.Context(), "comfyui", Config{URL: f.URL, Tasks: map[string]Task{single: {Workflow: write(t, workflow)}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Health(t.Context()); engine.ClassOf(err) != "" && want == "" || want != "" && engine.MessageOf(err) != want {
			t.Errorf("%s: got %v", answer, err)
		}
	}
}

func TestTheResultIsChosen(t *testing.T) {
	t.Parallel()
	const outputs = `{
		"12:3": {"images":[{"filename":"sub.png","type":"output"}]},
		"9":    {"images":[{"filename":"first.png","subfolder":"d","type":"output"},{"filename":"second.png","type":"output"}],"text":["a"]},
		"10":   {"gifs":[{"filename":"clip.mp4","type":"output","format":"video/h264-mp4"}],"animated":[true]},
		"11":   {"images":[{"filename":"preview.png","type":"temp"}],"audio":[{"filename":"a.flac","type":"output"}],"odd":null}
	}`
	for _, c := range []struct{ configured, without, want string }{
		{"", "", "sub.png"},
		{"", "12:3", "clip.mp4"},
		{"9", "", "first.png"},
		{"11", "", "preview.png"},
		{"7", "", ""},
	} {
		var all map[string]map[string]json.RawMessage
		if err := json.Unmarshal([]byte(outputs), &all); err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(all, func(id string, _ map[string]json.RawMessage) bool { return id == c.without })
		r := &run{flow: &workflow{output: c.configured}, sink: &listener{}}
		got, err := r.choose(all)
		if got.Filename != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: got %+v, %v", c, got, err)
		}
	}
}

func TestTheClassOfAnException(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind, message string
		want          engine.Class
	}{
		{"torch.OutOfMemoryError", "Allocation on device \nThis error means you ran out of memory on your GPU.", engine.OutOfMem},
		{"torch.cuda.OutOfMemoryError", "Allocation on device 0 would exceed allowed memory.", engine.OutOfMem},
		{"RuntimeError", "MPS backend out of memory (MPS allocated: 1 GB)", engine.OutOfMem},
		{"MemoryError", "", engine.OutOfMem},
		{"RuntimeError", "CUDA error: an illegal memory access was encountered", engine.EngineDown},
		{"torch.AcceleratorError", "HIP error: invalid device function", engine.EngineDown},
		{"RuntimeError", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", engine.EngineDown},
		{"safetensors_rust.SafetensorError", "Error while deserializing header", engine.EngineDown},
		{"FileNotFoundError", "[Errno 2] No such file or directory: '/srv/a'", engine.EngineDown},
		{"RuntimeError", "mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)", engine.BadInput},
		{"comfy_execution.graph.DependencyCycleError", "Dependency cycle detected", engine.BadInput},
		{"KeyError", "", engine.BadInput},
	} {
		err := executionError{NodeID: "3", NodeType: "KSampler", Message: c.message, Type: c.kind}.failure()
		if got := engine.ClassOf(err); got != c.want || !strings.Contains(engine.MessageOf(err), "KSampler (node 3)") {
			t.Errorf("%s: got %s: %v", c.kind, got, err)
		}
	}
}

func TestMessagesHideTheServersPaths(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"cannot open '/opt/ComfyUI/input/a.png'": "cannot open 'a.png'",
		`C:\ComfyUI\models\x.pt is broken`:       "x.pt is broken",
		"sizes 64/32 and 1/2 differ":             "sizes 64/32 and 1/2 differ",
		"see https://example.com/a/b":            "see https://example.com/a/b",
		"one\ntwo":                               "one two",
	} {
		if got := plain(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestAFaultOfTheWorkflowIsNotTheTasks(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]engine.Class{
		`{"error":{"type":"invalid_prompt","message":"Cannot execute because node X does not exist."},"node_errors":{}}`:                                                     engine.EngineDown,
		`{"error":{"type":"x"},"node_errors":{"1":{"class_type":"EmptyImage","errors":[{"message":"Value not in list","extra_info":{"input_name":"color"}}]}}}`:              engine.EngineDown,
		`{"error":{"type":"x"},"node_errors":{"1":{"class_type":"EmptyImage","errors":[{"message":"Value too big","extra_info":{"input_name":"width"}}]}}}`:                  engine.BadInput,
		`{"error":{"type":"x"},"node_errors":{"1":{"class_type":"EmptyImage","errors":[{"message":"Exception when validating node","extra_info":{"exception_type":"E"}}]}}}`: engine.BadInput,
		`{"error":"no prompt","node_errors":[]}`: engine.BadInput,
		`nonsense`:                               engine.BadInput,
	} {
		f := serve(t, &fake{answer: func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/prompt" {
				return false
			}
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(answer))
			return true
		}})
		_, err := hurried(t, f).Run(t.Context(), slowTask(t, quick), &listener{})
		if got := engine.ClassOf(err); got != want {
			t.Errorf("%s: got %s: %v", answer, got, err)
		}
		if slices.Contains(f.calls, "POST /interrupt") {
			t.Error("what was not taken is interrupted")
		}
	}
}
