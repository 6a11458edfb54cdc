package media

import (
	"fmt"
	"strconv"
	"strings"

	"darkroom/workerd/engine"
)

// Hard limits, so that no input takes a worker down. What goes beyond is bad input.
const (
	MaxPixels     = 33_000_000 // of one picture, checked before it is decoded
	MaxImageBytes = 64 << 20   // of one picture's file
	MaxVideoBytes = 2 << 30    // of one video's file
	MaxSide       = 4096       // of an output, in pixels
	MinSide       = 32         // of an output, in pixels; ffmpeg's motion estimation needs as much
	MaxFrames     = 10_000     // of one clip and of one output
	MaxSegments   = 500        // of one stitch
	MaxRate       = 120        // frames a second
	MaxHeldBytes  = 512 << 20  // of raw frames that one overlap of a stitch may hold
)

// Size is a width and a height in pixels.
type Size struct{ Width, Height int }

// String writes the size as people do, such as "768x512".
func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

// bytes is the length of one raw frame, 8 bits each of red, green and blue.
func (s Size) bytes() int { return s.Width * s.Height * 3 }

// check says whether the size can be an output.
func (s Size) check() error {
	for _, side := range []int{s.Width, s.Height} {
		if side < MinSide || side > MaxSide || side%2 != 0 {
			return engine.Errorf(engine.BadInput,
				"The resolution %s cannot be used: width and height must be even numbers from %d to %d.", s, MinSide, MaxSide)
		}
	}
	return nil
}

// Rate is a number of frames a second, as a fraction.
type Rate struct{ Num, Den int }

// NewRate returns the rate nearest to fps with three decimals. It must lie above 0 and be at most [MaxRate].
func NewRate(fps float64) (Rate, error) {
	if !(fps >= 0.1 && fps <= MaxRate) {
		return Rate{}, engine.Errorf(engine.BadInput, "%g frames a second cannot be used: choose a number from 0.1 to %d.", fps, MaxRate)
	}
	num, den := int(fps*1000+0.5), 1000
	for _, factor := range []int{2, 2, 2, 5, 5, 5} {
		if num%factor == 0 && den%factor == 0 {
			num, den = num/factor, den/factor
		}
	}
	return Rate{Num: num, Den: den}, nil
}

// parseRate reads a fraction as ffprobe writes it, such as "24000/1001". What is unknown ("0/0") gives the zero Rate.
func parseRate(text string) Rate {
	numerator, denominator, _ := strings.Cut(text, "/")
	num, errN := strconv.Atoi(numerator)
	den, errD := strconv.Atoi(denominator)
	if errN != nil || errD != nil || num <= 0 || den <= 0 {
		return Rate{}
	}
	return Rate{Num: num, Den: den}
}

// FPS is the rate as a number; 0 for the zero Rate.
func (r Rate) FPS() float64 {
	if r.Den == 0 {
		return 0
	}
	return float64(r.Num) / float64(r.Den)
}

// String writes the rate as ffmpeg reads it.
func (r Rate) String() string { return fmt.Sprintf("%d/%d", r.Num, r.Den) }

// near says whether two rates are the same up to the rounding of containers.
func (r Rate) near(other Rate) bool {
	ratio := r.FPS() / other.FPS()
	return ratio > 0.995 && ratio < 1.005
}
