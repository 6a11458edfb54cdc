// Package native is Darkroom's built-in engine: small neural nets that draw emoji from words. It needs neither a GPU nor a
// server; README.md says what may be expected of it.
//
//   - single_image: the params prompt, seed and size (512x512 when missing); the output is a PNG.
//   - travel_segment: the inputs and params of the engine media; the frames between are drawn by the nets where both pictures
//     are like those that they were trained on, else they are interpolated as the engine media does.
package native

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
	"darkroom/workerd/media"
)

// SingleImage is the task type of pictures from words.
const SingleImage = "single_image"

// Config are the settings of an engine.
type Config struct {
	Slots   int    `yaml:"slots"`   // tasks at the same time, 1 when missing
	Threads int    `yaml:"threads"` // cores for one task; when missing all, divided among the slots
	Backend string `yaml:"backend"` // [BackendAuto], which is the default, [BackendGo] or [BackendORT]

	// Tools write the videos. When nil they are looked for.
	Tools *media.Tools `yaml:"-"`
}

// Engine is an [engine.Engine].
type Engine struct {
	info  engine.Info
	nets  *nets
	tools *media.Tools
}

// New returns an engine of the given name. The nets are loaded with the first task.
func New(ctx context.Context, name string, c Config) (*Engine, error) {
	if c.Slots < 0 || c.Threads < 0 {
		return nil, fmt.Errorf("the engine %s: slots and threads must not be negative", name)
	}
	slots := max(c.Slots, 1)
	threads := c.Threads
	if threads == 0 {
		threads = max(1, runtime.GOMAXPROCS(0)/slots)
	}
	switch c.Backend {
	case "":
		c.Backend = BackendAuto
	case BackendAuto, BackendGo, BackendORT:
	default:
		return nil, fmt.Errorf("the engine %s: the backend %s is not known: choose %s, %s or %s",
			name, params.Quote(c.Backend), BackendAuto, BackendGo, BackendORT)
	}
	if c.Tools == nil {
		tools, err := media.Find(ctx, nil)
		if err != nil {
			return nil, fmt.Errorf("the engine %s: %w", name, err)
		}
		c.Tools = tools
	}
	backend, err := newBackend(c.Backend, threads, slog.Default().With("engine", name))
	if err != nil {
		return nil, fmt.Errorf("the engine %s: %w", name, err)
	}
	nets, err := newNets(backend)
	if err != nil {
		return nil, fmt.Errorf("the engine %s: %w", name, err)
	}
	return &Engine{
		info: engine.Info{
			Name: name, TaskTypes: []string{SingleImage, media.TravelSegment}, Device: backend.Device(), Slots: slots,
			Models: []string{modelName},
		},
		nets: nets, tools: c.Tools,
	}, nil
}

// Close frees the memory of the nets. No task may run.
func (e *Engine) Close() error { return e.nets.close() }

// Info implements [engine.Engine].
func (e *Engine) Info() engine.Info { return e.info }

// Health implements [engine.Engine]. The nets are part of the program, so all is well.
func (e *Engine) Health(ctx context.Context) error { return engine.Stopped(ctx) }

// Run implements [engine.Engine].
func (e *Engine) Run(ctx context.Context, task engine.Task, sink engine.Sink) (engine.Result, error) {
	if err := engine.Stopped(ctx); err != nil {
		return engine.Result{}, err
	}
	p, err := params.Parse(task.Params)
	if err != nil {
		return engine.Result{}, err
	}
	file := engine.File{Role: engine.Output}
	var facts map[string]any
	switch task.Type {
	case SingleImage:
		file.Path, file.MediaType = filepath.Join(task.OutDir, "output.png"), "image/png"
		facts, err = e.image(ctx, task, p, file.Path, sink)
	case media.TravelSegment:
		file.Path, file.MediaType = filepath.Join(task.OutDir, "output.mp4"), "video/mp4"
		facts, err = e.travel(ctx, task, p, file.Path, sink)
	default:
		err = engine.Errorf(engine.BadInput, "The engine %s does not do tasks of the type %s.", e.info.Name, params.Quote(task.Type))
	}
	if err != nil {
		// The nets return the error of ctx as it is.
		if stopped := engine.Stopped(ctx); stopped != nil {
			return engine.Result{}, stopped
		}
		return engine.Result{}, failed(err)
	}
	facts["engine"], facts["model"], facts["backend"] = e.info.Name, modelName, e.nets.backend.Name()
	return engine.Result{Files: []engine.File{file}, Metadata: facts}, nil
}
