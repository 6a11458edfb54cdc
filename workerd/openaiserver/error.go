package openaiserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"darkroom/workerd/engine"
)

// Types of errors.
const (
	invalidRequest = "invalid_request_error"
	serverFault    = "server_error"
)

// apiError is an error as OpenAI's API writes it.
type apiError struct {
	status     int
	kind       string // "type" on the wire
	param      string // the field that is to blame, "" for none
	code       string
	message    string
	retryAfter int // seconds, 0 for none
}

// Error returns the message.
func (e *apiError) Error() string { return e.message }

// badField blames a field of the request.
func badField(param, code, format string, args ...any) error {
	return &apiError{status: http.StatusBadRequest, kind: invalidRequest, param: param, code: code, message: fmt.Sprintf(format, args...)}
}

// ofEngine says an engine's error as the API does.
func ofEngine(err error) *apiError {
	message := engine.MessageOf(err)
	switch class := engine.ClassOf(err); class {
	case engine.BadInput:
		return &apiError{status: http.StatusBadRequest, kind: invalidRequest, code: string(class), message: message}
	case engine.Timeout:
		return &apiError{status: http.StatusGatewayTimeout, kind: serverFault, code: string(class), message: message}
	case engine.EngineDown, engine.Cancelled:
		return &apiError{status: http.StatusServiceUnavailable, kind: serverFault, code: string(class), message: message}
	default:
		return &apiError{status: http.StatusInternalServerError, kind: serverFault, code: string(class), message: message}
	}
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	failure, ok := errors.AsType[*apiError](err)
	if !ok {
		failure = ofEngine(err)
	}
	if failure.status >= 500 && r.Context().Err() == nil {
		s.config.Log.WarnContext(r.Context(), "an OpenAI request failed", "path", r.URL.Path, "status", failure.status, "error", err)
	}
	if failure.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(failure.retryAfter))
	}
	var param *string
	if failure.param != "" {
		param = &failure.param
	}
	write(w, failure.status, map[string]any{"error": map[string]any{
		"message": failure.message, "type": failure.kind, "param": param, "code": failure.code,
	}})
}

// answer sends a value as JSON.
func answer(w http.ResponseWriter, value any) error {
	write(w, http.StatusOK, value)
	return nil
}

func write(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) //nolint:errchkjson // who has gone needs no answer, and our own types can be written
}

func unknown(_ http.ResponseWriter, r *http.Request) error {
	return &apiError{
		status: http.StatusNotFound, kind: invalidRequest, code: "unknown_url",
		message: fmt.Sprintf("This server has no %s %.100s; it has /v1/models, /v1/images/generations and /v1/videos.", r.Method, r.URL.Path),
	}
}

func unsupported(message string) func(http.ResponseWriter, *http.Request) error {
	return func(http.ResponseWriter, *http.Request) error {
		return &apiError{status: http.StatusBadRequest, kind: invalidRequest, code: "unsupported", message: message}
	}
}
