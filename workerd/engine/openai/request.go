package openai

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"mime"
	"mime/multipart"
	"net/textproto"
	"os"
	"slices"
	"strings"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
)

// request is what a task asks of the server.
type request struct {
	fields map[string]any
	files  []file // in the order of the inputs
	size   string // as sent, "" for the server's own
	seed   *int64 // nil when none is sent
}

type file struct{ field, path string }

// ask writes the request of a task.
func (t *Task) ask(task engine.Task) (request, error) {
	p, err := params.Parse(task.Params)
	if err != nil {
		return request{}, err
	}
	r := request{fields: maps.Clone(t.Extra)}
	if r.fields == nil {
		r.fields = map[string]any{}
	}
	for name, param := range t.Params {
		var value any
		if found, err := params.Lookup(p, &value, "a value", param); err != nil {
			return request{}, err
		} else if found {
			r.fields[name] = value
		}
	}
	for _, input := range task.Inputs {
		name := t.Files[string(input.Role)]
		if name == "" {
			return request{}, engine.Errorf(engine.BadInput, "This engine takes no file as %s for tasks of the type %s.", input.Role, task.Type)
		}
		r.files = append(r.files, file{field: name, path: input.Path})
	}
	if t.API == Edits && len(r.files) == 0 {
		return request{}, engine.Errorf(engine.BadInput, "A task of the type %s needs a picture to work on.", task.Type)
	}
	prompt, err := p.Prompt()
	if err != nil {
		return request{}, err
	}
	if prompt == "" && len(r.files) == 0 {
		return request{}, engine.Errorf(engine.BadInput, "The param prompt is missing: say what to make.")
	}
	r.fields["prompt"] = prompt
	if t.Model != "" {
		r.fields["model"] = t.Model
	}
	if t.API != Videos {
		r.fields["n"] = 1
	}
	if r.size, err = t.size(p); err != nil {
		return request{}, err
	}
	if r.size != "" {
		r.fields["size"] = r.size
	}
	if t.Seed {
		seed, err := p.Seed(task.ID)
		if err != nil {
			return request{}, err
		}
		r.seed, r.fields["seed"] = &seed, seed
	}
	return r, nil
}

// size returns the size to send: of those that the server takes the one whose shape is nearest to the task's, and of several
// with that shape the one nearest in area.
func (t *Task) size(p params.Params) (string, error) {
	wanted, err := p.Size()
	switch {
	case err != nil:
		return "", err
	case len(t.Sizes) == 0 && wanted == (params.Size{}):
		return "", nil
	case len(t.Sizes) == 0:
		return wanted.String(), nil
	case wanted == (params.Size{}):
		return t.Sizes[0], nil
	}
	distance := func(text string) (shape, area float64) {
		size, _ := parseSize(text) // which check has read
		w, h := float64(size.Width)/float64(wanted.Width), float64(size.Height)/float64(wanted.Height)
		return math.Abs(math.Log(w / h)), math.Abs(math.Log(w * h))
	}
	return slices.MinFunc(t.Sizes, func(a, b string) int {
		shapeA, areaA := distance(a)
		shapeB, areaB := distance(b)
		if math.Abs(shapeA-shapeB) > 1e-6 {
			return cmp.Compare(shapeA, shapeB)
		}
		return cmp.Compare(areaA, areaB)
	}), nil
}

// json returns the request as JSON.
func (r *request) json() (body io.Reader, contentType string, err error) {
	data, err := json.Marshal(r.fields)
	if err != nil {
		return nil, "", &engine.Error{Class: engine.BadInput, Message: "The params cannot be sent to the engine's server.", Err: err}
	}
	return bytes.NewReader(data), "application/json", nil
}

// form returns the request as multipart/form-data, with the files read while it is sent. The caller calls done when it has been.
func (r *request) form() (body io.Reader, contentType string, done func(), err error) {
	var open []*os.File
	done = func() {
		for _, f := range open {
			_ = f.Close()
		}
	}
	var parts []io.Reader
	text := &bytes.Buffer{}
	writer := multipart.NewWriter(text)
	for _, name := range slices.Sorted(maps.Keys(r.fields)) {
		value, err := inForm(r.fields[name])
		if err == nil {
			err = writer.WriteField(name, value)
		}
		if err != nil {
			return nil, "", done, &engine.Error{Class: engine.BadInput, Message: "The params cannot be sent to the engine's server.", Err: err}
		}
	}
	for _, file := range r.files {
		f, mediaType, err := openInput(file.path)
		if err != nil {
			done()
			return nil, "", func() {}, err
		}
		open = append(open, f)
		_, subtype, _ := strings.Cut(mediaType, "/")
		if _, err := writer.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {mime.FormatMediaType("form-data", map[string]string{"name": file.field, "filename": "input." + subtype})},
			"Content-Type":        {mediaType},
		}); err != nil {
			done()
			return nil, "", func() {}, fmt.Errorf("write the form: %w", err)
		}
		// The writer goes on behind the file.
		parts = append(parts, bytes.NewReader(bytes.Clone(text.Bytes())), f)
		text.Reset()
	}
	if err := writer.Close(); err != nil {
		done()
		return nil, "", func() {}, fmt.Errorf("write the form: %w", err)
	}
	return io.MultiReader(append(parts, text)...), writer.FormDataContentType(), done, nil
}

// inForm writes a value as forms have it: a text as it is, everything else as JSON.
func inForm(value any) (string, error) {
	if text, ok := value.(string); ok {
		return text, nil
	}
	data, err := json.Marshal(value)
	return string(data), err
}

func openInput(path string) (*os.File, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", &engine.Error{Class: engine.EngineDown, Message: "The worker cannot read an input.", Err: err}
	}
	head := make([]byte, 512)
	n, err := f.ReadAt(head, 0)
	mediaType := storage.MediaType(head[:n])
	switch {
	case err != nil && err != io.EOF: //nolint:errorlint // what ReadAt of a file returns
		err = &engine.Error{Class: engine.EngineDown, Message: "The worker cannot read an input.", Err: err}
	case mediaType == "":
		err = engine.Errorf(engine.BadInput, "An input is neither a JPEG, PNG or WebP picture nor an MP4, MOV or WebM video.")
	default:
		return f, mediaType, nil
	}
	_ = f.Close()
	return nil, "", err
}
