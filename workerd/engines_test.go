package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"image/png"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"darkroom/sql/taskdb"
)

// freeAddress is an address of this machine that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

func TestWorkerdDrawsWithoutAnEnginesFile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	address := freeAddress(t)
	b.start(t, "w", "DARKROOM_ENGINES=", "DARKROOM_SERVE_LISTEN="+address, "DARKROOM_SERVE_KEY=secret")
	task, err := b.CreateTask(t.Context(), taskdb.NewTask{ProjectID: b.project, TaskType: "single_image", Params: json.RawMessage(`{"prompt":"a red apple","size":"128x128"}`)})
	must(t, err)
	for deadline := time.Now().Add(patience); task.Status != taskdb.StatusComplete; time.Sleep(10 * time.Millisecond) {
		task, err = b.GetTask(t.Context(), task.ID)
		must(t, err)
		if time.Now().After(deadline) || task.Status == taskdb.StatusFailed {
			t.Fatalf("%+v", task)
		}
	}
	if task.ThumbnailURL == nil {
		t.Error("no thumbnail")
	}

	// The same engine answers in OpenAI's shape.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/v1/images/generations",
		strings.NewReader(`{"prompt":"a red apple","size":"128x128","response_format":"b64_json"}`))
	must(t, err)
	request.Header.Set("Authorization", "Bearer secret")
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	var got struct {
		Data []struct {
			Picture string `json:"b64_json"`
		}
	}
	must(t, json.Unmarshal(body, &got))
	if response.StatusCode != http.StatusOK || len(got.Data) != 1 {
		t.Fatalf("%d %.300s", response.StatusCode, body)
	}
	picture, err := png.DecodeConfig(base64.NewDecoder(base64.StdEncoding, strings.NewReader(got.Data[0].Picture)))
	if err != nil || picture.Width != 128 || picture.Height != 128 {
		t.Errorf("%+v %v", picture, err)
	}
}

func TestEngineCheckSaysHowTheEnginesAre(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"the built-in ones": {nil, 0, "task types  single_image, travel_segment\n", ""},
		"a server that is not there": {
			[]string{"-engines", enginesFile(t, "engines: [{name: far, kind: openai, url: 'http://127.0.0.1:1/v1', tasks: {single_image: {api: images}}}]")},
			1, "far (openai)\n  task types  single_image\n", "workerd: not all engines are well: far\n",
		},
		"a file with a mistake": {
			[]string{"-engines", enginesFile(t, "engines:\n  - kind: media\n    slot: 3\n")}, 1, "", "workerd: engines.yaml: line 3: unknown field \"slot\"\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"engine", "check"}, test.args...), strings.NewReader(""), &stdout, &stderr)
			if code != test.code || !strings.Contains(stdout.String(), test.stdout) || !strings.HasSuffix(stderr.String(), test.stderr) {
				t.Errorf("%d\n%s\n%s", code, stdout.String(), stderr.String())
			}
		})
	}
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"engine", "dance"}, strings.NewReader(""), io.Discard, &stderr); code != 2 || !strings.Contains(stderr.String(), "engine check") {
		t.Errorf("%d %s", code, stderr.String())
	}
}
