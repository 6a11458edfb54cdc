package media

import (
	"context"
	"path/filepath"
	"time"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
)

// Task types of [Engine].
const (
	TravelSegment = "travel_segment"
	TravelStitch  = "travel_stitch"
)

const (
	// defaultFPS is the frame rate of a travel whose params name none, as Headless-Wan2GP has it.
	defaultFPS = 16
	// previewEvery is how often a run shows an unfinished frame, firstPreview when at the earliest.
	previewEvery = 2 * time.Second
	firstPreview = 500 * time.Millisecond
)

// Engine is the [engine.Engine] named "media": it does with ffmpeg what needs no model.
//
//   - travel_segment: the inputs are the first and the last picture (by role, else in order); the params
//     segment_frames_target, parsed_resolution_wh ("768x512") and fps_helpers or fps (16 when missing).
//   - travel_stitch: the inputs are the clips in order; the params frame_overlap_settings_expanded (frames of cross-fade at
//     each boundary, none when missing) and parsed_resolution_wh (the first clip's size when missing).
//
// The output is an MP4, output.mp4, with a poster, thumbnail.jpg. Metadata: width, height, fps, frames, duration_seconds, method,
// and for a stitch also segments and overlaps.
type Engine struct {
	tools *Tools
	slots int
}

// NewEngine returns an engine that works with the given programs, and well with slots tasks at a time.
func NewEngine(tools *Tools, slots int) *Engine {
	return &Engine{tools: tools, slots: slots}
}

// Info implements [engine.Engine].
func (e *Engine) Info() engine.Info {
	return engine.Info{Name: "media", TaskTypes: []string{TravelSegment, TravelStitch}, Device: "cpu", Slots: e.slots}
}

// Health implements [engine.Engine]: it starts ffmpeg.
func (e *Engine) Health(ctx context.Context) error {
	if err := e.tools.checkEncoder(ctx); err != nil {
		if err := engine.Stopped(ctx); err != nil {
			return err
		}
		return &engine.Error{Class: engine.EngineDown, Message: "The worker's ffmpeg does not run.", Err: err}
	}
	return nil
}

// Run implements [engine.Engine].
func (e *Engine) Run(ctx context.Context, task engine.Task, sink engine.Sink) (engine.Result, error) {
	if err := engine.Stopped(ctx); err != nil {
		return engine.Result{}, err
	}
	p, err := params.Parse(task.Params)
	if err != nil {
		return engine.Result{}, err
	}
	path := filepath.Join(task.OutDir, "output.mp4")
	var facts map[string]any
	switch task.Type {
	case TravelSegment:
		facts, err = e.travel(ctx, task, p, path, sink)
	case TravelStitch:
		facts, err = e.stitch(ctx, task, p, path, sink)
	default:
		err = engine.Errorf(engine.BadInput, "The engine media does not do tasks of the type %s.", params.Quote(task.Type))
	}
	if err != nil {
		return engine.Result{}, err
	}
	thumbnail := filepath.Join(task.OutDir, "thumbnail.jpg")
	if err := e.tools.Thumbnail(ctx, path, thumbnail); err != nil {
		return engine.Result{}, err
	}
	return engine.Result{
		Files: []engine.File{
			{Path: path, MediaType: "video/mp4", Role: engine.Output},
			{Path: thumbnail, MediaType: "image/jpeg", Role: engine.Thumbnail},
		},
		Metadata: facts,
	}, nil
}

func (e *Engine) travel(ctx context.Context, task engine.Task, p params.Params, path string, sink engine.Sink) (map[string]any, error) {
	travel, err := ReadTravel(ctx, task.Inputs, p)
	if err != nil {
		return nil, err
	}
	meter := newMeter(sink, travel.Size, travel.Frames)
	if err := e.tools.Travel(ctx, path, travel.Size, travel.Rate, travel.Frames, travel.Start, travel.End, meter.frame); err != nil {
		return nil, err
	}
	meter.finish(travel.Frames)
	return travel.Facts(TravelMethod), nil
}

func (e *Engine) stitch(ctx context.Context, task engine.Task, p params.Params, path string, sink engine.Sink) (map[string]any, error) {
	size, err := sizeOf(p)
	if err != nil {
		return nil, err
	}
	overlaps, err := overlapsOf(p, max(0, len(task.Inputs)-1))
	if err != nil {
		return nil, err
	}
	clips := make([]string, len(task.Inputs))
	for i, input := range task.Inputs {
		clips[i] = input.Path
	}
	plan, err := e.tools.PlanStitch(ctx, clips, overlaps, size)
	if err != nil {
		return nil, err
	}
	meter := newMeter(sink, plan.Size, plan.Frames)
	frames, err := e.tools.Stitch(ctx, plan, path, meter.frame)
	if err != nil {
		return nil, err
	}
	meter.finish(frames)
	method := "crossfade"
	if plan.Copy {
		method = "concat"
	}
	facts := facts(plan.Size, plan.Rate, frames, method)
	facts["segments"], facts["overlaps"] = len(clips), overlaps
	return facts, nil
}

func facts(size Size, rate Rate, frames int, method string) map[string]any {
	return map[string]any{
		"width": size.Width, "height": size.Height, "fps": rate.FPS(), "frames": frames,
		"duration_seconds": float64(frames) / rate.FPS(), "method": method,
	}
}

// meter tells a sink about frames as they are written.
type meter struct {
	sink          engine.Sink
	size          Size
	done, of      int
	lastPreviewed time.Time
}

func newMeter(sink engine.Sink, size Size, of int) *meter {
	sink.Progress(engine.Progress{Value: 0, Max: float64(of), Phase: "preparing"})
	return &meter{sink: sink, size: size, of: of, lastPreviewed: time.Now().Add(firstPreview - previewEvery)}
}

// frame counts one more frame. The last ones are told by finish, once the file is whole.
func (m *meter) frame(frame []byte) {
	m.done++
	m.sink.Progress(engine.Progress{Value: float64(m.done), Max: float64(max(m.of, m.done)), Phase: "encoding"})
	if now := time.Now(); now.Sub(m.lastPreviewed) >= previewEvery {
		m.lastPreviewed = now
		if data, err := Preview(frame, m.size); err == nil {
			m.sink.Preview(data, "image/jpeg")
		}
	}
}

func (m *meter) finish(frames int) {
	m.sink.Progress(engine.Progress{Value: float64(frames), Max: float64(frames), Phase: "done"})
}
