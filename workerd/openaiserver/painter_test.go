package openaiserver_test

import (
	"bytes"
	"context"
	"hash/fnv"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// painter is an engine that paints pictures of one color, and videos that are none but begin like one. Prompts tell it to
// misbehave: "bad", "down", "oom", and "slow", which takes ten seconds.
type painter struct {
	slots int
	types []string // nil for both
	ran   chan engine.Task
}

func newPainter() *painter { return &painter{slots: 1, ran: make(chan engine.Task, 100)} }

// Info implements [engine.Engine].
func (p *painter) Info() engine.Info {
	types := p.types
	if types == nil {
		types = []string{"single_image", "travel_segment"}
	}
	return engine.Info{Name: "painter", TaskTypes: types, Device: "cpu", Slots: p.slots, Models: []string{"painter-1"}}
}

// Health implements [engine.Engine].
func (p *painter) Health(ctx context.Context) error { return engine.Stopped(ctx) }

// Run implements [engine.Engine].
func (p *painter) Run(ctx context.Context, task engine.Task, sink engine.Sink) (engine.Result, error) {
	select {
	case p.ran <- task:
	default: // nobody looks
	}
	read, err := params.Parse(task.Params)
	if err != nil {
		return engine.Result{}, err
	}
	prompt, err := read.Prompt()
	if err != nil {
		return engine.Result{}, err
	}
	switch prompt {
	case "bad":
		return engine.Result{}, engine.Errorf(engine.BadInput, "The prompt is bad.")
	case "down":
		return engine.Result{}, engine.Errorf(engine.EngineDown, "The engine is down.")
	case "oom":
		return engine.Result{}, engine.Errorf(engine.OutOfMem, "There is not enough memory.")
	}
	steps, pause := 10, time.Millisecond
	if prompt == "slow" {
		steps, pause = 100, 100*time.Millisecond
	}
	for i := range steps + 1 {
		sink.Progress(engine.Progress{Value: float64(i), Max: float64(steps), Phase: "painting"})
		select {
		case <-ctx.Done():
			return engine.Result{}, engine.Stopped(ctx)
		case <-time.After(pause):
		}
	}
	if task.Type == "travel_segment" {
		return film(task)
	}
	seed, err := read.Seed(task.ID)
	if err != nil {
		return engine.Result{}, err
	}
	size, err := read.Size()
	if err != nil {
		return engine.Result{}, err
	}
	if size == (params.Size{}) {
		size = params.Size{Width: 64, Height: 64}
	}
	return paint(task, prompt, seed, size)
}

func paint(task engine.Task, prompt string, seed int64, size params.Size) (engine.Result, error) {
	path := filepath.Join(task.OutDir, "output.png")
	data, err := picture(prompt, seed, size)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	return engine.Result{Files: []engine.File{{Path: path, MediaType: "image/png", Role: engine.Output}}}, err
}

func picture(prompt string, seed int64, size params.Size) ([]byte, error) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(prompt))
	mixed := hash.Sum32() + uint32(seed)*0x9e3779b1
	img := image.NewPaletted(image.Rect(0, 0, size.Width, size.Height), color.Palette{
		color.RGBA{R: uint8(mixed >> 24), G: uint8(mixed >> 16), B: uint8(mixed >> 8), A: 255},
	})
	var buffer bytes.Buffer
	err := png.Encode(&buffer, img)
	return buffer.Bytes(), err
}

const mp4 = "\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp41"

func film(task engine.Task) (engine.Result, error) {
	for _, input := range task.Inputs {
		f, err := os.Open(input.Path)
		if err != nil {
			return engine.Result{}, err
		}
		_, _, err = image.DecodeConfig(f)
		_ = f.Close()
		if err != nil {
			return engine.Result{}, &engine.Error{Class: engine.BadInput, Message: "An input is no picture.", Err: err}
		}
	}
	if len(task.Inputs) != 2 || task.Inputs[0].Role != engine.StartImage || task.Inputs[1].Role != engine.EndImage {
		return engine.Result{}, engine.Errorf(engine.BadInput, "A travel needs a start and an end.")
	}
	path, thumbnail := filepath.Join(task.OutDir, "output.mp4"), filepath.Join(task.OutDir, "thumbnail.jpg")
	if err := os.WriteFile(path, []byte(mp4+string(task.Params)), 0o600); err != nil {
		return engine.Result{}, err
	}
	f, err := os.Create(thumbnail)
	if err != nil {
		return engine.Result{}, err
	}
	defer f.Close()
	return engine.Result{Files: []engine.File{
		{Path: path, MediaType: "video/mp4", Role: engine.Output}, {Path: thumbnail, MediaType: "image/jpeg", Role: engine.Thumbnail},
	}}, jpeg.Encode(f, image.NewGray(image.Rect(0, 0, 8, 8)), nil)
}
