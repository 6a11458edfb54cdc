// Package transcript records what an engine and a real server say to each other over HTTP and websockets, and plays it back, so that CI tests
// engines before servers that it can't have.
package transcript

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// transcript is what was said between the engine and a ComfyUI server, in the order in which it was seen in between.
type transcript struct {
	Server string `json:"server"` // version and commit, for people
	Steps  []step `json:"steps"`
}

// step is one HTTP exchange, or one message that the server sent over the websocket.
type step struct {
	Request string `json:"request,omitempty"` // method and path with query; "" for a message
	Body    text   `json:"body,omitempty"`
	Status  int    `json:"status,omitempty"`
	Type    string `json:"type,omitempty"`
	Answer  text   `json:"answer,omitempty"` // or the message
}

// text is written as such, or where it is binary as base64 after a mark.
type text []byte

const (
	binaryMark = "base64:"
	maxMessage = 16 << 20
)

// MarshalText implements [encoding.TextMarshaler].
func (b text) MarshalText() ([]byte, error) {
	if utf8.Valid(b) {
		return b, nil
	}
	return []byte(binaryMark + base64.StdEncoding.EncodeToString(b)), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (b *text) UnmarshalText(data []byte) error {
	encoded, binary := bytes.CutPrefix(data, []byte(binaryMark))
	if !binary {
		*b = bytes.Clone(data)
		return nil
	}
	var err error
	if *b, err = base64.StdEncoding.AppendDecode(nil, encoded); err != nil {
		return fmt.Errorf("base64 in a transcript: %w", err)
	}
	return nil
}

// sameBody compares what was sent: JSON by value, forms without their boundary.
func sameBody(a, b []byte) bool {
	var left, right any
	if json.Unmarshal(a, &left) == nil && json.Unmarshal(b, &right) == nil {
		return reflect.DeepEqual(left, right)
	}
	return bytes.Equal(a, b)
}

// readBody reads a request's body and takes the random boundary out of a form.
func readBody(r *http.Request) []byte {
	body, _ := io.ReadAll(r.Body)
	if _, form, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && form["boundary"] != "" {
		body = bytes.ReplaceAll(body, []byte(form["boundary"]), []byte("BOUNDARY"))
	}
	return body
}

// Recorder stands between the engine and a real server and notes what is said.
type Recorder struct {
	server *httptest.Server
	root   string // the server's folder, which transcripts don't name

	mu      sync.Mutex
	steps   []step
	sockets map[*websocket.Conn]bool
}

// Record makes a recorder for the server at target. Where root is not "", answers that are text are noted with another folder in its place.
func Record(t *testing.T, target, root string) *Recorder {
	t.Helper()
	address, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	rec := &Recorder{root: root, sockets: map[*websocket.Conn]bool{}}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(address) }}
	rec.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws" {
			rec.pump(w, r, target)
			return
		}
		var raw bytes.Buffer
		r.Body = io.NopCloser(io.TeeReader(r.Body, &raw))
		answer := httptest.NewRecorder()
		proxy.ServeHTTP(answer, r)
		r.Body = io.NopCloser(&raw)
		rec.note(step{
			Request: r.Method + " " + r.URL.RequestURI(), Body: readBody(r), Status: answer.Code,
			Type: answer.Header().Get("Content-Type"), Answer: answer.Body.Bytes(),
		})
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(rec.server.Close)
	return rec
}

// URL is where the engine finds the recorder.
func (rec *Recorder) URL() string { return rec.server.URL }

// Count tells how often a request was made, as a method and a path without its query.
func (rec *Recorder) Count(request string) int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	n := 0
	for _, s := range rec.steps {
		if path, _, _ := strings.Cut(s.Request, "?"); path == request {
			n++
		}
	}
	return n
}

func (rec *Recorder) note(s step) {
	if rec.root != "" && utf8.Valid(s.Answer) {
		s.Answer = bytes.ReplaceAll(s.Answer, []byte(rec.root), []byte("/srv/comfy"))
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.steps = append(rec.steps, s)
}

// pump joins a websocket of the engine with one of the server.
func (rec *Recorder) pump(w http.ResponseWriter, r *http.Request, target string) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	far, _, err := websocket.Dial(ctx, target+r.URL.RequestURI(), nil) //nolint:bodyclose // Dial does
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = far.CloseNow() }()
	far.SetReadLimit(maxMessage)
	rec.note(step{Request: "GET " + r.URL.RequestURI(), Status: http.StatusSwitchingProtocols})
	near, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	rec.mu.Lock()
	rec.sockets[near] = true
	rec.mu.Unlock()
	defer func() { _ = near.CloseNow() }()
	go func() {
		defer cancel()
		for {
			kind, message, err := near.Read(ctx)
			if err != nil || far.Write(ctx, kind, message) != nil {
				return
			}
		}
	}()
	for {
		kind, message, err := far.Read(ctx)
		if err != nil {
			return
		}
		rec.note(step{Answer: message})
		if near.Write(ctx, kind, message) != nil {
			return
		}
	}
}

// Drop breaks all websockets.
func (rec *Recorder) Drop() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for socket := range rec.sockets {
		_ = socket.CloseNow()
	}
	clear(rec.sockets)
}

// Save writes the transcript to a file; server says for people which server it is of.
func (rec *Recorder) Save(t *testing.T, file, server string) {
	t.Helper()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	data, err := json.MarshalIndent(transcript{Server: server, Steps: rec.steps}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replay is a server that answers as a transcript has it. A request gets the next answer that the same request got; a message is sent
// when all exchanges before it were had.
type replay struct {
	t *testing.T

	mu    sync.Mutex
	steps []step
	done  []bool
	moved chan struct{} // closed and made anew whenever a step is done
}

// Play serves a transcript and returns the server's address. At the end of the test all of it must have been asked for.
func Play(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var script transcript
	if err := json.Unmarshal(data, &script); err != nil {
		t.Fatal(err)
	}
	p := &replay{t: t, steps: script.Steps, done: make([]bool, len(script.Steps)), moved: make(chan struct{})}
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.Close()
		for i, s := range p.steps {
			if s.Request != "" && !p.done[i] {
				t.Errorf("the engine did not ask %s (step %d)", s.Request, i)
			}
		}
	})
	return server.URL
}

// take finds the step of a request.
func (p *replay) take(request string) (step, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.steps, func(s step) bool { return s.Request == request })
	for i >= 0 && p.done[i] {
		next := slices.IndexFunc(p.steps[i+1:], func(s step) bool { return s.Request == request })
		if next < 0 {
			return step{}, false
		}
		i += 1 + next
	}
	if i < 0 {
		return step{}, false
	}
	p.finish(i)
	return p.steps[i], true
}

// finish marks a step as done. p.mu is held.
func (p *replay) finish(i int) {
	p.done[i] = true
	close(p.moved)
	p.moved = make(chan struct{})
}

func (p *replay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := r.Method + " " + r.URL.RequestURI()
	s, ok := p.take(request)
	if !ok {
		p.t.Errorf("the transcript has no more %s", request)
		http.Error(w, "not in the transcript", http.StatusInternalServerError)
		return
	}
	if s.Status == http.StatusSwitchingProtocols {
		p.speak(w, r)
		return
	}
	if body := readBody(r); !sameBody(body, s.Body) {
		p.t.Errorf("%s sent\n%s\nthe transcript has\n%s", request, body, s.Body)
	}
	w.Header().Set("Content-Type", s.Type)
	w.WriteHeader(s.Status)
	_, _ = w.Write(s.Answer)
}

// speak sends the messages as they become due.
func (p *replay) speak(w http.ResponseWriter, r *http.Request) {
	socket, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = socket.CloseNow() }()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for {
			if _, _, err := socket.Read(r.Context()); err != nil {
				return
			}
		}
	}()
	for {
		message, moved := p.due()
		if message == nil {
			select {
			case <-moved:
				continue
			case <-closed:
				return
			}
		}
		kind := websocket.MessageText
		if !utf8.Valid(message) || message[0] != '{' {
			kind = websocket.MessageBinary
		}
		if socket.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

// due takes the next message when it is its turn.
func (p *replay) due() (message []byte, moved <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	moved = p.moved
	for i, s := range p.steps {
		switch {
		case p.done[i]:
		case s.Request != "":
			return nil, moved
		default:
			p.finish(i)
			return s.Answer, moved
		}
	}
	return nil, moved
}
