package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"darkroom/workerd/engine"
)

const (
	maxErrorBytes = 64 << 10
	maxQuoted     = 300
)

// StatusError is an answer with another status than 2xx.
type StatusError struct {
	Code       int
	Body       string        // its beginning, without the client's secrets; may hold what the owner of a task must not see
	RetryAfter time.Duration // what the server's Retry-After asks to wait, 0 when it does not
}

// Error returns the status and the beginning of the answer, on one line.
func (e *StatusError) Error() string {
	return fmt.Sprintf("HTTP %d: %s", e.Code, Quote(e.Body))
}

// refusal makes the error of an answer with another status than 2xx.
func (c *Client) refusal(ctx context.Context, response *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxErrorBytes))
	if err != nil && engine.Stopped(ctx) != nil { // else what came of the body must do
		return engine.Stopped(ctx)
	}
	status := &StatusError{Code: response.StatusCode, Body: c.hide(string(body)), RetryAfter: retryAfter(response.Header, time.Now())}
	class, message := classify(status)
	return &engine.Error{Class: class, Message: message, Err: status}
}

func classify(status *StatusError) (engine.Class, string) {
	said := messageIn(status.Body)
	switch code := status.Code; {
	case (code >= 500 || code == http.StatusBadRequest) && IsOutOfMemory(status.Body):
		return engine.OutOfMem, "The engine ran out of memory; a smaller output may fit."
	case code == http.StatusRequestEntityTooLarge && said == "":
		return engine.BadInput, "The task's inputs are larger than the engine's server takes."
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		return engine.BadInput, Sentence("The engine refused the task: " + cmp.Or(said, "it gave no reason"))
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return engine.EngineDown, "The engine's server refuses the worker's key; the operator must set a valid one."
	case code == http.StatusNotFound, code == http.StatusMethodNotAllowed:
		return engine.EngineDown, "The engine's server does not know the request; the operator must check its address and version."
	case code == http.StatusTooManyRequests:
		return engine.EngineDown, "The engine's server takes no more work now; the task will be tried again."
	default:
		return engine.EngineDown, fmt.Sprintf("The engine's server failed (HTTP %d); the task will be tried again.", code)
	}
}

// IsOutOfMemory says whether a text from an engine tells that memory ran out, on the device or in the machine.
func IsOutOfMemory(text string) bool {
	text = strings.ToLower(text)
	for _, phrase := range []string{"out of memory", "outofmemory", "out_of_memory", "cannot allocate memory", "failed to allocate memory", "defaultcpuallocator: not enough memory"} {
		if strings.Contains(text, phrase) {
			return true
		}
	}
	return false
}

// devices are marks of failures of the device or its driver in messages of PyTorch.
var devices = regexp.MustCompile(`(?i)\b(cuda|hip|cudnn|cublas|cusolver|nccl|mps|xpu) error|cuda driver|no cuda gpus|device-side assert|` +
	`cudnn_status|cublas_status|mps backend|acceleratorerror`)

// IsDeviceFailure says whether a text from an engine tells that the device or its driver failed, so that another try may succeed.
func IsDeviceFailure(text string) bool { return devices.MatchString(text) }

// Quote puts a text of a server's on one line, of at most 300 characters, to be shown to people.
func Quote(text string) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, " "), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	if runes := []rune(text); len(runes) > maxQuoted {
		return string(runes[:maxQuoted-1]) + "…"
	}
	return text
}

// Sentence ends a text with a full stop, unless it ends with a mark already.
func Sentence(text string) string {
	text = strings.TrimRight(text, " ,;:")
	if strings.HasSuffix(text, ".") {
		return text
	}
	return text + "."
}

// messageIn finds what an answer says went wrong, in the forms of OpenAI and ComfyUI ({"error":{"message":…}}), FastAPI
// ({"detail":…}) and others; "" when it holds nothing for people.
func messageIn(body string) string {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(body), &object) != nil {
		if strings.HasPrefix(strings.TrimSpace(body), "<") { // a page of some proxy
			return ""
		}
		return Quote(body)
	}
	for _, name := range []string{"error", "detail", "message", "msg"} {
		if text := textIn(object[name]); text != "" {
			return Quote(text)
		}
	}
	return ""
}

// textIn reads a message that is a text, an object with one, or a list of those.
func textIn(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		var texts []string
		for _, element := range list {
			if text := textIn(element); text != "" {
				texts = append(texts, text)
			}
		}
		return strings.Join(texts, "; ")
	}
	var object struct {
		Message string            `json:"message"`
		Msg     string            `json:"msg"` // FastAPI, which names the field in loc
		Loc     []json.RawMessage `json:"loc"`
		Details string            `json:"details"` // ComfyUI
	}
	if json.Unmarshal(raw, &object) != nil {
		return ""
	}
	text = cmp.Or(object.Message, object.Msg)
	if object.Details != "" {
		text += ": " + object.Details
	}
	if n := len(object.Loc); n > 0 {
		text = strings.Trim(string(object.Loc[n-1]), `"`) + ": " + text
	}
	return text
}

// retryAfter reads Retry-After, in seconds or as a date (RFC 9110, section 10.2.3).
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 && seconds < 1e6 {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil && date.After(now) {
		return date.Sub(now)
	}
	return 0
}
