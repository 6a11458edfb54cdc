package native

import (
	"context"
	"errors"
	"fmt"
	"image"
	"os"
	"slices"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
)

// Limits of a picture's sides, in pixels.
const (
	minSide     = 64
	maxSide     = 2048
	defaultSide = pictureSide * enlargement
)

// image runs a task of the type [SingleImage].
func (e *Engine) image(ctx context.Context, task engine.Task, p params.Params, path string, sink engine.Sink) (map[string]any, error) {
	prompt, err := p.Prompt()
	if err != nil {
		return nil, err
	}
	seed, err := p.Seed(task.ID)
	if err != nil {
		return nil, err
	}
	size, err := imageSize(p)
	if err != nil {
		return nil, err
	}
	known, unknown, err := e.words(prompt)
	if err != nil {
		return nil, err
	}
	img, err := e.draw(ctx, known, seed, sink)
	if err != nil {
		return nil, err
	}
	data, err := encodePNG(fill(img, size))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return nil, fmt.Errorf("write the picture: %w", err)
	}
	sink.Progress(engine.Progress{Value: imageSteps + 1, Max: imageSteps + 1, Phase: "done"})
	return map[string]any{
		"width": size.Width, "height": size.Height, "seed": seed, "steps": imageSteps, "method": "rectified_flow",
		"known_words": e.nets.vocabulary.names(known), "unknown_words": slices.Clip(append([]string{}, unknown...)),
	}, nil
}

// imageSize reads the size of the picture.
func imageSize(p params.Params) (params.Size, error) {
	size, err := p.Size()
	if err != nil {
		return size, err
	}
	if size == (params.Size{}) {
		return params.Size{Width: defaultSide, Height: defaultSide}, nil
	}
	if min(size.Width, size.Height) < minSide || max(size.Width, size.Height) > maxSide {
		return size, engine.Errorf(engine.BadInput, "The size %s cannot be used: width and height must be from %d to %d.", size, minSide, maxSide)
	}
	return size, nil
}

// words gives the numbers of the words of a prompt that the nets know, at least one, and those that they don't.
func (e *Engine) words(prompt string) (known []int64, unknown []string, err error) {
	known, unknown = e.nets.vocabulary.encode(prompt)
	switch {
	case len(known) > 0:
		return known, unknown, nil
	case len(unknown) == 0:
		return nil, nil, engine.Errorf(engine.BadInput,
			`The param prompt has no words: say what to draw, such as "red apple" or "cat face on a blue background".`)
	default:
		return nil, nil, engine.Errorf(engine.BadInput,
			`The prompt %s has no word that this engine knows: it draws emoji, so name one, such as "red apple" or "cat face on a blue background".`,
			params.Quote(prompt))
	}
}

// draw draws a square picture.
func (e *Engine) draw(ctx context.Context, words []int64, seed int64, sink engine.Sink) (*image.RGBA, error) {
	sink.Progress(engine.Progress{Value: 0, Max: imageSteps + 1, Phase: "drawing"})
	conditions, err := e.nets.condition(ctx, words)
	if err != nil {
		return nil, err
	}
	if guidance != 1 {
		without, err := e.nets.condition(ctx, nil)
		if err != nil {
			return nil, err
		}
		conditions = append(conditions, without...)
	}
	latent := normal(seed, latentNumbers)
	var before []float32 // the velocity at the step before
	for step := range imageSteps {
		velocity, err := e.guided(ctx, latent, 1-float32(step)/imageSteps, conditions)
		if err != nil {
			return nil, err
		}
		for i, v := range velocity {
			if before != nil { // within a step the velocity goes on changing as it did (Adams and Bashforth)
				v += (v - before[i]) / 2
			}
			latent[i] -= v / imageSteps
		}
		before = velocity
		sink.Progress(engine.Progress{Value: float64(step + 1), Max: imageSteps + 1, Phase: "drawing"})
	}
	picture, err := e.nets.decode(ctx, latent)
	if err != nil {
		return nil, err
	}
	large, err := e.nets.enlarge(ctx, planes{width: pictureSide, height: pictureSide, numbers: picture})
	if err != nil {
		return nil, err
	}
	return large.image(), nil
}

// guided gives the velocity of one latent. conditions are one, or with guidance other than 1 two: that of the words and the empty one.
func (e *Engine) guided(ctx context.Context, latent []float32, t float32, conditions []float32) ([]float32, error) {
	velocity, err := e.nets.velocity(ctx, slices.Repeat(latent, len(conditions)/conditionWidth), t, conditions)
	if err != nil || len(conditions) == conditionWidth {
		return velocity, err
	}
	with, without := velocity[:latentNumbers], velocity[latentNumbers:]
	for i, v := range without {
		with[i] = v + guidance*(with[i]-v)
	}
	return with, nil
}

// failed classes an error that nobody classed.
func failed(err error) error {
	if _, ok := errors.AsType[*engine.Error](err); ok {
		return err
	}
	return &engine.Error{Class: engine.EngineDown, Message: "The native engine failed.", Err: err}
}
