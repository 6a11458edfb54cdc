// Package openaiserver offers an [engine.Engine] over HTTP in the shape of OpenAI's API for images and videos, so that any
// program written for that API can use this machine's engine without a database.
//
// Source of the shape: OpenAI's API reference and its npm client 7.57.0, which the tests run against the server.
package openaiserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"darkroom/workerd/engine"
)

const (
	defaultQueue = 8
	defaultKeep  = time.Hour

	maxHeaderBytes = 64 << 10
	headerTimeout  = 10 * time.Second
	bodyTimeout    = 2 * time.Minute
	healthTimeout  = 10 * time.Second
	// shutdownTimeout is how long answers that are being sent may go on after the end.
	shutdownTimeout = 3 * time.Second
)

// Config says what is served, and how.
type Config struct {
	// Listen is where Serve listens, such as "127.0.0.1:8790".
	Listen string
	// Key is what callers must send as "Authorization: Bearer KEY". It may be empty only on a loopback address.
	Key string
	// Engine says by its Info what is served: pictures when it does single_image, videos when it does travel_segment.
	Engine engine.Engine
	// Run does a task, waiting for a free slot of the engine first, which is how these tasks share the slots with others. When
	// nil, the server itself gives the engine at most Info.Slots tasks at a time.
	Run func(context.Context, engine.Task, engine.Sink) (engine.Result, error)
	// Folder is where a folder for files is made, the system's temporary folder when empty.
	Folder string
	// Queue is how many requests may wait for a slot, 8 when 0; more are refused with 429.
	Queue int
	// Keep is how long finished videos can be fetched, an hour when 0.
	Keep time.Duration
	// Log is for what is no business of callers; nothing is logged when nil.
	Log *slog.Logger
}

// Server is an [http.Handler]. What it keeps lies in a folder of its own, which Close deletes.
type Server struct {
	config Config
	info   engine.Info
	models []string
	began  time.Time
	folder string
	mux    *http.ServeMux
	guard  *http.CrossOriginProtection
	slots  chan struct{} // of Engine, when Run is not given

	ctx    context.Context //nolint:containedctx // the server's life, which the work on videos ends with
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	admitted int
	videos   []*video // oldest first
}

// New makes a server. An error says what is wrong with the configuration.
func New(c Config) (*Server, error) {
	if c.Key == "" && !isLoopback(c.Listen) {
		return nil, fmt.Errorf("serving on %q needs a key, since others than this machine could reach it: set a key, or listen on 127.0.0.1", c.Listen)
	}
	if c.Queue == 0 {
		c.Queue = defaultQueue
	}
	if c.Keep == 0 {
		c.Keep = defaultKeep
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	folder, err := os.MkdirTemp(c.Folder, "openai-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the files: %w", err)
	}
	s := &Server{config: c, info: c.Engine.Info(), began: time.Now(), folder: folder, guard: http.NewCrossOriginProtection()}
	s.models = s.info.Models
	if len(s.models) == 0 {
		s.models = []string{s.info.Name}
	}
	s.slots = make(chan struct{}, s.info.Slots)
	if c.Run == nil {
		s.config.Run = s.runInSlot
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.mux = http.NewServeMux()
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /health":                 s.health,
		"GET /v1/models":              s.listModels,
		"GET /v1/models/{id...}":      s.getModel,
		"POST /v1/images/generations": s.createImages,
		"POST /v1/images/edits":       unsupported("Pictures cannot be edited by this server's engine; use /v1/images/generations."),
		"POST /v1/images/variations":  unsupported("Variations of pictures cannot be made by this server's engine; use /v1/images/generations."),
		"POST /v1/videos":             s.createVideo,
		"GET /v1/videos":              s.listVideos,
		"GET /v1/videos/{id}":         s.getVideo,
		"GET /v1/videos/{id}/content": s.getContent,
		"DELETE /v1/videos/{id}":      s.deleteVideo,
		"POST /v1/videos/{id}/remix":  unsupported("Videos cannot be remixed by this server's engine; make a new one with POST /v1/videos."),
		"POST /v1/videos/edits":       unsupported("Videos cannot be edited by this server's engine; make a new one with POST /v1/videos."),
		"POST /v1/videos/extensions":  unsupported("Videos cannot be extended by this server's engine; make a new one with POST /v1/videos."),
		"/":                           unknown,
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := handle(w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	return s, nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Serve listens and answers until ctx ends; then it ends what runs, deletes all files and returns nil.
func (s *Server) Serve(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for OpenAI requests: %w", err), s.Close())
	}
	return s.serve(ctx, listener)
}

func (s *Server) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: maxHeaderBytes, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
	s.config.Log.InfoContext(ctx, "serving OpenAI requests", "address", listener.Addr().String(), "models", s.models)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return errors.Join(fmt.Errorf("serve OpenAI requests: %w", err), s.Close())
	case <-ctx.Done():
	}
	s.cancel() // so that answers which wait for work end as well
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		_ = server.Close() // cuts what is still being sent
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(fmt.Errorf("serve OpenAI requests: %w", err), s.Close())
	}
	return s.Close()
}

// Close ends what runs and deletes all files. The server answers nothing but errors afterwards.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, v := range s.videos {
		if v.expiry != nil {
			v.expiry.Stop()
		}
	}
	s.videos = nil
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
	if err := os.RemoveAll(s.folder); err != nil {
		return fmt.Errorf("delete the files: %w", err)
	}
	return nil
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if err := s.admitCaller(r); err != nil {
		s.fail(w, r, err)
		return
	}
	// The mux would answer an unclean path with a redirect, which turns a POST into a GET.
	if clean := path.Clean(r.URL.Path); clean != r.URL.Path {
		s.fail(w, r, unknown(w, r))
		return
	}
	s.mux.ServeHTTP(w, r)
}

// admitCaller refuses who has not the key, and where there is no key, pages of other sites in a browser on this machine.
func (s *Server) admitCaller(r *http.Request) error {
	if s.config.Key == "" {
		if !isLoopback(r.Host) { // a name that resolves to 127.0.0.1, so that a page may read answers
			return &apiError{status: http.StatusForbidden, kind: invalidRequest, code: "forbidden_host", message: "Without a key this server answers on localhost only."}
		}
		if err := s.guard.Check(r); err != nil {
			return &apiError{status: http.StatusForbidden, kind: invalidRequest, code: "forbidden_origin", message: "Without a key this server takes no requests from web pages."}
		}
		return nil
	}
	if r.URL.Path == "/health" {
		return nil
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.config.Key))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return &apiError{
			status: http.StatusUnauthorized, kind: invalidRequest, code: "invalid_api_key",
			message: "The API key is missing or wrong: send this server's key as Authorization: Bearer KEY.",
		}
	}
	return nil
}

// admit takes a place for one request's work, which release gives back. Err is 429 when as many wait as may.
func (s *Server) admit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &apiError{status: http.StatusServiceUnavailable, kind: serverFault, code: "shutting_down", message: "The server is shutting down."}
	}
	if s.admitted >= s.info.Slots+s.config.Queue {
		return &apiError{
			status: http.StatusTooManyRequests, kind: "rate_limit_error", code: "rate_limit_exceeded", retryAfter: 5,
			message: fmt.Sprintf("%d requests are being worked on or waiting, which is all this server takes; try again later.", s.admitted),
		}
	}
	s.admitted++
	s.work.Add(1)
	return nil
}

func (s *Server) release() {
	s.mu.Lock()
	s.admitted--
	s.mu.Unlock()
	s.work.Done()
}

// runInSlot is Config.Run for an engine that is not shared.
func (s *Server) runInSlot(ctx context.Context, task engine.Task, sink engine.Sink) (engine.Result, error) {
	select {
	case <-ctx.Done():
		return engine.Result{}, engine.Stopped(ctx)
	case s.slots <- struct{}{}:
	}
	defer func() { <-s.slots }()
	return s.config.Engine.Run(ctx, task, sink)
}

// does says whether the engine does tasks of a type.
func (s *Server) does(taskType string) bool { return slices.Contains(s.info.TaskTypes, taskType) }

func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	if err := s.config.Engine.Health(ctx); err != nil {
		return err
	}
	return answer(w, map[string]string{"status": "ok"})
}

type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func (s *Server) model(id string) model {
	return model{ID: id, Object: "model", Created: s.began.Unix(), OwnedBy: "darkroom"}
}

func (s *Server) listModels(w http.ResponseWriter, _ *http.Request) error {
	list := make([]model, len(s.models))
	for i, id := range s.models {
		list[i] = s.model(id)
	}
	return answer(w, map[string]any{"object": "list", "data": list})
}

func (s *Server) getModel(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if !slices.Contains(s.models, id) {
		return s.noModel(id)
	}
	return answer(w, s.model(id))
}

func (s *Server) noModel(id string) error {
	return &apiError{
		status: http.StatusNotFound, kind: invalidRequest, param: "model", code: "model_not_found",
		message: fmt.Sprintf("This server has no model %.100q; it has %s.", id, strings.Join(s.models, ", ")),
	}
}
