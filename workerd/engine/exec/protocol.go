package exec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
)

const (
	// protocolVersion is the version of the protocol in README.md.
	protocolVersion = 1
	// maxLine is the longest line of the protocol, in bytes, without its end.
	maxLine = 1 << 20
	// maxText is the longest line of a log, in bytes; what is longer is cut.
	maxText = 4 << 10
)

// message is a line from the child. Which fields count depends on its type.
type message struct {
	Type string `json:"type"`
	ID   string `json:"id"`

	Protocol  int      `json:"protocol"` // of "ready"
	TaskTypes []string `json:"task_types"`
	Slots     int      `json:"slots"`
	Device    string   `json:"device"`

	Value float64 `json:"value"` // of "progress"
	Max   float64 `json:"max"`
	Phase string  `json:"phase"`

	Data      []byte `json:"data"` // of "preview"
	MediaType string `json:"media_type"`

	Files    []file         `json:"files"` // of "result"
	Metadata map[string]any `json:"metadata"`

	Code      string `json:"code"` // of "error"
	Message   string `json:"message"`
	Retryable *bool  `json:"retryable"`
}

// file is an output as the child names it.
type file struct {
	Path string      `json:"path"`
	Role engine.Role `json:"role"`
}

// order is a line to the child that has no more fields than these.
type order struct {
	Type string `json:"type"`
	ID   string `json:"id,omitempty"`
}

// runOrder is the line that starts a run.
type runOrder struct {
	Type     string          `json:"type"`
	ID       string          `json:"id"`
	Attempt  int             `json:"attempt"`
	TaskType string          `json:"task_type"`
	Params   json.RawMessage `json:"params"`
	Inputs   []input         `json:"inputs"`
	OutDir   string          `json:"out_dir"`
}

type input struct {
	Path      string      `json:"path"`
	Role      engine.Role `json:"role"`
	MediaType string      `json:"media_type"`
}

// runLine writes the line that starts a run. Params that cannot be sent are bad input.
func runLine(task engine.Task) ([]byte, error) {
	if _, err := params.Parse(task.Params); err != nil {
		return nil, err
	}
	inputs := make([]input, len(task.Inputs))
	for i, in := range task.Inputs {
		inputs[i] = input{Path: in.Path, Role: in.Role, MediaType: in.MediaType}
	}
	line, err := json.Marshal(runOrder{
		Type: "run", ID: task.ID.String(), Attempt: task.Attempt, TaskType: task.Type, Params: task.Params, Inputs: inputs, OutDir: task.OutDir,
	})
	if err != nil {
		return nil, &engine.Error{Class: engine.BadInput, Message: "The params cannot be given to the engine.", Err: err}
	}
	if len(line) > maxLine {
		return nil, engine.Errorf(engine.BadInput, "The params are too long for this engine: with the inputs they may have 1 MiB.")
	}
	return append(line, '\n'), nil
}

// orderLine writes any other line.
func orderLine(kind, id string) []byte {
	line, err := json.Marshal(order{Type: kind, ID: id})
	if err != nil {
		panic(err) // two texts can always be written
	}
	return append(line, '\n')
}

// parse reads a line from the child. A line of a type that this version does not know gives just its type.
func parse(line []byte) (message, error) {
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(line, &kind); err != nil {
		return message{}, fmt.Errorf("read a line as a JSON object: %w", err)
	}
	switch kind.Type {
	case "":
		return message{}, errors.New("a JSON object without a type")
	case "ready", "progress", "preview", "log", "result", "error":
	default:
		return message{Type: kind.Type}, nil
	}
	var m message
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber() // metadata is passed on as it is
	if err := decoder.Decode(&m); err != nil {
		return message{}, fmt.Errorf("read the fields of a message: %w", err)
	}
	return m, nil
}

// lines cuts what is written to it into lines, and gives each to each, without its end. A line of more than limit bytes is
// given once it has become too long, cut and not whole; its rest is dropped. each must not keep the line.
type lines struct {
	limit int
	each  func(line []byte, whole bool)

	kept     []byte
	dropping bool
}

// Write implements [io.Writer]. It never fails.
func (l *lines) Write(text []byte) (int, error) {
	n := len(text)
	for len(text) > 0 {
		part, rest, ended := bytes.Cut(text, []byte("\n"))
		text = rest
		if !l.dropping {
			if len(l.kept)+len(part) > l.limit {
				l.dropping = true
				l.each(append(l.kept, part[:l.limit-len(l.kept)]...), false)
				l.kept = nil
			} else {
				l.kept = append(l.kept, part...)
			}
		}
		if ended {
			l.end()
		}
	}
	return n, nil
}

// end ends the line.
func (l *lines) end() {
	if !l.dropping && len(l.kept) > 0 {
		l.each(l.kept, true)
	}
	l.kept, l.dropping = l.kept[:0], false
}
