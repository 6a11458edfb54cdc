package media

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"darkroom/workerd/engine"
)

const (
	// TravelMethod names how [Tools.Travel] finds the frames between: ffmpeg's motion-compensated interpolation, sampled
	// with easing, so that each picture rests before it moves on.
	TravelMethod = "minterpolate_mci_eased"
	// maxSteps bounds how many pictures are interpolated; longer travels mix neighbouring ones.
	maxSteps = 48
)

// Travel writes an MP4 in which one raw frame turns into another. The first and the last of its frames are the given ones,
// each coded as a key frame. shown is called with every frame after it was written, and must not keep it.
func (t *Tools) Travel(ctx context.Context, path string, size Size, rate Rate, frames int, start, end []byte, shown func(frame []byte)) error {
	if err := checkTravel(size, frames); err != nil {
		return err
	}
	return t.Encode(ctx, path, size, rate, []int{0, frames - 1}, func(write func([]byte) error) error {
		easing := easing{frames: frames, steps: min(frames-1, maxSteps), mixed: make([]byte, size.bytes())}
		easing.write = func(frame []byte) error {
			err := write(frame)
			if err == nil {
				shown(frame)
			}
			return err
		}
		return t.interpolate(ctx, size, easing.steps, start, end, easing.add)
	})
}

func checkTravel(size Size, frames int) error {
	if frames < 2 || frames > MaxFrames {
		return engine.Errorf(engine.BadInput, "A travel of %d frames cannot be made: choose 2 to %d.", frames, MaxFrames)
	}
	return size.check()
}

// interpolate calls each with steps+1 pictures that lead from start to end at even speed, both included.
func (t *Tools) interpolate(ctx context.Context, size Size, steps int, start, end []byte, each func(frame []byte) error) error {
	if err := each(start); err != nil {
		return err
	}
	if steps > 1 {
		if err := t.between(ctx, size, steps, start, end, each); err != nil {
			return err
		}
	}
	return each(end)
}

// between calls each with the steps-1 pictures between start and end.
func (t *Tools) between(ctx context.Context, size Size, steps int, start, end []byte, each func(frame []byte) error) error {
	// minterpolate wants one frame after those it interpolates between. At one input frame a second its output begins
	// with start itself and has steps frames to each input frame.
	input := io.MultiReader(bytes.NewReader(start), bytes.NewReader(end), bytes.NewReader(end))
	filter := fmt.Sprintf("format=yuv444p,minterpolate=fps=%d:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:mb_size=16:search_param=%d:vsbmc=0:scd=none",
		steps, searchRange(size))
	seen := 0
	_, err := stream(ctx, size.bytes(), input, func(frame []byte) error {
		seen++
		switch {
		case seen == 1:
			return nil
		case seen > steps:
			return errEnough
		}
		return each(frame)
	}, t.FFmpeg, "-hide_banner", "-v", "error", "-nostdin",
		"-protocol_whitelist", "pipe", "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", size.String(), "-framerate", "1", "-i", "pipe:0",
		"-vf", filter, t.passthrough, passthroughMode, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1")
	if err != nil {
		return encoderFailed(err)
	}
	if seen < steps {
		return engine.Errorf(engine.EngineDown, "The worker's ffmpeg interpolated %d pictures instead of %d.", seen-1, steps-1)
	}
	return nil
}

// searchRange is how far motion is looked for, in pixels: far enough to move things, near enough that pictures which
// have nothing in common do not fall into blocks.
func searchRange(size Size) int {
	const shareOfHeight = 24
	return max(8, min(size.Width, size.Height)/shareOfHeight)
}

// easing turns pictures at even speed into frames that start and end slowly.
type easing struct {
	frames, steps int
	write         func(frame []byte) error

	added   int    // pictures so far
	written int    // frames so far
	last    []byte // the newest picture
	mixed   []byte // room for a frame
}

// add takes the next picture and writes the frames up to it.
func (e *easing) add(picture []byte) error {
	defer func() { e.last = append(e.last[:0], picture...) }()
	number := e.added
	e.added++
	for e.written < e.frames {
		at := ease(float64(e.written)/float64(e.frames-1)) * float64(e.steps)
		if e.written == e.frames-1 {
			at = float64(e.steps)
		}
		frame := picture
		switch share := at - float64(number-1); {
		case share > 1:
			return nil
		case share < 1:
			mix(e.mixed, e.last, picture, share)
			frame = e.mixed
		}
		if err := e.write(frame); err != nil {
			return err
		}
		e.written++
	}
	return nil
}

// ease maps 0..1 to 0..1, slow at both ends.
func ease(t float64) float64 { return t * t * (3 - 2*t) }

// mix writes a mixture of two frames to dst: share 0 is from, share 1 is to.
func mix(dst, from, to []byte, share float64) {
	const one = 1 << 16
	weight := int(share*one + 0.5)
	from, to = from[:len(dst)], to[:len(dst)]
	for i := range dst {
		dst[i] = byte((int(from[i])*(one-weight) + int(to[i])*weight + one/2) >> 16) //nolint:gosec // between two bytes
	}
}
