package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"darkroom/workerd/worker"
)

// serveHealth serves the worker's health until the function it returns is called.
func serveHealth(ctx context.Context, address string, w *worker.Worker) (func(), error) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("the health address %q must be one of this machine only, such as 127.0.0.1:8485", address)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serving health: %w", err)
	}
	server := &http.Server{Handler: healthHandler(w), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }() // ends with Close
	return func() { _ = server.Close() }, nil
}

// healthHandler answers GET /healthz: 200 while the worker works, else 503 with the reason. The engines are told of, but do not count: a worker goes on
// with those that are up.
func healthHandler(w *worker.Worker) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(response http.ResponseWriter, _ *http.Request) {
		answer, code := struct {
			State string `json:"status"` // "ok", or why not

			worker.Status
		}{"ok", w.Status()}, http.StatusOK
		if err := w.Check(); err != nil {
			answer.State, code = err.Error(), http.StatusServiceUnavailable
		}
		response.Header().Set("Content-Type", "application/json")
		response.WriteHeader(code)
		_ = json.NewEncoder(response).Encode(answer)
	})
	return http.TimeoutHandler(mux, time.Second, "")
}
