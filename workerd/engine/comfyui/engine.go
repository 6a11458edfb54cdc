// Package comfyui is the engine that runs workflows on a ComfyUI server, over its HTTP API and websocket. README.md holds the facts
// about the protocol, by ComfyUI's source (server.py, execution.py, main.py).
package comfyui

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/remote"
)

// Config says where a ComfyUI server is and what to run there.
type Config struct {
	URL    string            `yaml:"url"`    // such as "http://127.0.0.1:8188"
	Header map[string]string `yaml:"header"` // sent with every request, for a server behind something that wants a key
	Slots  int               `yaml:"slots"`  // tasks given to the server at the same time, 1 when 0; it runs them one after the other
	Tasks  map[string]Task   `yaml:"tasks"`  // by task type
}

// Task says how tasks of one type are done.
type Task struct {
	Workflow   string `yaml:"workflow"`    // path of a workflow in the API format, with the placeholders of package template
	OutputNode string `yaml:"output_node"` // id of the node whose file is the result; "" takes the last node that saves one
}

const (
	// maxAnswer bounds the queue and the history, which hold whole workflows.
	maxAnswer = 64 << 20
	// maxFrame bounds a message of the websocket, which may be a preview.
	maxFrame = 16 << 20
	// withdrawFor bounds the clean-up after a run that ended early: the slot must be free within a second.
	withdrawFor = 800 * time.Millisecond
	// askFor bounds the look at the server in New.
	askFor = 3 * time.Second
	// callFor bounds one request that is answered from memory.
	callFor = 30 * time.Second
	// unknown is the device of a server that could not be asked.
	unknown = "comfyui"
)

// namespace makes prompt ids of task ids (RFC 9562, version 5).
var namespace = uuid.MustParse("6ad1a5ce-4f0e-4a8e-9d0c-3d1f4ff54c21")

// Engine is an [engine.Engine] that runs workflows on a ComfyUI server.
type Engine struct {
	info   engine.Info
	client *remote.Client
	socket dialler
	flows  map[string]*workflow
	pace   pace
	most   int64 // bytes of an output
}

// pace holds the times that tests shorten.
type pace struct {
	quiet    time.Duration // a websocket that says nothing for so long is opened anew, and the server asked
	patience time.Duration // a server that can't be reached for so long in mid-task is given up
	pause    time.Duration // before the first try to reach it again; doubled from one to the next
	longest  time.Duration // the longest such pause
	doubt    time.Duration // how long a workflow is looked for whose submission was not answered
}

// New makes the engine of the given name. The server need not be up; when it is, Info says its device and memory. An error is
// about the configuration.
func New(ctx context.Context, name string, c Config) (*Engine, error) {
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
		return nil, fmt.Errorf("engine %s: tasks is empty; name a workflow for each task type, such as single_image", name)
	}
	e := &Engine{
		info:   engine.Info{Name: name, Device: unknown, Slots: max(1, c.Slots), TaskTypes: slices.Sorted(maps.Keys(c.Tasks))},
		client: client,
		socket: newDialler(c.URL, header),
		flows:  map[string]*workflow{},
		most:   engine.MaxOutputBytes,
		pace:   pace{quiet: 15 * time.Second, patience: time.Minute, pause: 200 * time.Millisecond, longest: 5 * time.Second, doubt: 3 * time.Second},
	}
	for taskType, task := range c.Tasks {
		flow, err := load(task)
		if err != nil {
			return nil, fmt.Errorf("engine %s: the workflow of %s: %w", name, taskType, err)
		}
		e.flows[taskType] = flow
		e.info.Models = append(e.info.Models, flow.models()...)
	}
	slices.Sort(e.info.Models)
	e.info.Models = slices.Compact(e.info.Models)

	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	if stats, err := e.stats(ctx); err == nil && len(stats.Devices) > 0 && stats.Devices[0].Name != "" {
		e.info.Device, e.info.MemoryBytes = stats.Devices[0].Name, stats.Devices[0].VRAM
	}
	return e, nil
}

// Info implements [engine.Engine]. The device and its memory are known where the server was up when the engine was made; the
// models are those that the workflows name.
func (e *Engine) Info() engine.Info {
	info := e.info
	info.TaskTypes, info.Models = slices.Clone(info.TaskTypes), slices.Clone(info.Models)
	return info
}

// systemStats is the answer of GET /system_stats, as far as it is used.
type systemStats struct {
	Devices []struct {
		Name string `json:"name"`       // such as "cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync"
		VRAM int64  `json:"vram_total"` // bytes
	} `json:"devices"`
}

func (e *Engine) stats(ctx context.Context) (systemStats, error) {
	var stats systemStats
	return stats, e.get(ctx, "/system_stats", &stats)
}

// Health implements [engine.Engine]: the server must answer and have each node and model that the workflows name.
func (e *Engine) Health(ctx context.Context) error {
	if _, err := e.stats(ctx); err != nil {
		return err
	}
	seen := map[string]nodeInfo{}
	for _, taskType := range e.info.TaskTypes {
		flow := e.flows[taskType]
		for _, id := range flow.ids {
			class := flow.nodes[id].Class
			if _, ok := seen[class]; !ok {
				var known map[string]nodeInfo
				if err := e.get(ctx, "/object_info/"+url.PathEscape(class), &known); err != nil {
					return err
				}
				info, ok := known[class]
				if !ok {
					return engine.Errorf(engine.EngineDown, "The ComfyUI server lacks the node %s, which the workflow of %s needs; the operator must install it.",
						strconv.Quote(class), taskType)
				}
				seen[class] = info
			}
			if model := flow.nodes[id].lacking(seen[class]); model != "" {
				return engine.Errorf(engine.EngineDown, "The ComfyUI server lacks the model %s, which the workflow of %s needs; the operator must install it.",
					strconv.Quote(model), taskType)
			}
		}
	}
	return nil
}

// get asks for JSON that the server has at hand.
func (e *Engine) get(ctx context.Context, path string, into any) error {
	call, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	response, err := e.client.Do(call, http.MethodGet, path, http.Header{"Accept": {"application/json"}}, nil) //nolint:bodyclose // Decode does
	if err == nil {
		err = e.client.Decode(response, maxAnswer, into)
	}
	return slow(ctx, err)
}

// post sends JSON and discards the answer.
func (e *Engine) post(ctx context.Context, path string, body any) error {
	call, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	return slow(ctx, e.client.JSON(call, http.MethodPost, path, body, nil))
}

// slow tells the end of the time for one request from the end of ctx, the task's.
func slow(ctx context.Context, err error) error {
	if engine.ClassOf(err) == engine.Timeout && ctx.Err() == nil {
		return &engine.Error{Class: engine.EngineDown, Message: "The ComfyUI server does not answer; the task will be tried again.", Err: err}
	}
	return err
}

// Run implements [engine.Engine]. A run of a task and attempt that the server already has is gone on with, not begun again.
func (e *Engine) Run(ctx context.Context, task engine.Task, sink engine.Sink) (engine.Result, error) {
	if err := engine.Stopped(ctx); err != nil {
		return engine.Result{}, err
	}
	flow, ok := e.flows[task.Type]
	if !ok {
		return engine.Result{}, engine.Errorf(engine.BadInput, "The engine %s does not do tasks of the type %s.", e.info.Name, strconv.Quote(task.Type))
	}
	id := promptID(task)
	r := &run{engine: e, flow: flow, task: task, sink: sink, id: id, client: id, meter: newMeter(sink, flow)}
	defer r.withdraw(ctx)
	if err := r.prepare(); err != nil {
		return engine.Result{}, err
	}
	entry, err := r.execute(ctx)
	if err != nil {
		return engine.Result{}, err
	}
	file, err := r.fetch(ctx, entry)
	if err != nil {
		return engine.Result{}, err
	}
	r.meter.done()
	return engine.Result{Files: []engine.File{file}, Metadata: r.facts()}, nil
}

// promptID is the id of a task's run on the server, the same whenever this attempt is run.
func promptID(task engine.Task) string {
	return uuid.NewSHA1(namespace, fmt.Appendf(nil, "%s %d", task.ID, task.Attempt)).String()
}

// facts are the metadata of a result.
func (r *run) facts() map[string]any {
	facts := map[string]any{"prompt_id": r.id}
	if r.flow.template.Uses("seed") {
		facts["seed"] = json.Number(strconv.FormatInt(r.seed, 10))
	}
	return facts
}
