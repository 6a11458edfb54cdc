package limits_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/limits"
	"darkroom/gateway/problem"
)

// read reads a body through Depth, and reports whether it was found too deep.
func read(t testing.TB, method, path, contentType string, body io.Reader) (text []byte, tooDeep bool) {
	t.Helper()
	r := httptest.NewRequest(method, path, body)
	if contentType != "" {
		r.Header.Set(echo.HeaderContentType, contentType)
	}
	err := limits.Depth(func(c echo.Context) (err error) {
		text, err = io.ReadAll(c.Request().Body)
		return err
	})(echo.New().NewContext(r, httptest.NewRecorder()))
	if err == nil {
		return text, false
	}
	if p, ok := errors.AsType[*problem.Error](err); !ok || p.Code != "TD004" || problem.Status(p.Code) != http.StatusRequestEntityTooLarge {
		t.Fatalf("reading: %v", err)
	}
	return nil, true
}

func nested(levels int) string {
	return strings.Repeat(`{"a":[`, levels/2) + strings.Repeat(`]}`, levels/2)
}

func TestBodiesThatAreNestedTooDeepAreNotParsed(t *testing.T) {
	t.Parallel()
	const fn = "/functions/v1/create_task"
	for _, test := range []struct {
		name, method, path, contentType, body string
		tooDeep                               bool
	}{
		{"as deep as may be", http.MethodPost, fn, "application/json", nested(limits.MaxDepth), false},
		{"deeper", http.MethodPost, fn, "application/json", nested(limits.MaxDepth + 2), true},
		{"of a type like JSON", http.MethodPost, fn, "application/vnd.pgrst.object+json; charset=utf-8", nested(66), true},
		{"without a type", http.MethodPost, fn, "", nested(66), true},
		{"as text", http.MethodPost, fn, "text/plain", nested(66), true},
		{"with a type nobody knows", http.MethodPost, fn, "a;;b", nested(66), true},
		{"wide", http.MethodPost, fn, "application/json", "[" + strings.Repeat("[],{},", 5000) + "1]", false},
		{"brackets in a text", http.MethodPost, fn, "application/json", `{"a":"` + strings.Repeat("[", 500) + `\"{{"}`, false},
		{"an escaped end of a text", http.MethodPost, fn, "application/json", `{"a":"\\"` + strings.Repeat(",[", 500), true},
		{"a signed address", http.MethodPost, "/storage/v1/object/sign/image_uploads", "application/json", nested(66), true},
		{"a removal", http.MethodDelete, "/storage/v1/object/image_uploads", "application/json", nested(66), true},
		{"a file that is uploaded", http.MethodPost, "/storage/v1/object/image_uploads/a.json", "application/json", nested(66), false},
		{"what has its own limit", http.MethodPost, "/rest/v1/rpc/x", "application/json", nested(66), false},
		{"a form", http.MethodPost, fn, "multipart/form-data; boundary=x", nested(66), false},
		{"bytes", http.MethodPost, fn, "application/octet-stream", nested(66), false},
	} {
		for name, body := range map[string]io.Reader{"at once": strings.NewReader(test.body), "byte by byte": iotest.OneByteReader(strings.NewReader(test.body))} {
			text, tooDeep := read(t, test.method, test.path, test.contentType, body)
			if tooDeep != test.tooDeep || !tooDeep && string(text) != test.body {
				t.Errorf("%s, %s: too deep: %v", test.name, name, tooDeep)
			}
		}
	}
}

// deepest is how deep a parser goes into a text, up to where it finds it wrong.
func deepest(text []byte) (levels int) {
	decoder, depth := json.NewDecoder(bytes.NewReader(text)), 0
	for {
		token, err := decoder.Token()
		if err != nil {
			return levels
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			levels = max(levels, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

// FuzzJSONDepth holds Depth against a parser: what a parser would nest too deep does not get through, valid JSON that is not too deep does, whatever the
// pieces that it comes in.
func FuzzJSONDepth(f *testing.F) {
	for _, text := range []string{nested(64), nested(66), `{"a":"\\"`, `"\u005b[[["`, `[1,"]",{"[":null}]`, `]]]][[[[`, "\xff[", `{"a":[[[]]]} [[`} {
		f.Add([]byte(text), uint8(1))
	}
	f.Add([]byte(strings.Repeat(`{"\\\"":[`, 40)), uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, piece uint8) {
		// A fuzzer seldom nests by itself: one level of it becomes eight.
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("["), []byte("[[[[[[[[")), []byte("]"), []byte("]]]]]]]]"))
		got, tooDeep := read(t, http.MethodPost, "/functions/v1/f", "application/json", &pieces{text, int(piece)%7 + 1})
		levels := deepest(text)
		if levels > limits.MaxDepth && !tooDeep {
			t.Errorf("%d levels passed: %q", levels, text)
		}
		if json.Valid(text) && levels <= limits.MaxDepth && tooDeep {
			t.Errorf("%d levels did not pass: %q", levels, text)
		}
		if !tooDeep && !bytes.Equal(got, text) {
			t.Errorf("%q came out as %q", text, got)
		}
	})
}

// pieces reads a text in pieces of a size.
type pieces struct {
	text []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.text) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.text[:min(p.size, len(p.text))])
	p.text = p.text[n:]
	return n, nil
}
