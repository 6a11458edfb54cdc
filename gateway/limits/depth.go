package limits

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/problem"
	"darkroom/sql/taskdb"
)

// MaxDepth is how deep a JSON body may be nested. The params of a task, the deepest thing there is, may have 32 levels.
const MaxDepth = 64

// Depth has JSON bodies break off, with [taskdb.ErrParamsTooLarge], where they are nested deeper than MaxDepth: before anything parses them. Files are
// left alone: what is uploaded is not parsed.
func Depth(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if r := c.Request(); r.Body != nil && r.Body != http.NoBody && isJSON(r) {
			r.Body = &depthReader{body: r.Body}
		}
		return next(c)
	}
}

// isJSON reports whether a door may parse the body as JSON. Without a type, and as text, functions take it for JSON.
func isJSON(r *http.Request) bool {
	if strings.HasPrefix(r.URL.Path, "/rest/v1/") { // it refuses in words of its own
		return false
	}
	media, _, err := mime.ParseMediaType(r.Header.Get(echo.HeaderContentType))
	if strings.HasPrefix(r.URL.Path, "/storage/v1/object/") && (r.Method == http.MethodPost || r.Method == http.MethodPut) {
		action, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/storage/v1/object/"), "/")
		switch action {
		case "list", "sign", "move", "copy":
		default:
			return false
		}
	}
	return err != nil || strings.Contains(media, "json") || strings.HasPrefix(media, "text/")
}

// depthReader reads JSON and counts its brackets.
type depthReader struct {
	body     io.ReadCloser
	depth    int
	inString bool
	escaped  bool
	err      error
}

// Read implements [io.Reader].
func (d *depthReader) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.body.Read(p)
	if !d.scan(p[:n]) {
		d.err = problem.New(taskdb.ErrParamsTooLarge.Code, taskdb.ErrParamsTooLarge.Message,
			fmt.Sprintf("A body may be nested up to %d levels.", MaxDepth), "Flatten the structure.")
		return 0, d.err
	}
	return n, err //nolint:wrapcheck // a reader passes on what it is given
}

// Close implements [io.Closer].
func (d *depthReader) Close() error { return d.body.Close() } //nolint:wrapcheck // likewise

// scan reports whether the text goes nowhere too deep. What is no JSON at all is left to the parser.
func (d *depthReader) scan(text []byte) bool {
	for _, b := range text {
		switch {
		case d.escaped:
			d.escaped = false
		case d.inString:
			switch b {
			case '\\':
				d.escaped = true
			case '"':
				d.inString = false
			}
		case b == '"':
			d.inString = true
		case b == '{' || b == '[':
			if d.depth++; d.depth > MaxDepth {
				return false
			}
		case b == '}' || b == ']':
			d.depth = max(d.depth-1, 0)
		}
	}
	return true
}
