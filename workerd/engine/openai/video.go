package openai

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/remote"
)

const (
	firstPoll   = 250 * time.Millisecond
	longestPoll = 5 * time.Second
	pollTimeout = 30 * time.Second
	// patience is how long a video that is being made, and paid for, is not given up while the server does not answer.
	patience = 2 * time.Minute
	// fetchTries is how often a finished video is fetched when that goes wrong.
	fetchTries = 3
	// A cancelled run has a second to end. createGrace of it goes to learn the id of a video that is just being asked for, and
	// cancelGrace to call the video off.
	createGrace = 300 * time.Millisecond
	cancelGrace = 300 * time.Millisecond
)

// job is a video that the server makes.
type job struct {
	made // NVIDIA Dynamo answers at once, with the video

	ID       string   `json:"id"`
	Status   string   `json:"status"`
	Progress float64  `json:"progress"` // percent
	Error    *failure `json:"error"`
}

// video asks for a video, waits for it and fetches it.
func (r *run) video(ctx context.Context) error {
	made, err := r.create(ctx)
	if err != nil {
		return err
	}
	if len(made.Data) > 0 {
		r.progress(95, "downloading")
		return r.take(ctx, made.made)
	}
	if made.ID == "" {
		return engine.Errorf(engine.EngineDown, "The engine's server did not name the video that it makes.")
	}
	path := "/videos/" + url.PathEscape(made.ID)
	err = r.await(ctx, path, made)
	if err == nil {
		r.progress(95, "downloading")
		err = r.persist(ctx, fetchTries, func(ctx context.Context) error { return r.fetch(ctx, path+"/content") })
	}
	if err != nil {
		r.callOff(ctx, path)
	}
	return err
}

// create starts the video. A cancel that comes meanwhile still waits a moment for the id, without which it could not be called off.
func (r *run) create(ctx context.Context) (job, error) {
	calling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-calling.Done():
		case <-time.After(createGrace):
			cancel()
		}
	})
	defer stop()
	var made job
	err := r.post(calling, "/videos", !r.how.JSON || len(r.ask.files) > 0, &made)
	if stopped := engine.Stopped(ctx); stopped != nil {
		if made.ID != "" {
			r.callOff(ctx, "/videos/"+url.PathEscape(made.ID))
		}
		return job{}, stopped
	}
	return made, err
}

// await polls until the video is completed.
func (r *run) await(ctx context.Context, path string, now job) error {
	for pause := firstPoll; ; pause = min(pause*3/2, longestPoll) {
		switch now.Status {
		case "completed", "succeeded":
			return nil
		case "failed", "cancelled", "canceled", "expired", "deleted":
			return now.failure()
		case "queued", "":
			r.progress(0, "queued")
		default:
			r.progress(min(now.Progress, 94), "generating")
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		if err := r.persist(ctx, math.MaxInt, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, pollTimeout)
			defer cancel()
			now = job{}
			return r.refused(r.client.JSON(ctx, http.MethodGet, path, nil, &now))
		}); err != nil {
			return err
		}
	}
}

// failure makes the error of a video that failed.
func (j job) failure() error {
	if j.Error == nil {
		return engine.Errorf(engine.EngineDown, "The engine's server did not make the video, and gave no reason; the task will be tried again.")
	}
	said := *j.Error
	code := said.code()
	number, _ := strconv.Atoi(code) // vLLM-Omni gives the status of HTTP
	switch {
	case said.isModeration():
		return moderated(said, nil)
	case code == string(engine.OutOfMem) || remote.IsOutOfMemory(said.Message):
		return engine.Errorf(engine.OutOfMem, "The engine ran out of memory; a smaller output may fit.")
	case code == string(engine.BadInput) || number == http.StatusBadRequest || number == http.StatusUnprocessableEntity:
		return engine.Errorf(engine.BadInput, "%s", remote.Sentence("The engine refused the task: "+remote.Quote(said.Message)))
	default:
		return &engine.Error{
			Class: engine.EngineDown, Message: "The engine's server failed to make the video; the task will be tried again.",
			Err: errors.New(remote.Quote(code + ": " + said.Message)),
		}
	}
}

// persist repeats a request about the video until it succeeds, is refused, or the tries or [patience] are used up.
func (r *run) persist(ctx context.Context, tries int, do func(context.Context) error) error {
	began := time.Now()
	for pause := firstPoll; ; pause = min(2*pause, longestPoll) {
		err := do(ctx)
		if stopped := engine.Stopped(ctx); err == nil || stopped != nil {
			return stopped
		}
		wait := pause
		if status, ok := errors.AsType[*remote.StatusError](err); ok {
			switch {
			case status.Code == http.StatusNotFound || status.Code == http.StatusGone:
				return &engine.Error{Class: engine.EngineDown, Message: "The engine's server has lost the video; the task will be tried again.", Err: err}
			case status.Code < 500 && status.Code != http.StatusTooManyRequests && status.Code != http.StatusRequestTimeout && status.Code != http.StatusConflict:
				return &engine.Error{Class: engine.EngineDown, Message: "The engine's server does not give out the video; the task will be tried again.", Err: err}
			}
			wait = max(wait, status.RetryAfter)
		} else if class := engine.ClassOf(err); class != engine.EngineDown && class != engine.Timeout { // of one request, that is
			return err
		}
		if tries--; tries == 0 {
			return err
		}
		if time.Since(began)+wait > patience {
			return &engine.Error{Class: engine.EngineDown, Message: "The engine's server stopped answering while it made the video; the task will be tried again.", Err: err}
		}
		r.sink.Log(remote.Quote("the engine's server gave no answer about the video, which is asked for again: " + err.Error()))
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// callOff ends the video on the server, so that it does not work for nobody. It is tried once: the slot must be free soon.
func (r *run) callOff(ctx context.Context, path string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelGrace)
	defer cancel()
	if err := r.client.JSON(ctx, http.MethodDelete, path, nil, nil); err != nil {
		r.sink.Log(remote.Quote("the video could not be called off on the engine's server: " + err.Error()))
	}
}

func sleep(ctx context.Context, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return engine.Stopped(ctx)
	case <-time.After(wait):
		return nil
	}
}
