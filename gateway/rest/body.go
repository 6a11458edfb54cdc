package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"darkroom/gateway/problem"
)

const (
	maxBodyBytes = 2 << 20
	// maxBodyDepth bounds how deep a body nests; params may have 32 levels.
	maxBodyDepth = 64
)

// badBody refuses a body.
func badBody(message, hint string) error { return refuse(codeBody, message, "", hint) }

// readBody reads a JSON body; nil: there is none.
func readBody(r *request) ([]byte, error) {
	web := r.echo.Request()
	data, err := io.ReadAll(http.MaxBytesReader(r.echo.Response(), web.Body, maxBodyBytes))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, problem.Refuse(problem.TooLarge, fmt.Sprintf("A body may have up to %d bytes.", maxBodyBytes))
	}
	if err != nil {
		return nil, badBody("The body did not arrive whole", "")
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil, nil
	}
	if given := web.Header.Get("Content-Type"); given != "" {
		media, _, err := mime.ParseMediaType(given)
		if err != nil || media != "application/json" && media != "application/vnd.pgrst.object+json" && media != "application/vnd.pgrst.array+json" {
			return nil, badBody("Content-Type not acceptable: "+shortened(given), "Send application/json.")
		}
	}
	if tooDeep(data) {
		return nil, badBody(fmt.Sprintf("The body nests deeper than %d levels", maxBodyDepth), "")
	}
	if !json.Valid(data) {
		return nil, badBody("Empty or invalid json", "")
	}
	return data, nil
}

// tooDeep reports whether JSON nests too deep, before anything that recurses looks at it.
func tooDeep(data []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch ch := data[i]; {
		case ch == '\\' && quoted:
			i++
		case ch == '"':
			quoted = !quoted
		case quoted:
		case ch == '{' || ch == '[':
			if depth++; depth > maxBodyDepth {
				return true
			}
		case ch == '}' || ch == ']':
			depth--
		}
	}
	return false
}

// keysOf lists the keys of a JSON object.
func keysOf(data []byte) ([]string, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil || object == nil {
		return nil, badBody("The body must be a JSON object", "")
	}
	keys := make([]string, 0, len(object))
	for key := range object {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys, nil
}

// rowsBody is the body of an insert.
type rowsBody struct {
	data []byte   // a JSON list of objects
	rows int      // how many
	keys []string // of the rows, sorted
	// missing are the keys that some rows lack.
	missing map[string]bool
}

func readRows(data []byte) (rowsBody, error) {
	if data == nil {
		return rowsBody{}, badBody("Empty or invalid json", "")
	}
	if data[0] == '{' {
		data = slices.Concat([]byte("["), data, []byte("]"))
	}
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil || list == nil {
		return rowsBody{}, badBody("The body must be a JSON object or a list of them", "")
	}
	body := rowsBody{data: data, rows: len(list), missing: map[string]bool{}}
	times := map[string]int{}
	for _, row := range list {
		if row == nil {
			return rowsBody{}, badBody("The body must be a JSON object or a list of them", "")
		}
		for key := range row {
			times[key]++
		}
	}
	for key, n := range times {
		body.keys = append(body.keys, key)
		body.missing[key] = n < len(list)
	}
	slices.Sort(body.keys)
	return body, nil
}

// uniform refuses rows with different keys, where nothing says which columns are meant.
func (b *rowsBody) uniform() error {
	for _, key := range b.keys {
		if b.missing[key] {
			return badBody("All object keys must match", "Name the columns in the parameter columns: "+shortened(strings.Join(b.keys, ",")))
		}
	}
	return nil
}
