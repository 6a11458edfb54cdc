// Package template fills placeholders in JSON documents with the values of a task: the workflows of ComfyUI and the inputs of
// Cog models.
//
// A placeholder stands in a text of the document:
//
//	{{prompt}}              the task's prompt
//	{{seed}}                its seed; derived from the task's id when it has none
//	{{width}} {{height}}    its size in pixels
//	{{task_id}}             its id
//	{{params.a.b}}          the param a, and in it the member b
//	{{image.start_image}}   the file that came as this input, in the form that the engine takes files
//	{{params.steps|20}}     20 when the task has no such value; a default is JSON where it can be read as such, else text
//
// A text that is one placeholder and nothing else becomes the value, with its JSON type. In a longer text the value must be
// a text, a number or true or false. Values go into the parsed document, never into JSON text, and placeholders in them stay
// as they are, so a value can't change anything but itself.
package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
)

var (
	pattern = regexp.MustCompile(`\{\{\s*([^{}|]*?)\s*(?:\|([^{}]*))?\}\}`)
	name    = regexp.MustCompile(`^(?:prompt|seed|width|height|task_id|params(?:\.[A-Za-z0-9_-]+)+|image\.[A-Za-z0-9_-]+)$`)
)

// Template is a document with placeholders. It may be used by several goroutines at once.
type Template struct {
	document any
	names    map[string]bool
}

// File gives the value of the placeholder {{image.ROLE}} for an input of the task.
type File func(input engine.Input) (string, error)

// New makes a template of a document of maps with string keys, slices and scalars, as decoders of JSON and YAML give them. The
// document must not be changed afterwards. An error says which placeholder is none.
func New(document any) (*Template, error) {
	t := &Template{document: document, names: map[string]bool{}}
	if err := t.collect(document); err != nil {
		return nil, err
	}
	return t, nil
}

// Parse is [New] for JSON text. Numbers keep their spelling, and so seeds of 64 bits their value.
func Parse(data []byte) (*Template, error) {
	document, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("the file is not JSON: %w", err)
	}
	return New(document)
}

func decode(data []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	if decoder.More() {
		return nil, fmt.Errorf("more text after the JSON value, at byte %d", decoder.InputOffset())
	}
	return value, nil
}

func (t *Template) collect(value any) error {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			if err := t.collect(value[key]); err != nil {
				return err
			}
		}
	case []any:
		for _, element := range value {
			if err := t.collect(element); err != nil {
				return err
			}
		}
	case string:
		for _, match := range pattern.FindAllStringSubmatch(value, -1) {
			if !name.MatchString(match[1]) {
				return fmt.Errorf("%s is no placeholder: there are prompt, seed, width, height, task_id, params.NAME and image.ROLE", match[0])
			}
			t.names[match[1]] = true
		}
		if rest := pattern.ReplaceAllString(value, ""); strings.Contains(rest, "{{") {
			return fmt.Errorf("the text %s has a {{ that begins no placeholder", params.Quote(value))
		}
	case map[any]any:
		return fmt.Errorf("keys must be texts, not as in %v", value)
	}
	return nil
}

// Document returns the document as it was given; it must not be changed.
func (t *Template) Document() any { return t.document }

// Uses says whether there is a placeholder of this name, such as "seed".
func (t *Template) Uses(name string) bool { return t.names[name] }

// Holds says whether a part of a document has a placeholder in it.
func Holds(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(value)), Holds)
	case []any:
		return slices.ContainsFunc(value, Holds)
	case string:
		return pattern.MatchString(value)
	}
	return false
}

// Fill returns a copy of the document with the task's values. file is asked at most once for each role. An error is an
// [*engine.Error]; a placeholder that has neither value nor default is [engine.BadInput].
func (t *Template) Fill(task engine.Task, file File) (any, error) {
	parsed, err := params.Parse(task.Params)
	if err != nil {
		return nil, err
	}
	f := filler{task: task, params: parsed, file: file, values: map[string]any{}}
	for _, name := range slices.Sorted(maps.Keys(t.names)) {
		if err := f.find(name); err != nil {
			return nil, err
		}
	}
	return f.fill(t.document)
}

// filler fills one document.
type filler struct {
	task   engine.Task
	params params.Params
	file   File
	values map[string]any // by name; those that the task has
}

// find looks a value up.
func (f *filler) find(name string) error {
	root, rest, _ := strings.Cut(name, ".")
	switch root {
	case "prompt":
		prompt, err := f.params.Prompt()
		if err != nil {
			return err
		}
		if prompt != "" {
			f.values[name] = prompt
		}
	case "seed":
		seed, err := f.params.Seed(f.task.ID)
		if err != nil {
			return err
		}
		f.values[name] = seed
	case "width", "height":
		size, err := f.params.Size()
		if err != nil {
			return err
		}
		if size != (params.Size{}) {
			f.values[name] = map[string]int{"width": size.Width, "height": size.Height}[name]
		}
	case "task_id":
		f.values[name] = f.task.ID.String()
	case "params":
		return f.findParam(name, strings.Split(rest, "."))
	case "image":
		index := slices.IndexFunc(f.task.Inputs, func(input engine.Input) bool { return string(input.Role) == rest })
		if index < 0 {
			return nil
		}
		value, err := f.file(f.task.Inputs[index])
		if err != nil {
			return err
		}
		f.values[name] = value
	}
	return nil
}

func (f *filler) findParam(name string, path []string) error {
	var raw json.RawMessage
	found, err := params.Lookup(f.params, &raw, "JSON", path[0])
	if err != nil || !found {
		return err
	}
	value, err := decode(raw)
	if err != nil {
		return &engine.Error{Class: engine.BadInput, Message: "The param " + path[0] + " is not JSON.", Err: err}
	}
	for _, key := range path[1:] {
		object, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = object[key]
	}
	if value != nil {
		f.values[name] = value
	}
	return nil
}

func (f *filler) fill(value any) (any, error) {
	switch value := value.(type) {
	case map[string]any:
		filled := make(map[string]any, len(value))
		for key, element := range value {
			var err error
			if filled[key], err = f.fill(element); err != nil {
				return nil, err
			}
		}
		return filled, nil
	case []any:
		filled := make([]any, len(value))
		for i, element := range value {
			var err error
			if filled[i], err = f.fill(element); err != nil {
				return nil, err
			}
		}
		return filled, nil
	case string:
		return f.text(value)
	}
	return value, nil
}

// text fills a text.
func (f *filler) text(text string) (any, error) {
	var filled strings.Builder
	done := 0
	for _, at := range pattern.FindAllStringSubmatchIndex(text, -1) {
		name := text[at[2]:at[3]]
		value, ok := f.values[name]
		if !ok {
			if at[4] < 0 {
				return nil, missing(name)
			}
			value = fallback(text[at[4]:at[5]])
		}
		if at[0] == 0 && at[1] == len(text) {
			return value, nil
		}
		filled.WriteString(text[done:at[0]])
		switch value := value.(type) {
		case string, bool, json.Number, int, int64:
			fmt.Fprint(&filled, value)
		default:
			return nil, engine.Errorf(engine.BadInput, "The value of %s must be a text, a number, or true or false.", called(name))
		}
		done = at[1]
	}
	filled.WriteString(text[done:])
	return filled.String(), nil
}

// fallback reads a default.
func fallback(text string) any {
	if value, err := decode([]byte(text)); err == nil {
		return value
	}
	return text
}

func missing(name string) error {
	root, rest, _ := strings.Cut(name, ".")
	switch root {
	case "image":
		return engine.Errorf(engine.BadInput, "The task needs the input %s.", rest)
	case "width", "height":
		return engine.Errorf(engine.BadInput, `The task needs a size: give the param resolution, such as "768x512".`)
	default:
		return engine.Errorf(engine.BadInput, "The task needs %s.", called(name))
	}
}

// called is how the owner of a task knows a value.
func called(name string) string { return "the param " + strings.TrimPrefix(name, "params.") }
