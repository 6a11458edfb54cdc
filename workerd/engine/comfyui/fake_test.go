package comfyui

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// fake is a small server that behaves as ComfyUI does, but for the faults that it is told to have. It runs nothing: a workflow takes
// the steps and the time per step that its node 2 names, and gives a picture.
type fake struct {
	URL string

	// Set before the first request.
	onStep  func(step int)                                           // called before each step that a workflow takes
	answer  func(w http.ResponseWriter, r *http.Request) (done bool) // may answer in place of the server
	greet   func(ctx context.Context, socket *websocket.Conn)        // called for each websocket before anything is sent on it
	picture []byte                                                   // the result; a PNG when nil

	turn      sync.Mutex // held by the workflow that runs
	workflows sync.WaitGroup

	mu       sync.Mutex
	sockets  map[string]*websocket.Conn
	pending  []*job
	running  *job
	history  map[string]any
	posts    int      // workflows that were taken
	calls    []string // what was asked for, in order
	uploads  []string
	stopping context.Context //nolint:containedctx // of the server
}

// job is a workflow.
type job struct {
	id, client string
	inputs     map[string]any  // of node 2
	ctx        context.Context //nolint:containedctx // of the workflow
	interrupt  context.CancelFunc
}

func (j *job) item() []any {
	return []any{0, j.id, map[string]any{}, map[string]string{"client_id": j.client}, []string{"3"}}
}

func serve(t testing.TB, f *fake) *fake {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f.sockets, f.history, f.stopping = map[string]*websocket.Conn{}, map[string]any{}, ctx
	if f.picture == nil {
		var data bytes.Buffer
		if err := png.Encode(&data, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
			t.Fatal(err)
		}
		f.picture = data.Bytes()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /system_stats", f.say(map[string]any{"devices": []any{map[string]any{"name": "cpu", "vram_total": 1 << 34}}}))
	mux.HandleFunc("GET /object_info/{class}", func(w http.ResponseWriter, r *http.Request) {
		f.say(map[string]any{r.PathValue("class"): map[string]any{"input": map[string]any{}}})(w, r)
	})
	mux.HandleFunc("GET /ws", f.ws)
	mux.HandleFunc("POST /prompt", f.prompt)
	mux.HandleFunc("GET /queue", f.queue)
	mux.HandleFunc("POST /queue", f.unqueue)
	mux.HandleFunc("GET /history/{id}", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		found := map[string]any{}
		if entry, ok := f.history[r.PathValue("id")]; ok {
			found[r.PathValue("id")] = entry
		}
		f.say(found)(w, r)
	})
	mux.HandleFunc("POST /interrupt", func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			ID string `json:"prompt_id"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.running != nil && f.running.id == body.ID {
			f.running.interrupt()
		}
	})
	mux.HandleFunc("POST /upload/image", func(w http.ResponseWriter, r *http.Request) {
		_, header, err := r.FormFile("image")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f.mu.Lock()
		f.uploads = append(f.uploads, r.FormValue("subfolder")+"/"+header.Filename)
		f.mu.Unlock()
		f.say(map[string]string{"name": header.Filename, "subfolder": r.FormValue("subfolder"), "type": "input"})(w, r)
	})
	mux.HandleFunc("GET /view", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(f.picture) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.calls = append(f.calls, r.Method+" "+r.URL.Path)
		f.mu.Unlock()
		if f.answer == nil || !f.answer(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	f.URL = server.URL
	t.Cleanup(func() {
		cancel()
		f.drop()
		server.CloseClientConnections()
		server.Close()
		f.workflows.Wait()
	})
	return f
}

func (f *fake) say(value any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(value) }
}

func (f *fake) ws(w http.ResponseWriter, r *http.Request) {
	socket, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer socket.CloseNow()
	if f.greet != nil {
		f.greet(r.Context(), socket)
	}
	client := r.FormValue("clientId")
	f.mu.Lock()
	f.sockets[client] = socket
	f.mu.Unlock()
	f.send(client, map[string]any{"type": "status", "data": map[string]any{"sid": client}})
	for {
		if _, _, err := socket.Read(r.Context()); err != nil {
			return
		}
	}
}

// drop breaks all websockets.
func (f *fake) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, socket := range f.sockets {
		_ = socket.CloseNow()
	}
	clear(f.sockets)
}

// restart is [fake.drop], and all workflows are forgotten.
func (f *fake) restart() {
	f.drop()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending, f.history = nil, map[string]any{}
	if f.running != nil {
		f.running.interrupt()
		f.running = nil
	}
}

func (f *fake) send(client string, message any) {
	f.mu.Lock()
	socket := f.sockets[client]
	f.mu.Unlock()
	if socket == nil {
		return
	}
	if raw, ok := message.([]byte); ok {
		_ = socket.Write(f.stopping, websocket.MessageBinary, raw)
		return
	}
	data, err := json.Marshal(message)
	if err == nil {
		_ = socket.Write(f.stopping, websocket.MessageText, data)
	}
}

func (f *fake) prompt(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Client string `json:"client_id"`
		ID     string `json:"prompt_id"`
		Prompt map[string]struct {
			Inputs map[string]any `json:"inputs"`
		} `json:"prompt"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	inputs := body.Prompt["2"].Inputs
	if steps, _ := inputs["steps"].(float64); steps < 1 {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprint(w, `{"error":{"type":"prompt_outputs_failed_validation","message":"Prompt outputs failed validation"},"node_errors":{"2":{"class_type":"DarkroomSlow",`+
			`"errors":[{"type":"value_smaller_than_min","message":"Value 0 smaller than min of 1","details":"steps","extra_info":{"input_name":"steps"}}]}}}`)
		return
	}
	j := &job{id: body.ID, client: body.Client, inputs: inputs}
	j.ctx, j.interrupt = context.WithCancel(f.stopping)
	f.mu.Lock()
	f.pending = append(f.pending, j)
	f.posts++
	f.mu.Unlock()
	f.workflows.Go(func() { f.run(j) })
	f.say(map[string]any{"prompt_id": j.id, "number": 1, "node_errors": map[string]any{}})(w, r)
}

func (f *fake) queue(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	running, pending := []any{}, []any{}
	if f.running != nil {
		running = append(running, f.running.item())
	}
	for _, j := range f.pending {
		pending = append(pending, j.item())
	}
	f.say(map[string]any{"queue_running": running, "queue_pending": pending})(w, r)
}

func (f *fake) unqueue(_ http.ResponseWriter, r *http.Request) {
	var body struct {
		Delete []string `json:"delete"`
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = slices.DeleteFunc(f.pending, func(j *job) bool { return slices.Contains(body.Delete, j.id) })
}

// run takes the steps of a workflow when it is its turn.
func (f *fake) run(j *job) {
	f.turn.Lock()
	defer f.turn.Unlock()
	f.mu.Lock()
	index := slices.Index(f.pending, j)
	if index < 0 { // deleted
		f.mu.Unlock()
		return
	}
	f.pending = slices.Delete(f.pending, index, index+1)
	f.running = j
	f.mu.Unlock()

	var frame bytes.Buffer
	_ = binary.Write(&frame, binary.BigEndian, []uint32{framePreview, 1})
	_ = jpeg.Encode(&frame, image.NewGray(image.Rect(0, 0, 4, 4)), nil)
	tell := func(name string, fields map[string]any) {
		fields["prompt_id"] = j.id
		f.send(j.client, map[string]any{"type": name, "data": fields})
	}
	tell("execution_start", map[string]any{})
	tell("executing", map[string]any{"node": "1"})
	tell("executing", map[string]any{"node": "2"})
	steps, _ := j.inputs["steps"].(float64)
	pause, _ := j.inputs["step_seconds"].(float64)
	for i := range int(steps) {
		select {
		case <-j.ctx.Done():
		case <-time.After(time.Duration(pause * float64(time.Second))):
		}
		if j.ctx.Err() != nil {
			break
		}
		if f.onStep != nil {
			f.onStep(i)
		}
		tell("progress", map[string]any{"node": "2", "value": i + 1, "max": steps})
		f.send(j.client, frame.Bytes())
	}
	entry := map[string]any{
		"outputs": map[string]any{"3": map[string]any{"images": []any{map[string]string{"filename": "a.png", "subfolder": "darkroom", "type": "output"}}}},
		"status":  map[string]any{"status_str": "success", "completed": true, "messages": []any{}},
	}
	if j.ctx.Err() != nil {
		entry["status"] = map[string]any{"status_str": "error", "completed": false, "messages": []any{[]any{"execution_interrupted", map[string]any{}}}}
	}
	f.mu.Lock()
	forgotten := f.running != j
	if !forgotten {
		f.running = nil
		f.history[j.id] = entry
	}
	f.mu.Unlock()
	if !forgotten {
		tell("executing", map[string]any{"node": nil})
	}
}
