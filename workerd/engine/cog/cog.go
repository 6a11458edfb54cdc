// Package cog is the engine that runs models packed with Cog, over the HTTP API of their containers. README.md holds the facts about the
// protocol, by Cog's documentation (docs/http.md) and source.
package cog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/remote"
	"darkroom/workerd/engine/template"
)

// Config says where a Cog server is and what to ask of it.
type Config struct {
	URL    string            `yaml:"url"`    // such as "http://127.0.0.1:5000"
	Header map[string]string `yaml:"header"` // sent with every request, for a server behind something that wants a key
	Files  string            `yaml:"files"`  // address of the server that the model's files are fetched from, when it is another one (--upload-url)
	Slots  int               `yaml:"slots"`  // how many predictions the server runs at the same time, 1 when 0
	Tasks  map[string]Task   `yaml:"tasks"`  // by task type
}

// Task says how tasks of one type are done.
type Task struct {
	Input  map[string]any `yaml:"input"`  // the model's input, with the placeholders of package template
	Output string         `yaml:"output"` // name of the file among the model's outputs, where they have names; "" otherwise
}

const (
	// maxInput is the largest input: as base64 it stays below the 100 MB that a server takes.
	maxInput = 64 << 20
	// cancelFor bounds the clean-up after a run that ended early: the slot must be free within a second.
	cancelFor = 800 * time.Millisecond
	// answerFor is how long a server may take to tell its health while it works for us: one before v0.14 doesn't answer then.
	answerFor = 2 * time.Second
)

// namespace makes prediction ids of task ids (RFC 9562, version 5).
var namespace = uuid.MustParse("0b0f6d0a-5a39-4a53-9f3c-7a2d1d0f86e1")

// Engine is an [engine.Engine] that runs predictions on a Cog server.
type Engine struct {
	info   engine.Info
	client *remote.Client
	files  *remote.Client // or nil
	tasks  map[string]recipe
	pace   pace
	most   int64 // bytes of an output

	running atomic.Int32 // predictions that we wait for
	mute    atomic.Bool  // the model does not stream
}

// recipe is a [Task] that was checked.
type recipe struct {
	input  *template.Template
	output string
}

// pace holds the times that tests shorten.
type pace struct {
	busy    time.Duration // how long a server that is busy is asked again
	pause   time.Duration // before it is asked again the first time; doubled from one to the next
	longest time.Duration // the longest such pause
}

// New makes the engine of the given name. The server need not be up. An error is about the configuration.
func New(_ context.Context, name string, c Config) (*Engine, error) {
	header := http.Header{}
	for key, value := range c.Header {
		header.Set(key, value)
	}
	client, err := remote.New(c.URL, header)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", name, err)
	}
	if c.Slots < 0 {
		return nil, fmt.Errorf("engine %s: slots is %d; it must be at least 1", name, c.Slots)
	}
	if len(c.Tasks) == 0 {
		return nil, fmt.Errorf("engine %s: tasks is empty; name the model's input for each task type, such as single_image", name)
	}
	e := &Engine{
		info:   engine.Info{Name: name, Device: "cog", Slots: max(1, c.Slots), TaskTypes: slices.Sorted(maps.Keys(c.Tasks))},
		client: client,
		tasks:  map[string]recipe{},
		pace:   pace{busy: time.Minute, pause: 100 * time.Millisecond, longest: 2 * time.Second},
		most:   engine.MaxOutputBytes,
	}
	if c.Files != "" {
		if e.files, err = remote.New(c.Files, nil); err != nil {
			return nil, fmt.Errorf("engine %s: files: %w", name, err)
		}
	}
	for taskType, task := range c.Tasks {
		if task.Input == nil {
			return nil, fmt.Errorf("engine %s: the input of %s is missing", name, taskType)
		}
		input, err := template.New(task.Input)
		if err != nil {
			return nil, fmt.Errorf("engine %s: the input of %s: %w", name, taskType, err)
		}
		e.tasks[taskType] = recipe{input: input, output: task.Output}
	}
	return e, nil
}

// Info implements [engine.Engine].
func (e *Engine) Info() engine.Info {
	info := e.info
	info.TaskTypes = slices.Clone(info.TaskTypes)
	return info
}

// Health implements [engine.Engine]: the model must have been set up.
func (e *Engine) Health(ctx context.Context) error {
	call, cancel := ctx, context.CancelFunc(func() {})
	working := e.running.Load() > 0
	if working {
		call, cancel = context.WithTimeout(ctx, answerFor)
	}
	defer cancel()
	var health struct {
		Status string `json:"status"`
		Detail string `json:"user_healthcheck_error"`
	}
	if err := e.client.JSON(call, http.MethodGet, "/health-check", nil, &health); err != nil {
		if working && ctx.Err() == nil && engine.ClassOf(err) == engine.Timeout {
			return nil
		}
		return err
	}
	switch health.Status {
	case "READY", "BUSY":
		return nil
	case "STARTING":
		return engine.Errorf(engine.EngineDown, "The model is still being set up; the task will be tried again.")
	default:
		return &engine.Error{
			Class: engine.EngineDown, Message: "The model is out of order; the operator must look at its log.",
			Err: fmt.Errorf("its health is %s: %s", strconv.Quote(health.Status), remote.Quote(health.Detail)),
		}
	}
}

// Run implements [engine.Engine]. A run submits one prediction, and never the same a second time.
func (e *Engine) Run(ctx context.Context, task engine.Task, sink engine.Sink) (engine.Result, error) {
	if err := engine.Stopped(ctx); err != nil {
		return engine.Result{}, err
	}
	how, ok := e.tasks[task.Type]
	if !ok {
		return engine.Result{}, engine.Errorf(engine.BadInput, "The engine %s does not do tasks of the type %s.", e.info.Name, strconv.Quote(task.Type))
	}
	r := &run{
		engine: e, how: how, task: task, sink: sink,
		id: uuid.NewSHA1(namespace, fmt.Appendf(nil, "%s %d", task.ID, task.Attempt)).String(),
	}
	r.tell(0, "preparing")
	body, err := r.request()
	if err != nil {
		return engine.Result{}, err
	}
	made, err := r.predict(ctx, body)
	if err != nil {
		return engine.Result{}, err
	}
	r.tell(stageFetch, "fetching")
	file, err := r.fetch(ctx, made)
	if err != nil {
		return engine.Result{}, err
	}
	facts, err := r.facts(made)
	if err != nil {
		return engine.Result{}, err
	}
	r.tell(stages, "done")
	return engine.Result{Files: []engine.File{file}, Metadata: facts}, nil
}

// prediction is Cog's answer, as far as it is used.
type prediction struct {
	Status  string          `json:"status"` // starting, processing, succeeded, failed or canceled
	Output  json.RawMessage `json:"output"`
	Error   string          `json:"error"`
	Metrics json.RawMessage `json:"metrics"` // an object; predict_time in seconds
}

// failure says why a prediction did not succeed, or nil.
func (p *prediction) failure() error {
	cause := errors.New(remote.Quote(p.Error))
	switch {
	case p.Status == "succeeded":
		return nil
	case p.Status == "canceled":
		return engine.Errorf(engine.EngineDown, "The prediction was cancelled on the model's server; the task will be tried again.")
	case p.Status != "failed":
		return engine.Errorf(engine.EngineDown, "The model's server sent an answer that is no prediction; the operator must check its address and version.")
	case remote.IsOutOfMemory(p.Error):
		return &engine.Error{Class: engine.OutOfMem, Message: "The model ran out of memory; a smaller output may fit.", Err: cause}
	case remote.IsDeviceFailure(p.Error):
		return &engine.Error{Class: engine.EngineDown, Message: "The device of the model's server failed; the task will be tried again.", Err: cause}
	case p.Error == "":
		return engine.Errorf(engine.BadInput, "The model failed and gave no reason.")
	}
	return &engine.Error{Class: engine.BadInput, Message: remote.Sentence("The model failed: " + remote.Quote(p.Error))}
}
