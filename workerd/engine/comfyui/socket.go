package comfyui

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine"
)

// dialler opens websockets.
type dialler struct {
	base   string
	header http.Header
	client *http.Client
}

func newDialler(base string, header http.Header) dialler {
	return dialler{base: strings.TrimRight(base, "/"), header: header, client: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
	}}
}

// dial opens the websocket of a client id. From then on the server sends it what concerns the workflows of that client.
func (d dialler) dial(ctx context.Context, client string) (*websocket.Conn, error) {
	call, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	options := &websocket.DialOptions{HTTPHeader: d.header, HTTPClient: d.client}
	conn, response, err := websocket.Dial(call, d.base+"/ws?clientId="+url.QueryEscape(client), options) //nolint:bodyclose // Dial does
	if err == nil {
		conn.SetReadLimit(maxFrame)
		// Without this previews come as frames of type 1, which don't say whose they are. Servers before July 2025 ignore it.
		err = conn.Write(call, websocket.MessageText, []byte(`{"type":"feature_flags","data":{"supports_preview_metadata":true}}`))
		if err == nil {
			return conn, nil
		}
		_ = conn.CloseNow()
	}
	if stopped := engine.Stopped(ctx); stopped != nil {
		return nil, stopped
	}
	if response != nil && response.StatusCode != http.StatusSwitchingProtocols {
		return nil, &engine.Error{
			Class: engine.EngineDown, Err: err,
			Message: "The server does not open ComfyUI's websocket; the operator must check the engine's address.",
		}
	}
	return nil, &engine.Error{Class: engine.EngineDown, Message: "The ComfyUI server cannot be reached; the task will be tried again.", Err: err}
}

// event is a text message of the websocket.
type event struct {
	Type string `json:"type"`
	Data struct {
		PromptID    string          `json:"prompt_id"`
		Node        string          `json:"node"`         // "" for null, which ends a run
		DisplayNode string          `json:"display_node"` // the node of the workflow that Node was made for
		Value       float64         `json:"value"`
		Max         float64         `json:"max"`
		Nodes       json.RawMessage `json:"nodes"` // a list of ids in execution_cached, an object of nodeState in progress_state
	} `json:"data"`
}

// nodeState is one node in progress_state.
type nodeState struct {
	Value float64 `json:"value"`
	Max   float64 `json:"max"`
	State string  `json:"state"` // pending, running, finished or error
}

// Types of binary messages, in their first 4 bytes, big-endian (protocol.py).
const (
	framePreview     = 1 // 4 bytes 1 for JPEG or 2 for PNG, then the picture
	framePreviewMeta = 4 // 4 bytes length, JSON of that length, then the picture
)

// preview returns the picture in a binary message about the given run, and nil where there is none.
func preview(message []byte, promptID string) (picture []byte, mediaType string) {
	if len(message) < 8 {
		return nil, ""
	}
	kind, second, rest := binary.BigEndian.Uint32(message), binary.BigEndian.Uint32(message[4:]), message[8:]
	switch kind {
	case framePreview:
	case framePreviewMeta:
		if uint64(second) > uint64(len(rest)) {
			return nil, ""
		}
		var about struct {
			PromptID string `json:"prompt_id"`
		}
		if json.Unmarshal(rest[:second], &about) != nil || about.PromptID != "" && about.PromptID != promptID {
			return nil, ""
		}
		rest = rest[second:]
	default:
		return nil, ""
	}
	mediaType = storage.MediaType(rest[:min(len(rest), 512)])
	if !strings.HasPrefix(mediaType, "image/") {
		return nil, ""
	}
	return bytes.Clone(rest), mediaType
}

// listen reads the websocket until the server says that the run has ended, which it returns, has been quiet for too long, or the
// connection breaks.
func (r *run) listen(ctx context.Context, conn *websocket.Conn) (last bool) {
	for {
		quiet, cancel := context.WithTimeout(ctx, r.engine.pace.quiet)
		kind, message, err := conn.Read(quiet)
		cancel()
		if err != nil {
			return false
		}
		r.met = time.Now()
		if kind == websocket.MessageBinary {
			if picture, mediaType := preview(message, r.id); picture != nil {
				r.sink.Preview(picture, mediaType)
			}
			continue
		}
		var told event
		if json.Unmarshal(message, &told) != nil || told.Data.PromptID != "" && told.Data.PromptID != r.id {
			continue
		}
		if r.heed(told) {
			return true
		}
	}
}

// heed takes one message about the run, and says whether it was its last.
func (r *run) heed(told event) (last bool) {
	switch told.Type {
	case "execution_start":
		r.meter.begin()
	case "execution_cached":
		var cached []string
		if json.Unmarshal(told.Data.Nodes, &cached) == nil {
			for _, id := range cached {
				r.meter.node(id, 1)
			}
		}
	case "executing":
		if told.Data.Node == "" {
			return told.Data.PromptID == r.id
		}
		r.meter.current(told.Data.Node, told.Data.DisplayNode)
	case "progress":
		if told.Data.Max > 0 {
			r.meter.node(told.Data.Node, told.Data.Value/told.Data.Max)
		}
	case "progress_state":
		var states map[string]nodeState
		if json.Unmarshal(told.Data.Nodes, &states) == nil {
			for id, state := range states {
				switch {
				case state.State == "finished":
					r.meter.node(id, 1)
				case state.State == "running" && state.Max > 0:
					r.meter.node(id, state.Value/state.Max)
				}
			}
		}
	case "executed":
		r.meter.node(told.Data.Node, 1)
	}
	return false
}
