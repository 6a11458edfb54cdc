package lineup_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"darkroom/workerd/fetch"
	"darkroom/workerd/lineup"
	"darkroom/workerd/media"
	"darkroom/workerd/worker"
)

// found looks for ffmpeg once.
var found = sync.OnceValues(func() (*media.Tools, error) { return media.Find(context.Background(), os.Stderr) })

func open(t *testing.T, text string) (*lineup.Lineup, error) {
	t.Helper()
	tools, err := found()
	if err != nil {
		t.Fatal(err)
	}
	path := ""
	if text != "" {
		path = filepath.Join(t.TempDir(), "engines.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := lineup.Open(t.Context(), path, 2, tools)
	if err == nil {
		t.Cleanup(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return l, err
}

// described says in short which engines there are.
func described(l *lineup.Lineup) []string {
	var list []string
	for _, e := range l.Engines {
		types := e.Info().TaskTypes
		if e.TaskTypes != nil {
			types = e.TaskTypes
		}
		list = append(list, e.Info().Name+" of "+e.Kind+": "+strings.Join(types, ","))
	}
	return list
}

func TestTheBuiltInEngines(t *testing.T) {
	t.Parallel()
	l, err := open(t, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"native of native: single_image,travel_segment", "media of media: travel_stitch"}
	if got := described(l); !slices.Equal(got, want) || l.Slots() != 4 {
		t.Errorf("got %q with %d slots, want %q with 4", got, l.Slots(), want)
	}
}

func TestAFileNamesTheEngines(t *testing.T) {
	t.Parallel()
	l, err := open(t, `
engines:
  - name: draw
    kind: openai
    url: http://127.0.0.1:1/v1
    slots: 3
    tasks:
      single_image: {api: images}
  - kind: native
    backend: go
inputs:
  single_image: {reference: picture, motion: video}
  travel_segment: {}
capabilities: [flux]
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"draw of openai: single_image", "native of native: single_image,travel_segment", "media of media: travel_stitch"}
	if got := described(l); !slices.Equal(got, want) || l.Slots() != 6 {
		t.Errorf("got %q with %d slots, want %q with 6", got, l.Slots(), want)
	}
	inputs := []worker.Input{{Param: "reference", Kind: fetch.Image}, {Param: "motion", Kind: fetch.Video}}
	if !slices.Equal(l.Inputs["single_image"], inputs) || l.Inputs["travel_segment"] == nil || len(l.Inputs["travel_segment"]) != 0 {
		t.Errorf("inputs %v", l.Inputs)
	}
	if !slices.Equal(l.Capabilities, []string{"flux"}) {
		t.Errorf("capabilities %v", l.Capabilities)
	}
}

func TestAMistakeIsToldWithItsPlace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"no engines":          {"inputs: {}\n", "engines.yaml names no engines: begin it with `engines:` and a list, or leave the setting out for the built-in ones"},
		"an unknown key":      {"engines:\n  - kind: media\nengine: 3\n", `engines.yaml: line 3: unknown field "engine"`},
		"a key of its kind":   {"engines:\n  - kind: media\n    slots: 2\n    url: http://x\n", `engines.yaml: line 4: unknown field "url"`},
		"an unknown kind":     {"engines:\n  - kind: media\n  - kind: magic\n", `engines.yaml: line 3: the kind "magic" is not known: choose`},
		"no kind":             {"engines:\n  - name: x\n", `engines.yaml: line 2: the kind "" is not known: choose`},
		"a name with a blank": {"engines:\n  - kind: native\n    name: my engine\n", `engines.yaml: line 2: the name "my engine" is not usable`},
		"one name twice":      {"engines:\n  - kind: native\n  - kind: native\n", `engines.yaml: line 3: two engines are named native: give one another name`},
		"a word for a number": {"engines:\n  - kind: media\n    slots: many\n", "engines.yaml: line 3: the value must be a whole number"},
		"what an engine says": {"engines:\n  - kind: native\n    backend: abacus\n", `engines.yaml: line 2: the engine native: the backend "abacus" is not known`},
		"an input of no kind": {"engines: [{kind: native}]\ninputs:\n  single_image:\n    image: sound\n", "engines.yaml: line 4: inputs: image is sound; it must be picture or video"},
		"inputs of no engine": {"engines: [{kind: native}]\ninputs: {singel_image: {image: picture}}\n", `engines.yaml: inputs names the task type "singel_image", which none of the engines does`},
		"no YAML":             {"engines: [\n", "engines.yaml: line 1: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := open(t, test.text); err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
	if _, err := lineup.Open(t.Context(), filepath.Join(t.TempDir(), "none"), 1, nil); err == nil || !strings.HasPrefix(err.Error(), "the engines file: ") {
		t.Error(err)
	}
}

// The file that README.md shows can be used, and names each kind.
func TestTheFileInTheReadme(t *testing.T) { //nolint:paralleltest // the environment is the test's
	t.Setenv("OPENAI_API_KEY", "secret")
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	workflow := filepath.Join(t.TempDir(), "workflow.json")
	const graph = `{"1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64}}, "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}}`
	if err := os.WriteFile(workflow, []byte(graph), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := open(t, strings.ReplaceAll(text, "/etc/darkroom/sdxl.json", workflow))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range l.Engines {
		kinds = append(kinds, e.Kind)
	}
	if want := []string{"comfyui", "exec", "openai", "cog", "native", "media"}; !slices.Equal(kinds, want) || len(l.Inputs) != 1 {
		t.Errorf("kinds %v, want %v; inputs %v", kinds, want, l.Inputs)
	}
}
