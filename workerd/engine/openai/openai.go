// Package openai is the engine that has a server of the OpenAI shape do the work: OpenAI's own, vLLM-Omni, SGLang Diffusion,
// NVIDIA Dynamo, LocalAI, stable-diffusion.cpp, or another workerd (package openaiserver).
//
// Pictures come from POST /images/generations and /images/edits, which answer when they are done, without progress. Videos are
// jobs: POST /videos, GET /videos/{id} until it is completed, GET /videos/{id}/content, and DELETE /videos/{id} to call one off.
// Source: OpenAI's API reference, its npm client 7.57.0, and the documentation of vLLM-Omni and SGLang.
package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // formats of pictures whose size is read
	_ "image/png"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	_ "golang.org/x/image/webp"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
	"darkroom/workerd/engine/remote"
)

const (
	// restLimited is how long to rest after a 429 that does not say how long.
	restLimited = 10 * time.Second
	// restUnpaid is how long to rest when the account has nothing left.
	restUnpaid  = time.Minute
	longestRest = time.Hour
)

// Engine is the [engine.Engine] that speaks to one server.
type Engine struct {
	name   string
	config Config
	base   *url.URL
	client *remote.Client

	mu       sync.Mutex
	restTill time.Time
	restWhy  string
}

// New makes the engine of the given name. It does not need the server to be up. An error says what is wrong in the
// configuration.
func New(_ context.Context, name string, c Config) (*Engine, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	header, err := c.header()
	if err != nil {
		return nil, err
	}
	client, err := remote.New(c.URL, header)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	base, err := url.Parse(c.URL)
	if err != nil {
		return nil, errors.New("url: not an address") // which remote.New has refused
	}
	return &Engine{name: name, config: c, base: base, client: client}, nil
}

// Info implements [engine.Engine].
func (e *Engine) Info() engine.Info {
	return engine.Info{
		Name: e.name, TaskTypes: slices.Sorted(maps.Keys(e.config.Tasks)), Device: "remote", Slots: e.config.Slots, Models: e.config.models(),
	}
}

// Health implements [engine.Engine]: the server answers, takes the key and has not asked for a rest.
func (e *Engine) Health(ctx context.Context) error {
	e.mu.Lock()
	rest, why := time.Until(e.restTill), e.restWhy
	e.mu.Unlock()
	if err := engine.Stopped(ctx); err != nil {
		return err
	}
	if rest > 0 {
		return engine.Errorf(engine.EngineDown, "%s", why)
	}
	err := e.client.JSON(ctx, http.MethodGet, "/models", nil, nil)
	if status, ok := errors.AsType[*remote.StatusError](err); ok {
		switch status.Code {
		case http.StatusNotFound, http.StatusMethodNotAllowed: // a server that lists no models is up as well
			return nil
		}
		err = e.refused(err)
	}
	return err
}

// Run implements [engine.Engine].
func (e *Engine) Run(ctx context.Context, task engine.Task, sink engine.Sink) (engine.Result, error) {
	if err := engine.Stopped(ctx); err != nil {
		return engine.Result{}, err
	}
	how, ok := e.config.Tasks[task.Type]
	if !ok {
		return engine.Result{}, engine.Errorf(engine.BadInput, "The engine %s does not do tasks of the type %s.", e.name, params.Quote(task.Type))
	}
	ask, err := how.ask(task)
	if err != nil {
		return engine.Result{}, err
	}
	r := &run{Engine: e, task: task, how: how, ask: ask, sink: sink}
	r.progress(0, "waiting")
	if how.API == Videos {
		err = r.video(ctx)
	} else {
		err = r.picture(ctx)
	}
	if err != nil {
		return engine.Result{}, err
	}
	r.progress(100, "done")
	return r.result(), nil
}

// run is one task on its way.
type run struct {
	*Engine

	task engine.Task
	how  Task
	ask  request
	sink engine.Sink

	percent   float64
	path      string // of the output, once it is there
	mediaType string
	revised   string // the prompt as the server has changed it
}

func (r *run) progress(percent float64, phase string) {
	r.percent = max(r.percent, percent)
	r.sink.Progress(engine.Progress{Value: r.percent, Max: 100, Phase: phase})
}

// result names the output. Its metadata has the model, the size that was asked for, the seed where one was sent, and of a
// picture its width and height.
func (r *run) result() engine.Result {
	facts := map[string]any{"method": "openai/" + r.how.API}
	if r.how.Model != "" {
		facts["model"] = r.how.Model
	}
	if r.ask.size != "" {
		facts["size"] = r.ask.size
	}
	if r.ask.seed != nil {
		facts["seed"] = *r.ask.seed
	}
	if r.revised != "" {
		facts["revised_prompt"] = r.revised
	}
	if strings.HasPrefix(r.mediaType, "image/") {
		if f, err := os.Open(r.path); err == nil {
			if config, _, err := image.DecodeConfig(f); err == nil {
				facts["width"], facts["height"] = config.Width, config.Height
			}
			_ = f.Close()
		}
	}
	return engine.Result{Files: []engine.File{{Path: r.path, MediaType: r.mediaType, Role: engine.Output}}, Metadata: facts}
}

// post sends the request of the task and reads the answer.
func (r *run) post(ctx context.Context, path string, asForm bool, into any) error {
	body, contentType, err := r.ask.json()
	if asForm {
		var done func()
		body, contentType, done, err = r.ask.form()
		defer done()
	}
	if err != nil {
		return err
	}
	response, err := r.client.Do(ctx, http.MethodPost, path, http.Header{ //nolint:bodyclose // Decode closes it
		"Content-Type": {contentType},
		"Accept":       {"application/json"},
		// One key for each attempt, so that what sends a request twice on its way does not have it done, and paid for, twice.
		// Not one for the task: a server that keeps answers by key would repeat a failure to every further attempt, and a worker
		// that has lost the task would call off the video of the one that has it now.
		"Idempotency-Key": {uuid.NewSHA1(r.task.ID, []byte(strconv.Itoa(r.task.Attempt))).String()},
	}, body)
	if err != nil {
		return r.refused(err)
	}
	return r.client.Decode(response, remote.MaxPictures, into)
}

// made is an answer with the output in it or with its address.
type made struct {
	Data []struct {
		Base64        []byte `json:"b64_json"`
		URL           string `json:"url"`
		RevisedPrompt string `json:"revised_prompt"`
	} `json:"data"`
}

// picture asks for a picture and waits for it.
func (r *run) picture(ctx context.Context) error {
	path := "/images/generations"
	if r.how.API == Edits {
		path = "/images/edits"
	}
	var answer made
	if err := r.post(ctx, path, r.how.API == Edits, &answer); err != nil {
		return err
	}
	r.progress(95, "downloading")
	return r.take(ctx, answer)
}

// take stores the first output of an answer.
func (r *run) take(ctx context.Context, answer made) error {
	if len(answer.Data) == 0 || len(answer.Data[0].Base64) == 0 && answer.Data[0].URL == "" {
		return engine.Errorf(engine.EngineDown, "The engine's server answered without a picture or video.")
	}
	first := answer.Data[0]
	r.revised = first.RevisedPrompt
	if len(first.Base64) > 0 {
		return r.store(bytes.NewReader(first.Base64))
	}
	// A relative address is one on the host, not under the base.
	address, err := r.base.Parse(first.URL)
	if err != nil {
		return &engine.Error{Class: engine.EngineDown, Message: "The engine's server names an output without a usable address.", Err: err}
	}
	return r.fetch(ctx, address.String())
}

// store keeps bytes as the output.
func (r *run) store(from io.Reader) error {
	path := filepath.Join(r.task.OutDir, "output")
	mediaType, err := remote.Store(from, path, engine.MaxOutputBytes)
	if err != nil {
		return err
	}
	return r.keep(path, mediaType)
}

// fetch keeps what lies at an address as the output.
func (r *run) fetch(ctx context.Context, address string) error {
	path := filepath.Join(r.task.OutDir, "output")
	mediaType, err := r.client.Save(ctx, address, path, engine.MaxOutputBytes)
	if err != nil {
		return err
	}
	return r.keep(path, mediaType)
}

// keep gives the output the name of its kind.
func (r *run) keep(path, mediaType string) error {
	kind, subtype, _ := strings.Cut(mediaType, "/")
	if (kind == "video") != (r.how.API == Videos) {
		_ = os.Remove(path)
		return engine.Errorf(engine.EngineDown, "The engine's server sent the wrong kind of file: %s.", mediaType)
	}
	r.path, r.mediaType = path+"."+subtype, mediaType
	if err := os.Rename(path, r.path); err != nil {
		return &engine.Error{Class: engine.EngineDown, Message: "The worker cannot write the output.", Err: err}
	}
	return nil
}

// failure is OpenAI's error object, in answers and in failed videos. vLLM-Omni's code may be a number.
type failure struct {
	Message string          `json:"message"`
	Type    string          `json:"type"`
	Code    json.RawMessage `json:"code"`
}

// code returns the code as a text.
func (f failure) code() string { return strings.Trim(string(f.Code), `"`) }

// isModeration says whether the output was refused for what it would show.
func (f failure) isModeration() bool {
	switch f.code() {
	case "content_policy_violation", "moderation_blocked", "content_filter", "sentinel_block":
		return true
	}
	return false
}

// refused makes the error of an answer with another status than 2xx say what OpenAI's error codes say, and remembers how long
// the server is to be left alone.
func (e *Engine) refused(err error) error {
	status, ok := errors.AsType[*remote.StatusError](err)
	if !ok {
		return err
	}
	var said struct {
		Error failure `json:"error"`
	}
	_ = json.Unmarshal([]byte(status.Body), &said) // what is not of this form has no code
	switch {
	case said.Error.isModeration():
		return moderated(said.Error, err)
	case said.Error.code() == "insufficient_quota" || said.Error.Type == "insufficient_quota" || status.Code == http.StatusPaymentRequired:
		message := "The account at the engine's server has no credit left; the operator must see to it."
		e.rest(restUnpaid, message)
		return &engine.Error{Class: engine.EngineDown, Message: message, Err: err}
	case status.Code == http.StatusTooManyRequests:
		wait := status.RetryAfter
		if wait == 0 {
			wait = restLimited
		}
		e.rest(min(wait, longestRest), "The engine's server has asked for a rest, since it got too many requests.")
	}
	return err
}

func moderated(said failure, cause error) error {
	return &engine.Error{
		Class: engine.BadInput, Message: remote.Sentence("The engine's server does not make this, by its rules for content: " + remote.Quote(said.Message)), Err: cause,
	}
}

// rest makes Health report the engine as down for a while.
func (e *Engine) rest(wait time.Duration, why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if till := time.Now().Add(wait); till.After(e.restTill) {
		e.restTill, e.restWhy = till, why
	}
}
