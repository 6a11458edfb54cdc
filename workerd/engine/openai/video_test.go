package openai_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/openai"
)

// travel is a task type for vLLM-Omni, whose form has these fields.
var travel = map[string]openai.Task{"travel_segment": {
	API: openai.Videos, Model: "wan", Seed: true,
	Files:  map[string]string{"start_image": "input_reference", "end_image": "last_input_reference"},
	Params: map[string]string{"num_frames": "segment_frames_target", "fps": "fps_helpers"},
}}

// film is a task type for a prompt alone.
var film = map[string]openai.Task{"film": {API: openai.Videos}}

func TestTheVideoAndItsRequest(t *testing.T) {
	t.Parallel()
	b, e := start(t, map[string][]http.HandlerFunc{
		"POST /v1/videos": {says(200, `{"id":"video/1","status":"queued","progress":0}`)},
		"GET /v1/videos/video/1": {
			says(200, `{"id":"video/1","status":"in_progress","progress":40}`), says(503, ""), says(200, `{"id":"video/1","status":"completed","progress":100}`),
		},
		"GET /v1/videos/video/1/content": {says(500, ""), says(200, mp4)},
	}, travel)
	sink := &noting{}
	task := newTask(t, "travel_segment", `{"orchestrator_details":{"base_prompt":"a walk","fps_helpers":16,"seed_base":3,"parsed_resolution_wh":"64x32"},"segment_frames_target":17}`,
		input(t, engine.StartImage, pictureBytes), input(t, engine.EndImage, pictureBytes+"end"))
	result, err := e.Run(t.Context(), task, sink)
	if err != nil {
		t.Fatal(err)
	}
	file, _ := result.File(engine.Output)
	if data, err := os.ReadFile(file.Path); err != nil || string(data) != mp4 || file.MediaType != "video/mp4" {
		t.Errorf("got %+v, %v", file, err)
	}
	if got, want := result.Metadata["seed"], int64(3); got != want {
		t.Errorf("the seed is %v", got)
	}
	fields := map[string]string{
		"prompt": "a walk", "model": "wan", "size": "64x32", "seed": "3", "num_frames": "17", "fps": "16",
		"input_reference": "input.png image/png " + pictureBytes, "last_input_reference": "input.png image/png " + pictureBytes + "end",
	}
	if got := b.requests()[0].fields; !maps.Equal(got, fields) {
		t.Errorf("the request has %q, want %q", got, fields)
	}
	if got, want := strings.Join(b.list(), ", "), "POST /v1/videos, GET /v1/videos/video/1, GET /v1/videos/video/1/content"; got != want {
		t.Errorf("got the requests %s, want %s", got, want)
	}
	if got, want := strings.Join(sink.phases, ", "), "waiting 0, queued 0, generating 40, downloading 95, done 100"; got != want {
		t.Errorf("got the progress %s, want %s", got, want)
	}
	if len(sink.lines) != 2 {
		t.Errorf("the repeats are told as %q", sink.lines)
	}
}

// noting is a sink that notes what it is told.
type noting struct {
	quiet

	phases, lines []string
}

// Progress implements [engine.Sink].
func (n *noting) Progress(p engine.Progress) {
	n.phases = slices.Compact(append(n.phases, fmt.Sprintf("%s %g", p.Phase, p.Value)))
}

// Log implements [engine.Sink].
func (n *noting) Log(line string) { n.lines = append(n.lines, line) }

func TestVideosAsJSON(t *testing.T) {
	t.Parallel()
	b, e := start(t, map[string][]http.HandlerFunc{
		// NVIDIA Dynamo answers when it is done.
		"POST /v1/videos": {says(200, `{"id":"1","status":"completed","data":[{"b64_json":"`+base64.StdEncoding.EncodeToString([]byte(mp4))+`"}]}`)},
	}, map[string]openai.Task{"film": {API: openai.Videos, JSON: true, Extra: map[string]any{"nvext": map[string]any{"fps": 16}}}})
	result, err := e.Run(t.Context(), newTask(t, "film", `{"prompt":"a"}`), quiet{})
	if err != nil {
		t.Fatal(err)
	}
	if file, _ := result.File(engine.Output); file.MediaType != "video/mp4" {
		t.Errorf("got %+v", file)
	}
	if got, want := b.requests()[0].fields, map[string]string{"prompt": `"a"`, "nvext": `{"fps":16}`}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestVideosThatFail(t *testing.T) {
	t.Parallel()
	with := func(failure string) http.HandlerFunc {
		return says(200, `{"id":"1","status":"failed","error":`+failure+`}`)
	}
	for name, test := range map[string]struct {
		created, state, content http.HandlerFunc
		class                   engine.Class
		words                   string
	}{
		"refused":         {says(400, `{"detail":"no such size"}`), nil, nil, engine.BadInput, "no such size"},
		"no id":           {says(200, `{}`), nil, nil, engine.EngineDown, "did not name"},
		"no reason":       {nil, with("null"), nil, engine.EngineDown, "gave no reason"},
		"some failure":    {nil, with(`{"code":"internal_error","message":"/home/me/x.py failed"}`), nil, engine.EngineDown, "failed to make the video"},
		"moderation":      {nil, with(`{"code":"moderation_blocked","message":"No"}`), nil, engine.BadInput, "rules for content: No."},
		"out of memory":   {nil, with(`{"code":500,"message":"CUDA out of memory. Tried to"}`), nil, engine.OutOfMem, "out of memory"},
		"oom by our code": {nil, with(`{"code":"oom","message":"x"}`), nil, engine.OutOfMem, "out of memory"},
		"bad by a number": {nil, with(`{"code":400,"message":"num_frames too large"}`), nil, engine.BadInput, "num_frames too large."},
		"bad by our code": {nil, with(`{"code":"bad_input","message":"Too many frames."}`), nil, engine.BadInput, "Too many frames."},
		"called off":      {nil, says(200, `{"id":"1","status":"cancelled"}`), nil, engine.EngineDown, "gave no reason"},
		"lost":            {nil, says(404, ""), nil, engine.EngineDown, "has lost the video"},
		"withheld":        {nil, says(401, ""), nil, engine.EngineDown, "does not give out"},
		"no content":      {nil, nil, says(404, ""), engine.EngineDown, "has lost the video"},
		"a picture":       {nil, nil, says(200, pictureBytes), engine.EngineDown, "wrong kind"},
		"a page":          {nil, nil, says(200, "<html>"), engine.EngineDown, "neither a PNG"},
		"broken content": {nil, nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			_, _ = io.WriteString(w, mp4)
		}, engine.EngineDown, "broke off"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers := map[string][]http.HandlerFunc{
				"POST /v1/videos": {says(200, `{"id":"1","status":"queued"}`)}, "GET /v1/videos/1": {says(200, `{"id":"1","status":"completed"}`)},
				"DELETE /v1/videos/1": {says(200, `{}`)},
			}
			for what, handler := range map[string]http.HandlerFunc{"POST /v1/videos": test.created, "GET /v1/videos/1": test.state, "GET /v1/videos/1/content": test.content} {
				if handler != nil {
					answers[what] = []http.HandlerFunc{handler}
				}
			}
			b, e := start(t, answers, film)
			task := newTask(t, "film", `{"prompt":"a"}`)
			_, err := e.Run(t.Context(), task, quiet{})
			failed(t, task, err, test.class, test.words)
			if message := engine.MessageOf(err); strings.Contains(message, "/home") {
				t.Errorf("the message shows a path of the server: %s", message)
			}
			if deleted := slices.Contains(b.list(), "DELETE /v1/videos/1"); deleted != (test.created == nil) {
				t.Errorf("called off: %t; the requests were %v", deleted, b.list())
			}
		})
	}
}

// TestACancelledVideoIsCalledOff cancels in every place where a run can wait.
func TestACancelledVideoIsCalledOff(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, test := range map[string]struct {
		at      string // the request during which the run is cancelled
		handler http.HandlerFunc
		deleted bool
	}{
		"while it is created": {"POST /v1/videos", func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(100 * time.Millisecond) // the answer comes a little after the cancel
			says(200, `{"id":"1","status":"queued"}`)(w, r)
		}, true},
		"while its creation hangs": {"POST /v1/videos", hang, false},
		"between polls":            {"GET /v1/videos/1", says(200, `{"id":"1","status":"in_progress","progress":5}`), true},
		"while a poll hangs":       {"GET /v1/videos/1", hang, true},
		"while the server is gone": {"GET /v1/videos/1", says(503, ""), true},
		"while it is downloaded": {"GET /v1/videos/1/content", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, mp4)
			_ = http.NewResponseController(w).Flush()
			hang(w, r)
		}, true},
	} {
		for how, deleting := range map[string]http.HandlerFunc{"": says(200, "{}"), ", and calling off hangs": hang} {
			t.Run(name+how, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				cancelled := make(chan time.Time, 1)
				answers := map[string][]http.HandlerFunc{
					"POST /v1/videos": {says(200, `{"id":"1","status":"queued"}`)}, "GET /v1/videos/1": {says(200, `{"id":"1","status":"completed"}`)},
					"DELETE /v1/videos/1": {deleting},
				}
				answers[test.at] = []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
					select {
					case cancelled <- time.Now():
						cancel()
					default: // a later poll
					}
					test.handler(w, r)
				}}
				b, e := start(t, answers, film)
				task := newTask(t, "film", `{"prompt":"a"}`)
				_, err := e.Run(ctx, task, quiet{})
				if took := time.Since(<-cancelled); took > 5*time.Second {
					t.Errorf("it took %v to end", took)
				}
				failed(t, task, err, engine.Cancelled, "cancelled")
				if deleted := slices.Contains(b.list(), "DELETE /v1/videos/1"); deleted != test.deleted {
					t.Errorf("called off: %t; the requests were %v", deleted, b.list())
				}
			})
		}
	}
}

func TestALateVideoIsATimeout(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	b, e := start(t, map[string][]http.HandlerFunc{
		"POST /v1/videos": {says(200, `{"id":"1","status":"queued"}`)}, "GET /v1/videos/1": {says(200, `{"id":"1","status":"in_progress"}`)},
	}, film)
	task := newTask(t, "film", `{"prompt":"a"}`)
	_, err := e.Run(ctx, task, quiet{})
	failed(t, task, err, engine.Timeout, "longer")
	if !slices.Contains(b.list(), "DELETE /v1/videos/1") {
		t.Errorf("it was not called off: %v", b.list())
	}
}

func TestTheLimitOfRequestsIsHeededWhilePolling(t *testing.T) {
	t.Parallel()
	limited := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	_, e := start(t, map[string][]http.HandlerFunc{
		"POST /v1/videos": {says(200, `{"id":"1","status":"queued"}`)}, "GET /v1/videos/1": {limited, says(200, `{"id":"1","status":"completed"}`)},
		"GET /v1/videos/1/content": {says(200, mp4)},
	}, film)
	began := time.Now()
	if _, err := e.Run(t.Context(), newTask(t, "film", `{"prompt":"a"}`), quiet{}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("it waited for %v only", took)
	}
}
