package openaiserver_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/native"
	"darkroom/workerd/engine/openai"
	"darkroom/workerd/media"
	"darkroom/workerd/openaiserver"
)

// TestTheNativeEngineOverHTTP has the built-in nets draw through client and server: the very picture that they draw here.
func TestTheNativeEngineOverHTTP(t *testing.T) { //nolint:paralleltest // the nets want the machine for themselves
	tools, err := media.Find(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	local, err := native.New(t.Context(), "native", native.Config{Tools: tools})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	}()
	address := serve(t, openaiserver.Config{Engine: local})
	distant, err := openai.New(t.Context(), "distant", openai.Config{URL: address + "/v1", Tasks: tasks("")})
	if err != nil {
		t.Fatal(err)
	}
	run := func(e engine.Engine, task engine.Task) []byte {
		t.Helper()
		result, err := e.Run(t.Context(), task, silent{})
		if err != nil {
			t.Fatal(err)
		}
		file, _ := result.File(engine.Output)
		data, err := os.ReadFile(file.Path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	const prompt = `{"prompt":"a red apple","seed":7}`
	here, there := run(local, newTask(t, "single_image", prompt)), run(distant, newTask(t, "single_image", prompt))
	if !bytes.Equal(here, there) {
		t.Errorf("the pictures differ: %d bytes here, %d there", len(here), len(there))
	}
	travel := newTask(t, "travel_segment", `{"prompt":"a red apple","size":"64x64","segment_frames_target":5,"fps_helpers":8}`, engine.StartImage, engine.EndImage)
	run(distant, travel)
	if frames, err := tools.Count(t.Context(), filepath.Join(travel.OutDir, "output.mp4")); err != nil || frames != 5 {
		t.Errorf("the video has %d frames, %v", frames, err)
	}
	t.Run("by the official client", func(t *testing.T) {
		output, err := officialClient(t, "testdata/native.cjs", address+"/v1").Output()
		if err != nil {
			t.Fatalf("%v: %s", err, stderrOf(err))
		}
		if drawn, err := base64.StdEncoding.DecodeString(string(output)); err != nil || !bytes.Equal(here, drawn) {
			t.Errorf("the pictures differ: %d bytes here, %d by the official client, %v", len(here), len(drawn), err)
		}
	})
}
