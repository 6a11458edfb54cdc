package cog

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
	"darkroom/workerd/engine/remote"
)

// Progress counts preparing, the prediction and fetching; the share of the prediction is known where it streams a percentage.
const (
	stageWork  = 1.
	stageFetch = 9.
	stages     = 10.
)

// run is one task on the server.
type run struct {
	engine *Engine
	how    recipe
	task   engine.Task
	sink   engine.Sink
	id     string // of the prediction
	value  float64
}

func (r *run) tell(value float64, phase string) {
	r.value = max(r.value, value)
	r.sink.Progress(engine.Progress{Value: r.value, Max: stages, Phase: phase})
}

// request fills the input in and returns the body of the request.
func (r *run) request() ([]byte, error) {
	input, err := r.how.input.Fill(r.task, dataURL)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{"id": r.id, "input": input})
	if err != nil {
		return nil, &engine.Error{Class: engine.BadInput, Message: "The params cannot be sent to the model.", Err: err}
	}
	return body, nil
}

// dataURL writes an input as a data URL (RFC 2397), which is how Cog takes files. It implements [template.File].
func dataURL(input engine.Input) (string, error) {
	unreadable := fmt.Sprintf("The worker cannot read the input %s.", input.Role)
	file, err := os.Open(input.Path)
	if err != nil {
		return "", &engine.Error{Class: engine.EngineDown, Message: unreadable, Err: err}
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxInput+1))
	if err != nil {
		return "", &engine.Error{Class: engine.EngineDown, Message: unreadable, Err: err}
	}
	if len(data) > maxInput {
		return "", engine.Errorf(engine.BadInput, "The input %s is larger than %d MB, which is the most that a Cog model can be given.", input.Role, maxInput>>20)
	}
	mediaType := storage.MediaType(data[:min(len(data), 512)])
	if mediaType == "" {
		return "", engine.Errorf(engine.BadInput, "The input %s is neither a JPEG, PNG or WebP picture nor an MP4, MOV or WebM video.", input.Role)
	}
	return "data:" + mediaType + ";base64," + base64.StdEncoding.EncodeToString(data), nil
}

// predict submits the prediction and waits for its end. While the server is busy, as with the end of one that was cancelled just before,
// or still has this one from before, it waits: nothing was taken then.
func (r *run) predict(ctx context.Context, body []byte) (prediction, error) {
	pace := r.engine.pace
	began := time.Now()
	for pause := pace.pause; ; pause = min(2*pause, pace.longest) {
		made, err := r.submit(ctx, body)
		status, refused := errors.AsType[*remote.StatusError](err)
		switch {
		case err == nil && (made.Status == "starting" || made.Status == "processing"): // 202
			err = engine.Errorf(engine.EngineDown, "The model still works on the task from before; it will be tried again.")
		case err == nil:
			return made, made.failure()
		case refused && status.Code == http.StatusNotAcceptable && !r.engine.mute.Swap(true):
			continue
		case refused && status.Code == http.StatusConflict:
			err = &engine.Error{Class: engine.EngineDown, Message: "The model is busy with other work; the task will be tried again.", Err: err}
		default:
			return prediction{}, err
		}
		if time.Since(began) > pace.busy {
			return prediction{}, err
		}
		select {
		case <-ctx.Done():
			return prediction{}, engine.Stopped(ctx)
		case <-time.After(pause):
		}
	}
}

// submit sends the prediction once. When ctx ends, or the answer can't be had, the server is told to cancel it.
func (r *run) submit(ctx context.Context, body []byte) (made prediction, err error) {
	r.engine.running.Add(1)
	defer r.engine.running.Add(-1)
	// The request lives on while the server is told: a newer one cancels by itself when the connection ends.
	call, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		defer hangUp()
		r.cancel(ctx)
	})
	defer func() {
		if !stop() {
			<-told
			if err != nil || made.Status != "succeeded" {
				err = engine.Stopped(ctx)
			}
		}
	}()
	accept := "text/event-stream, application/json"
	if r.engine.mute.Load() {
		accept = "application/json"
	}
	r.tell(stageWork, "working")
	response, err := r.engine.client.Do(call, http.MethodPut, "/predictions/"+url.PathEscape(r.id), http.Header{
		"Accept": {accept}, "Content-Type": {"application/json"},
	}, bytes.NewReader(body))
	if err != nil {
		if status, ok := errors.AsType[*remote.StatusError](err); !ok || status.Code == http.StatusBadGateway || status.Code == http.StatusGatewayTimeout {
			r.callOff(ctx) // it may have been taken
		}
		return prediction{}, err
	}
	if mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); mediaType == "text/event-stream" {
		defer response.Body.Close()
		made, err = r.follow(response.Body)
	} else {
		err = r.engine.client.Decode(response, remote.MaxPictures, &made)
	}
	if err != nil {
		r.callOff(ctx)
	}
	return made, err
}

// callOff cancels a prediction whose answer is lost. When ctx has ended that is being done already.
func (r *run) callOff(ctx context.Context) {
	if ctx.Err() == nil {
		r.cancel(ctx)
	}
}

// cancel tells the server to stop the prediction. One that is not there may still be on its way.
func (r *run) cancel(ctx context.Context) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), cancelFor)
	defer done()
	for {
		err := r.engine.client.JSON(ctx, http.MethodPost, "/predictions/"+url.PathEscape(r.id)+"/cancel", nil, nil)
		status, refused := errors.AsType[*remote.StatusError](err)
		switch {
		case err == nil:
			return
		case !refused || status.Code != http.StatusNotFound:
			r.sink.Log("the prediction could not be cancelled: " + remote.Quote(err.Error()))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.engine.pace.pause):
		}
	}
}

// choose picks the result out of an output: a text that is an address; of a list the last one, since models that make several files
// one after the other give the best last; of an object the member that the configuration names.
func (r *run) choose(output json.RawMessage) (string, error) {
	var address string
	if json.Unmarshal(output, &address) == nil && address != "" {
		return address, nil
	}
	var list []json.RawMessage
	if json.Unmarshal(output, &list) == nil && len(list) > 0 {
		if len(list) > 1 {
			r.sink.Log(fmt.Sprintf("the model made %d files; the last is taken", len(list)))
		}
		return r.choose(list[len(list)-1])
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(output, &object) == nil && len(object[r.how.output]) > 0 {
		return r.choose(object[r.how.output])
	}
	return "", engine.Errorf(engine.BadInput, "The model gave no file; the operator must look at the engine's output.")
}

// fetch writes the result.
func (r *run) fetch(ctx context.Context, made prediction) (engine.File, error) {
	address, err := r.choose(made.Output)
	if err != nil {
		return engine.File{}, err
	}
	file := filepath.Join(r.task.OutDir, "output")
	var mediaType string
	scheme, rest, _ := strings.Cut(address, ":")
	switch scheme {
	case "data":
		header, encoded, found := strings.Cut(rest, ",")
		if !found || !strings.HasSuffix(header, ";base64") {
			return engine.File{}, engine.Errorf(engine.EngineDown, "The model gave a file that cannot be read.")
		}
		mediaType, err = remote.Store(decoder{base64.NewDecoder(base64.StdEncoding, strings.NewReader(encoded))}, file, r.engine.most)
	case "http", "https":
		from := r.engine.client
		if r.engine.files != nil {
			from = r.engine.files
		}
		mediaType, err = from.Save(ctx, address, file, r.engine.most)
	default:
		return engine.File{}, engine.Errorf(engine.BadInput, "The model gave a text and no file; the operator must look at the engine's output.")
	}
	if err != nil {
		return engine.File{}, err
	}
	named := file + extensions[mediaType]
	if err := os.Rename(file, named); err != nil {
		return engine.File{}, &engine.Error{Class: engine.EngineDown, Message: "The worker cannot write the output.", Err: err}
	}
	return engine.File{Path: named, MediaType: mediaType, Role: engine.Output}, nil
}

var extensions = map[string]string{
	"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "video/mp4": ".mp4", "video/webm": ".webm", "video/quicktime": ".mov",
}

// decoder tells broken base64 from a broken disk.
type decoder struct{ io.Reader }

// Read implements [io.Reader].
func (d decoder) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &engine.Error{Class: engine.EngineDown, Message: "The model gave a file that cannot be read.", Err: err}
	}
	return n, err
}

// facts are the metadata of a result.
func (r *run) facts(made prediction) (map[string]any, error) {
	facts := map[string]any{"prediction_id": r.id}
	var metrics map[string]any
	if json.Unmarshal(made.Metrics, &metrics) == nil {
		if seconds, ok := metrics["predict_time"].(float64); ok {
			facts["predict_seconds"] = seconds
		}
	}
	if r.how.input.Uses("seed") {
		parsed, err := params.Parse(r.task.Params)
		if err != nil {
			return nil, err
		}
		seed, err := parsed.Seed(r.task.ID)
		if err != nil {
			return nil, err
		}
		facts["seed"] = seed
	}
	return facts, nil
}
