package openaiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/google/uuid"

	"darkroom/workerd/engine"
)

// Task types that are asked of the engine.
const (
	singleImage   = "single_image"
	travelSegment = "travel_segment"
)

// maxSeed is the largest seed; every generator takes 31 bits.
const maxSeed = 1<<31 - 1

// wantedModel reads which model is asked for.
func (s *Server) wantedModel(f *fields) string {
	name := f.text("model")
	if name == "" {
		return s.models[0]
	}
	if !slices.Contains(s.models, name) {
		f.blame(s.noModel(name))
	}
	return name
}

// seed reads the seed, which OpenAI's API does not have; one by chance when there is none.
func (f *fields) seed() int64 {
	if seed, found := f.whole("seed", 0, maxSeed); found {
		return seed
	}
	return rand.Int64N(maxSeed)
}

// run has the engine do one task in a folder of its own under folder, and returns the files it made.
func (s *Server) run(ctx context.Context, folder, taskType string, params map[string]any, inputs []engine.Input, progress func(engine.Progress)) (engine.Result, error) {
	raw, err := json.Marshal(params)
	if err != nil {
		return engine.Result{}, fmt.Errorf("write the params: %w", err)
	}
	out, err := os.MkdirTemp(folder, "out-")
	if err != nil {
		return engine.Result{}, noRoom(err)
	}
	task := engine.Task{ID: uuid.New(), Attempt: 1, Type: taskType, Params: raw, Inputs: inputs, OutDir: out}
	result, err := s.config.Run(ctx, task, sink{s: s, progress: progress})
	if err != nil {
		return engine.Result{}, err
	}
	if _, ok := result.File(engine.Output); !ok {
		return engine.Result{}, engine.Errorf(engine.EngineDown, "The engine made no output.")
	}
	return result, nil
}

// drawPicture makes a picture from a prompt and returns its file.
func (s *Server) drawPicture(ctx context.Context, folder, prompt, size string, seed int64, progress func(engine.Progress)) (engine.File, error) {
	params := map[string]any{"prompt": prompt, "seed": seed}
	if size != "" {
		params["size"] = size
	}
	result, err := s.run(ctx, folder, singleImage, params, nil, progress)
	if err != nil {
		return engine.File{}, err
	}
	file, _ := result.File(engine.Output)
	return file, nil
}

// sink takes what the engine tells.
type sink struct {
	s        *Server
	progress func(engine.Progress)
}

// Progress implements [engine.Sink].
func (s sink) Progress(p engine.Progress) { s.progress(p) }

// Preview implements [engine.Sink]. The API has no place for unfinished results.
func (s sink) Preview([]byte, string) {}

// Log implements [engine.Sink].
func (s sink) Log(line string) { s.s.config.Log.Info("engine", "line", line) }
