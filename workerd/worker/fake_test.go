package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"darkroom/workerd/engine"
	"darkroom/workerd/media"
)

// found looks for ffmpeg once.
var found = sync.OnceValues(func() (*media.Tools, error) { return media.Find(context.Background(), os.Stderr) })

func tools(t *testing.T) *media.Tools {
	t.Helper()
	tools, err := found()
	must(t, err)
	return tools
}

func mediaEngine(t *testing.T) engine.Engine {
	t.Helper()
	return media.NewEngine(tools(t), 1)
}

// fake is an engine whose runs the test decides.
type fake struct {
	types []string // travel_segment when nil
	slots int      // 1 when 0
	run   func(ctx context.Context, task engine.Task, sink engine.Sink) error
	give  func(task engine.Task) (engine.Result, error) // a small picture when nil
	down  atomic.Bool
}

func (f *fake) Info() engine.Info {
	info := engine.Info{Name: "fake", TaskTypes: []string{"travel_segment"}, Device: "cpu", Slots: max(f.slots, 1)}
	if f.types != nil {
		info.Name, info.TaskTypes = "fake-"+strings.Join(f.types, "-"), f.types
	}
	return info
}

func (f *fake) Health(context.Context) error {
	if f.down.Load() {
		return engine.Errorf(engine.EngineDown, "It is down.")
	}
	return nil
}

func (f *fake) Run(ctx context.Context, task engine.Task, sink engine.Sink) (engine.Result, error) {
	if err := f.run(ctx, task, sink); err != nil {
		return engine.Result{}, err
	}
	if f.give != nil {
		return f.give(task)
	}
	var data bytes.Buffer
	if err := png.Encode(&data, image.NewGray(image.Rect(0, 0, 64, 48))); err != nil {
		return engine.Result{}, fmt.Errorf("fake: %w", err)
	}
	return output(task, "output.png", data.Bytes())
}

// output is the result of a run that made one file.
func output(task engine.Task, name string, data []byte) (engine.Result, error) {
	path := filepath.Join(task.OutDir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return engine.Result{}, fmt.Errorf("fake: %w", err)
	}
	return engine.Result{Files: []engine.File{{Path: path, Role: engine.Output}}}, nil
}

// blocked is an engine whose runs wait for their end, or that of the test.
func blocked() (e *fake, started <-chan engine.Sink, end chan struct{}) {
	begun, end := make(chan engine.Sink, 10), make(chan struct{})
	return &fake{run: func(ctx context.Context, _ engine.Task, sink engine.Sink) error {
		begun <- sink
		select {
		case <-end:
			return nil
		case <-ctx.Done():
			return engine.Stopped(ctx)
		}
	}}, begun, end
}
