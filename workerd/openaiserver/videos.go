package openaiserver

import (
	"cmp"
	"context"
	"encoding/hex"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"darkroom/workerd/engine"
)

const (
	defaultSeconds = 4
	maxSeconds     = 60
	defaultFPS     = 16
	maxFPS         = 60
	defaultSize    = "512x512"

	// Pictures for a video take this much of its progress, in percent, each.
	pictureShare = 10
	// unfinished is the highest progress, in percent, of a video that is not completed.
	unfinished = 99
)

// order is what a video is to be.
type order struct {
	prompt, endPrompt string
	start, end        string // paths of pictures, "" for one from the prompt
	size              string
	seed              int64
	frames, fps       int64
}

// createVideo answers POST /v1/videos at once. A video leads from one picture to another: from start_image, else
// input_reference, else a picture of the prompt; to end_image, else a picture of end_prompt, else another picture of the prompt.
func (s *Server) createVideo(w http.ResponseWriter, r *http.Request) error {
	if !s.does(travelSegment) {
		return badField("", "unsupported", "This server's engine makes no videos.")
	}
	key := r.Header.Get("Idempotency-Key")
	if v := s.byKey(key); v != nil {
		return answer(w, v)
	}
	if err := s.admit(); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(s.folder, "video-")
	if err != nil {
		s.release()
		return noRoom(err)
	}
	v, ask, err := s.readOrder(w, r, folder)
	if err != nil {
		_ = os.RemoveAll(folder)
		s.release()
		return err
	}
	v.folder, v.key = folder, key
	ctx, cancel := context.WithCancel(s.ctx)
	v.cancel = cancel
	if earlier := s.add(v); earlier != nil { // which came by another request meanwhile
		cancel()
		_ = os.RemoveAll(folder)
		s.release()
		return answer(w, earlier)
	}
	began := s.snapshot(v)
	go func() {
		defer s.release()
		defer cancel()
		file, err := s.film(ctx, v, ask)
		s.finish(v, file, err)
	}()
	return answer(w, began)
}

func (s *Server) readOrder(w http.ResponseWriter, r *http.Request, folder string) (*video, order, error) {
	f, err := readFields(w, r, folder)
	if err != nil {
		return nil, order{}, err
	}
	model := s.wantedModel(f)
	ask := order{
		start: cmp.Or(f.picture("start_image"), f.picture("input_reference")), end: f.picture("end_image"),
		endPrompt: f.text("end_prompt"), size: cmp.Or(f.size(), defaultSize), seed: f.seed(),
	}
	if f.has("start_image") && f.has("input_reference") {
		f.blame(badField("input_reference", "invalid_value", "input_reference and start_image are the same: send one of them."))
	}
	if ask.end != "" && ask.endPrompt != "" {
		f.blame(badField("end_prompt", "invalid_value", "end_image and end_prompt both say where the video ends: send one of them."))
	}
	drawn := ask.start == "" || ask.end == "" && ask.endPrompt == ""
	ask.prompt = f.prompt(drawn)
	if (ask.start == "" || ask.end == "") && !s.does(singleImage) {
		f.blame(badField("start_image", "missing_required_parameter", "This server's engine draws no pictures: send start_image and end_image."))
	}
	seconds, found := f.whole("seconds", 1, maxSeconds)
	if !found {
		seconds = defaultSeconds
	}
	if ask.fps, found = f.whole("fps", 1, maxFPS); !found {
		ask.fps = defaultFPS
	}
	if ask.frames, found = f.whole("num_frames", 2, maxSeconds*maxFPS); !found {
		ask.frames = seconds * ask.fps
	} else {
		seconds = (ask.frames + ask.fps - 1) / ask.fps
	}
	if err := f.done(); err != nil {
		return nil, order{}, err
	}
	id := uuid.New()
	return &video{
		ID: "video_" + hex.EncodeToString(id[:]), Object: "video", Status: queued, Model: model, Prompt: ask.prompt, CreatedAt: time.Now().Unix(),
		Seconds: strconv.FormatInt(seconds, 10), Size: ask.size,
	}, ask, nil
}

// has says whether a field or a part of one came.
func (f *fields) has(name string) bool {
	return f.files[name] != "" || f.values[name] != nil || f.values[name+"[image_url]"] != nil
}

// film makes the video.
func (s *Server) film(ctx context.Context, v *video, ask order) (engine.Result, error) {
	done := 0.0 // percent, of the steps before
	step := func(share float64) func(engine.Progress) {
		base := done
		done += share
		return func(p engine.Progress) { s.tell(v, base+share*p.Value/p.Max) }
	}
	for _, picture := range []struct {
		path   *string
		prompt string
		seed   int64
	}{
		{&ask.start, ask.prompt, ask.seed},
		{&ask.end, cmp.Or(ask.endPrompt, ask.prompt), (ask.seed + 1) % (maxSeed + 1)},
	} {
		if *picture.path != "" {
			continue
		}
		file, err := s.drawPicture(ctx, v.folder, picture.prompt, ask.size, picture.seed, step(pictureShare))
		if err != nil {
			return engine.Result{}, err
		}
		*picture.path = file.Path
	}
	return s.run(ctx, v.folder, travelSegment, map[string]any{
		"prompt": ask.prompt, "seed": ask.seed, "parsed_resolution_wh": ask.size, "segment_frames_target": ask.frames, "fps": ask.fps,
	}, []engine.Input{
		{Path: ask.start, MediaType: mediaTypeOf(ask.start), Role: engine.StartImage},
		{Path: ask.end, MediaType: mediaTypeOf(ask.end), Role: engine.EndImage},
	}, step(100-done))
}

// listVideos answers GET /v1/videos.
func (s *Server) listVideos(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	limit := 20
	if text := query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > 100 {
			return badField("limit", "invalid_value", "limit must be a whole number from 1 to 100.")
		}
	}
	list := s.all()
	switch query.Get("order") {
	case "asc":
	case "", "desc":
		slices.Reverse(list)
	default:
		return badField("order", "invalid_value", "order must be asc or desc.")
	}
	if after := query.Get("after"); after != "" {
		at := slices.IndexFunc(list, func(v video) bool { return v.ID == after })
		if at < 0 {
			return noVideo(after)
		}
		list = list[at+1:]
	}
	more := len(list) > limit
	list = list[:min(limit, len(list))]
	page := map[string]any{"object": "list", "data": list, "has_more": more, "first_id": nil, "last_id": nil}
	if len(list) > 0 {
		page["first_id"], page["last_id"] = list[0].ID, list[len(list)-1].ID
	}
	return answer(w, page)
}

// getVideo answers GET /v1/videos/{id}.
func (s *Server) getVideo(w http.ResponseWriter, r *http.Request) error {
	v, err := s.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	return answer(w, v)
}

// getContent answers GET /v1/videos/{id}/content, also in ranges.
func (s *Server) getContent(w http.ResponseWriter, r *http.Request) error {
	v, err := s.find(r.PathValue("id"))
	if err != nil {
		return err
	}
	role := engine.Output
	switch variant := r.URL.Query().Get("variant"); variant {
	case "", "video":
	case "thumbnail":
		role = engine.Thumbnail
	default:
		return badField("variant", "unsupported_value", "variant cannot be %.50s: there is video, and thumbnail where the engine makes one.", variant)
	}
	if v.Status != completed {
		return &apiError{
			status: http.StatusBadRequest, kind: invalidRequest, code: "video_not_ready",
			message: "The video is " + v.Status + "; its content can be fetched when it is completed.",
		}
	}
	made, ok := v.result.File(role)
	if !ok {
		return badField("variant", "unsupported_value", "The engine made no %s.", role)
	}
	file, err := os.Open(made.Path)
	if err != nil {
		return noVideo(v.ID)
	}
	defer file.Close()
	w.Header().Set("Content-Type", made.MediaType)
	w.Header().Set("ETag", strconv.Quote(v.ID))
	http.ServeContent(w, r, "", time.Unix(v.CreatedAt, 0), file)
	return nil
}

// deleteVideo answers DELETE /v1/videos/{id}. What is being made ends at once.
func (s *Server) deleteVideo(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if !s.remove(id) {
		return noVideo(id)
	}
	return answer(w, map[string]any{"id": id, "object": "video.deleted", "deleted": true})
}

func noVideo(id string) error {
	return &apiError{
		status: http.StatusNotFound, kind: invalidRequest, code: "not_found", message: "There is no video " + strconv.Quote(id[:min(len(id), 100)]) + " here (any more).",
	}
}
