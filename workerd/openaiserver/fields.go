package openaiserver

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"darkroom/gateway/storage"
)

const (
	maxBody  = 32 << 20
	maxParts = 64
)

// fields are those of one request, from JSON or a form. Reading one marks it as known; the first thing that is wrong stays in err.
type fields struct {
	values map[string]json.RawMessage // a text from a form is a JSON text too
	files  map[string]string          // paths of uploads
	known  map[string]bool
	folder string
	err    error
}

// readFields reads the body of a request, with its files into the folder. The body has [maxBody] bytes at most, in two minutes.
func readFields(w http.ResponseWriter, r *http.Request, folder string) (*fields, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // who can't set it is a test's recorder
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	f := &fields{values: map[string]json.RawMessage{}, files: map[string]string{}, known: map[string]bool{}, folder: folder}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err == nil && mediaType == "multipart/form-data":
		err = f.readForm(r)
	case err == nil && mediaType == "application/json":
		err = f.readJSON(r)
	default:
		return nil, &apiError{
			status: http.StatusUnsupportedMediaType, kind: invalidRequest, code: "unsupported_media_type",
			message: "Send the request as application/json or multipart/form-data.",
		}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &apiError{
			status: http.StatusRequestEntityTooLarge, kind: invalidRequest, code: "request_too_large",
			message: fmt.Sprintf("The request is larger than %d MB.", maxBody>>20),
		}
	}
	return f, err
}

func (f *fields) readJSON(r *http.Request) error {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return broken(err)
	}
	if json.Unmarshal(data, &f.values) != nil || f.values == nil {
		return badField("", "invalid_json", "The body of the request is not a JSON object.")
	}
	maps.DeleteFunc(f.values, func(_ string, value json.RawMessage) bool { return string(value) == "null" })
	return nil
}

func (f *fields) readForm(r *http.Request) error {
	reader, err := r.MultipartReader()
	if err != nil {
		return badField("", "invalid_form", "The form cannot be read.")
	}
	for count := 0; ; count++ {
		part, err := reader.NextPart()
		if err == io.EOF { //nolint:errorlint // a form that broke off wraps io.EOF
			// Only behind the body the server notices that the caller has gone.
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return broken(err)
			}
			return nil
		}
		if err != nil {
			return broken(err)
		}
		name := part.FormName()
		switch {
		case count >= maxParts:
			return badField("", "invalid_form", "The form has more than %d fields.", maxParts)
		case f.files[name] != "" || f.values[name] != nil:
			return badField(name, "invalid_form", "The form has the field %.50q twice.", name)
		case part.FileName() != "":
			f.files[name], err = f.save(part)
		default:
			var text []byte
			if text, err = io.ReadAll(part); err == nil {
				f.values[name], err = json.Marshal(string(text))
			}
		}
		if err != nil {
			return broken(err)
		}
	}
}

// broken says that a body could not be read; what [readFields] or the server itself has to say goes before.
func broken(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*apiError](err); ok {
		return err
	}
	return &apiError{status: http.StatusBadRequest, kind: invalidRequest, code: "broken_request", message: "The body of the request broke off or cannot be read."}
}

// save keeps a file that came with the request.
func (f *fields) save(from io.Reader) (string, error) {
	file, err := os.CreateTemp(f.folder, "input-*")
	if err != nil {
		return "", noRoom(err)
	}
	defer file.Close()
	if _, err := io.Copy(file, from); err != nil {
		if _, ok := errors.AsType[*os.PathError](err); ok {
			return "", noRoom(err)
		}
		return "", err //nolint:wrapcheck // told apart by the caller
	}
	return file.Name(), nil
}

func noRoom(error) error {
	return &apiError{status: http.StatusInsufficientStorage, kind: serverFault, code: "storage_full", message: "The server cannot keep the file now."}
}

func (f *fields) blame(err error) {
	if f.err == nil {
		f.err = err
	}
}

// text reads a text; "" when there is none.
func (f *fields) text(name string) string {
	f.known[name] = true
	var text string
	if raw, ok := f.values[name]; ok && json.Unmarshal(raw, &text) != nil {
		f.blame(badField(name, "invalid_type", "%s must be a text.", name))
	}
	return text
}

// whole reads a whole number from least to most, which forms and some clients send as a text.
func (f *fields) whole(name string, least, most int64) (value int64, found bool) {
	f.known[name] = true
	raw, ok := f.values[name]
	if !ok {
		return 0, false
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil || value < least || value > most {
		f.blame(badField(name, "invalid_value", "%s must be a whole number from %d to %d.", name, least, most))
	}
	return value, true
}

// only accepts a field that has one of the given values, or is missing, as that is what the server does anyway. why says so.
func (f *fields) only(name, why string, values ...string) {
	f.known[name] = true
	raw, ok := f.values[name]
	if !ok {
		return
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	if !slices.Contains(values, text) {
		f.blame(badField(name, "unsupported_value", "%s cannot be %.50s: %s", name, text, why))
	}
}

var sizes = regexp.MustCompile(`^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$`)

// size reads a size; "" for the server's own.
func (f *fields) size() string {
	size := f.text("size")
	if size == "auto" {
		return ""
	}
	if size != "" && !sizes.MatchString(size) {
		f.blame(badField("size", "invalid_value", "size must be auto or WIDTHxHEIGHT, such as 512x512."))
	}
	return size
}

// picture returns the path of a picture that came as a file, as a data URL, or as an object with one in image_url; "" when none did.
func (f *fields) picture(name string) string {
	inside := name + "[image_url]" // how forms write an object
	f.known[name], f.known[inside], f.known[name+"[file_id]"] = true, true, true
	path := f.files[name]
	var address string
	var reference struct {
		ImageURL string `json:"image_url"`
	}
	switch raw := f.values[name]; {
	case path != "":
	case raw != nil && json.Unmarshal(raw, &address) == nil:
	case raw != nil && json.Unmarshal(raw, &reference) == nil && reference.ImageURL != "":
		address = reference.ImageURL
	case f.values[inside] != nil:
		address = f.text(inside)
	case raw != nil || f.values[name+"[file_id]"] != nil:
		f.blame(badField(name, "invalid_value", "%s must be a file or a data URL; this server keeps no files to name by id.", name))
		return ""
	default:
		return ""
	}
	if address != "" {
		_, encoded, found := strings.Cut(address, ";base64,")
		data, err := base64.StdEncoding.DecodeString(encoded)
		if !strings.HasPrefix(address, "data:image/") || !found || err != nil {
			f.blame(badField(name, "invalid_value", "%s must be a file or a data URL as data:image/png;base64,...; this server fetches no addresses.", name))
			return ""
		}
		if path, err = f.save(bytes.NewReader(data)); err != nil {
			f.blame(err)
			return ""
		}
	}
	if mediaType := mediaTypeOf(path); !strings.HasPrefix(mediaType, "image/") {
		f.blame(badField(name, "invalid_value", "%s must be a PNG, JPEG or WebP picture.", name))
	}
	return path
}

func mediaTypeOf(path string) string {
	file, err := os.Open(path) //nolint:gosec // a name that save or the engine has made
	if err != nil {
		return ""
	}
	defer file.Close()
	head := make([]byte, 512)
	n, _ := io.ReadFull(file, head)
	return storage.MediaType(head[:n])
}

// done returns the first error, also for a field that nobody has read: what is not understood is not passed over in silence.
func (f *fields) done() error {
	for _, name := range slices.Sorted(maps.Keys(f.values)) {
		if !f.known[name] {
			f.blame(badField(name, "unknown_parameter", "Unknown parameter: '%.50s'.", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		if !f.known[name] {
			f.blame(badField(name, "unknown_parameter", "Unknown parameter: '%.50s'.", name))
		}
	}
	return f.err
}
