package comfyui

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
	"darkroom/workerd/engine/remote"
)

// run is one task on the server.
type run struct {
	engine *Engine
	flow   *workflow
	task   engine.Task
	sink   engine.Sink
	meter  *meter
	client string // id of our websocket; nobody else's, so it also tells our workflow from others
	id     string // prompt id of our workflow

	graph   any // the filled workflow
	uploads []upload
	seed    int64

	sent  bool      // the server may have the workflow
	known bool      // it has, or had, it for sure
	over  bool      // it works on it no more
	met   time.Time // when the server last gave a sign of it
}

// prepare fills the workflow in.
func (r *run) prepare() error {
	parsed, err := params.Parse(r.task.Params)
	if err != nil {
		return err
	}
	if r.seed, err = parsed.Seed(r.task.ID); err != nil {
		return err
	}
	if r.graph, err = r.flow.template.Fill(r.task, r.upload); err != nil {
		return err
	}
	// A list as an input would be a link to another node, which is for the workflow alone to set.
	nodes, _ := r.graph.(map[string]any)
	for _, id := range r.flow.ids {
		node, _ := nodes[id].(map[string]any)
		inputs, _ := node["inputs"].(map[string]any)
		for name, value := range r.flow.nodes[id].Inputs {
			if _, ok := value.(string); !ok {
				continue
			}
			switch inputs[name].(type) {
			case []any, map[string]any:
				return engine.Errorf(engine.BadInput, "The param for %s (%s) must be a text, a number, or true or false.", name, r.flow.nodes[id].Class)
			}
		}
	}
	return nil
}

// execute has the server run the workflow and returns how that ended well.
func (r *run) execute(ctx context.Context) (entry, error) {
	conn, err := r.engine.socket.dial(ctx, r.client) // first, so that no event is missed
	if err != nil {
		return entry{}, err
	}
	defer func() { _ = conn.CloseNow() }()
	found, err := r.look(ctx)
	if err != nil {
		return entry{}, err
	}
	switch {
	case found.ended != nil && found.ended.failure() == nil:
		r.sink.Log("the server has the result of this attempt already")
		return *found.ended, nil
	case found.ended != nil: // such as a run that was interrupted because its worker stopped
		if err := r.engine.post(ctx, "/history", map[string]any{"delete": []string{r.id}}); err != nil {
			return entry{}, err
		}
	case found.alive:
		r.sink.Log("the server works on this attempt already")
		r.sent, r.known = true, true
	}
	if !r.sent {
		if err := r.submit(ctx); err != nil {
			return entry{}, err
		}
	}
	ended, err := r.follow(ctx, conn)
	if err != nil {
		return entry{}, err
	}
	return ended, ended.failure()
}

// submit sends the inputs and the workflow, which it does once: when no answer comes, the server may have it all the same.
func (r *run) submit(ctx context.Context) error {
	for _, upload := range r.uploads {
		if err := r.engine.send(ctx, upload); err != nil {
			return err
		}
	}
	call, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	var answer struct {
		PromptID   string          `json:"prompt_id"`
		NodeErrors json.RawMessage `json:"node_errors"`
	}
	r.sent, r.met = true, time.Now()
	err := r.engine.client.JSON(call, http.MethodPost, "/prompt", map[string]any{"prompt": r.graph, "client_id": r.client, "prompt_id": r.id}, &answer)
	status, refused := errors.AsType[*remote.StatusError](err)
	switch {
	case refused && status.Code < http.StatusInternalServerError:
		r.sent = false
		return r.flow.refusal(status, err)
	case err != nil:
		if stopped := engine.Stopped(ctx); stopped != nil {
			return stopped
		}
		r.sink.Log("the submission of the workflow was not answered: " + remote.Quote(err.Error()))
		return nil
	case answer.PromptID == "":
		return nil
	case answer.PromptID != r.id:
		r.sink.Log("the server is older than July 2025 and gives workflows ids of its own")
		r.id = answer.PromptID
	}
	r.known = true
	if errs := nodeErrors(answer.NodeErrors); len(errs) > 0 { // it runs the part of the workflow that is right
		return r.flow.fault(errs)
	}
	return nil
}

// follow waits for the end of the workflow, through broken connections.
func (r *run) follow(ctx context.Context, conn *websocket.Conn) (entry, error) {
	pace := r.engine.pace
	defer func() {
		if conn != nil {
			_ = conn.CloseNow()
		}
	}()
	for pause := pace.pause; ; pause = min(2*pause, pace.longest) {
		found, err := r.look(ctx)
		switch {
		case err != nil:
		case found.ended != nil:
			r.over = true
			return *found.ended, nil
		case found.alive:
			r.known, r.met = true, time.Now()
			if conn == nil {
				conn, err = r.engine.socket.dial(ctx, r.client)
			}
			if err != nil {
				break
			}
			opened := time.Now()
			if r.listen(ctx, conn) {
				continue
			}
			_ = conn.CloseNow()
			conn = nil
			if time.Since(opened) > pace.longest {
				pause = pace.pause
			}
		case r.known:
			r.over = true
			return entry{}, engine.Errorf(engine.EngineDown, "The ComfyUI server lost the task, as by a restart; it will be tried again.")
		}
		limit := pace.patience
		if !r.known {
			limit = pace.doubt
		}
		switch stopped := engine.Stopped(ctx); {
		case stopped != nil:
			return entry{}, stopped
		case time.Since(r.met) < limit:
		case err != nil:
			return entry{}, err
		default:
			return entry{}, engine.Errorf(engine.EngineDown, "The ComfyUI server did not take the task; it will be tried again.")
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// sighting is what the server knows of a run: nothing, that it is alive, or how it ended.
type sighting struct {
	alive   bool // waits or runs
	running bool
	ended   *entry
}

// entry is what GET /history/{id} says of a run, as far as it is used.
type entry struct {
	Outputs map[string]map[string]json.RawMessage `json:"outputs"` // by node, then by kind
	Status  *struct {
		Name     string               `json:"status_str"` // "success" or "error"
		Messages [][2]json.RawMessage `json:"messages"`   // name and data of events
	} `json:"status"`
}

// look asks for the run. The queue goes before the history: a run that ends in between is then seen in the latter.
func (r *run) look(ctx context.Context) (sighting, error) {
	queued, err := r.queued(ctx)
	if err != nil || queued.alive {
		return queued, err
	}
	var history map[string]entry
	if err := r.engine.get(ctx, "/history/"+url.PathEscape(r.id), &history); err != nil {
		return sighting{}, err
	}
	if ended, ok := history[r.id]; ok {
		return sighting{ended: &ended}, nil
	}
	return sighting{}, nil
}

// queued looks for the run in the queue. An older server chooses ids itself: there it learns the run's id.
func (r *run) queued(ctx context.Context) (sighting, error) {
	var queue struct {
		Running []queueItem `json:"queue_running"`
		Pending []queueItem `json:"queue_pending"`
	}
	if err := r.engine.get(ctx, "/queue", &queue); err != nil {
		return sighting{}, err
	}
	for i, item := range append(queue.Running, queue.Pending...) {
		if item.id == r.id || item.client == r.client {
			r.id = item.id
			return sighting{alive: true, running: i < len(queue.Running)}, nil
		}
	}
	return sighting{}, nil
}

// queueItem is an element of the queue: [number, prompt id, workflow, extra data, ...].
type queueItem struct{ id, client string }

// UnmarshalJSON implements [json.Unmarshaler].
func (q *queueItem) UnmarshalJSON(data []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return fmt.Errorf("an element of the queue: %w", err)
	}
	if len(parts) < 4 {
		return fmt.Errorf("an element of the queue has %d parts", len(parts))
	}
	var extra struct {
		ClientID string `json:"client_id"`
	}
	if err := cmp.Or(json.Unmarshal(parts[1], &q.id), json.Unmarshal(parts[3], &extra)); err != nil {
		return fmt.Errorf("an element of the queue: %w", err)
	}
	q.client = extra.ClientID
	return nil
}

// withdraw takes a run that was given up, by ctx or for an error, out of the server's queue, or interrupts it. It interrupts only
// when our workflow is the one that runs: a server before September 2025 interrupts whatever runs.
func (r *run) withdraw(ctx context.Context) {
	if !r.sent || r.over {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawFor)
	defer cancel()
	for ctx.Err() == nil {
		found, err := r.queued(ctx)
		switch {
		case err == nil && found.running:
			if err := r.engine.post(ctx, "/interrupt", map[string]string{"prompt_id": r.id}); err != nil {
				r.sink.Log("the workflow could not be interrupted: " + remote.Quote(err.Error()))
			}
			return
		case err == nil && found.alive:
			_ = r.engine.post(ctx, "/queue", map[string]any{"delete": []string{r.id}}) // then look whether it began to run just before
			continue
		case err == nil && r.known:
			return
		}
		select { // a submission that was not answered may still be on its way
		case <-ctx.Done():
		case <-time.After(r.engine.pace.pause):
		}
	}
}
