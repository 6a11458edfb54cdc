package native

import (
	"context"
	"image"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/image/draw"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
	"darkroom/workerd/media"
)

// TravelMethod names how frames are drawn between two pictures: both are followed back to the noise that the flow would have
// drawn them from, and the frames are drawn from the noises between.
const TravelMethod = "flow_inversion"

// travel runs a task of the type [media.TravelSegment].
func (e *Engine) travel(ctx context.Context, task engine.Task, p params.Params, path string, sink engine.Sink) (map[string]any, error) {
	asked, err := media.ReadTravel(ctx, task.Inputs, p)
	if err != nil {
		return nil, err
	}
	prompt, err := p.Prompt()
	if err != nil {
		return nil, err
	}
	known, unknown := e.nets.vocabulary.encode(prompt)
	keys := min(asked.Frames, mostKeys)
	j := &journey{
		nets: e.nets, asked: asked, framing: newFraming(asked.Size), keys: keys,
		meter: &meter{sink: sink, max: float64(travelSteps + keys + asked.Frames), shown: time.Now().Add(firstPreview - previewEvery)},
	}
	j.meter.add(0, "inverting")
	if j.condition, err = e.nets.condition(ctx, known); err != nil {
		return nil, err
	}
	reason, err := j.begin(ctx)
	if err != nil {
		return nil, err
	}
	method := TravelMethod
	if reason == "" {
		err = j.finish(ctx, e.tools, path)
	} else {
		method = media.TravelMethod
		j.meter.shorten(float64(asked.Frames))
		err = e.tools.Travel(ctx, path, asked.Size, asked.Rate, asked.Frames, asked.Start, asked.End, j.encoded)
	}
	if err != nil {
		return nil, err
	}
	j.meter.end()
	facts := asked.Facts(method)
	facts["drawing_error"], facts["journey_error"] = rounded(j.drawingError), rounded(j.journeyError)
	if reason != "" {
		facts["fallback_reason"] = reason
		return facts, nil
	}
	facts["steps"] = travelSteps
	facts["known_words"], facts["unknown_words"] = e.nets.vocabulary.names(known), append([]string{}, unknown...)
	return facts, nil
}

func rounded(x float64) float64 { return math.Round(x*100) / 100 }

// journey is one travel on its way.
type journey struct {
	nets      *nets
	asked     *media.TravelTask
	framing   framing
	condition []float32
	keys      int // frames that are drawn
	meter     *meter

	noises  []float32 // that of the start, then that of the end
	latents []float32 // of all keys
	// How far the worse of the two pictures is off, as mean absolute difference of 255: when the autoencoder draws it, and when the flow
	// does after the way to noise and back.
	drawingError, journeyError float64
}

// begin follows both pictures to their noises. When the nets do not draw such pictures well it says why.
func (j *journey) begin(ctx context.Context) (reason string, err error) {
	start, end := j.framing.square(j.asked.Start), j.framing.square(j.asked.End)
	squares := slices.Concat(start.numbers, end.numbers)
	latents, err := j.nets.encode(ctx, squares)
	if err != nil {
		return "", err
	}
	if j.drawingError, err = j.worst(ctx, latents, squares); err != nil {
		return "", err
	}
	if j.drawingError > maxDrawingError {
		return "The pictures are not like the emoji that the nets were trained on.", nil
	}
	if j.noises, err = j.invert(ctx, latents); err != nil {
		return "", err
	}
	ends := slices.Clone(j.noises)
	if err := j.forward(ctx, ends); err != nil {
		return "", err
	}
	if j.journeyError, err = j.worst(ctx, ends, squares); err != nil {
		return "", err
	}
	if j.journeyError > maxJourneyError {
		return "The nets do not find the way back from noise to these pictures.", nil
	}
	j.latents = make([]float32, j.keys*latentNumbers)
	copy(j.latents, ends[:latentNumbers])
	copy(j.latents[(j.keys-1)*latentNumbers:], ends[latentNumbers:])
	return "", nil
}

// worst is the larger of the mean absolute differences between two pictures and what is drawn from their latents, of 255, where the
// frame lies.
func (j *journey) worst(ctx context.Context, latents, squares []float32) (float64, error) {
	drawn, err := j.nets.decode(ctx, latents)
	if err != nil {
		return 0, err
	}
	worst := 0.0
	half := len(squares) / 2
	for _, at := range []int{0, half} {
		a, b := j.framing.window(drawn[at:at+half]), j.framing.window(squares[at:at+half])
		sum := 0.0
		for i := range a.numbers {
			sum += math.Abs(float64(a.numbers[i] - b.numbers[i]))
		}
		worst = max(worst, sum/float64(len(a.numbers))*127.5)
	}
	return worst, nil
}

// invert follows latents of pictures to their noises. A step ends where the flow's own step would begin that leads back, which is
// found by correcting a guess.
func (j *journey) invert(ctx context.Context, latents []float32) ([]float32, error) {
	conditions := slices.Repeat(j.condition, len(latents)/latentNumbers)
	const dt = float32(1) / travelSteps
	x := slices.Clone(latents)
	for step := range travelSteps {
		y := slices.Clone(x)
		for range inversionGuesses {
			velocity, err := j.nets.velocity(ctx, y, float32(step+1)*dt, conditions)
			if err != nil {
				return nil, err
			}
			for i, v := range velocity {
				y[i] += inversionShare * (x[i] + v*dt - y[i])
			}
		}
		x = y
		j.meter.add(1, "inverting")
	}
	return x, nil
}

// forward follows latents from noise to pictures.
func (j *journey) forward(ctx context.Context, latents []float32) error {
	conditions := slices.Repeat(j.condition, len(latents)/latentNumbers)
	const dt = float32(1) / travelSteps
	for step := range travelSteps {
		velocity, err := j.nets.velocity(ctx, latents, 1-float32(step)*dt, conditions)
		if err != nil {
			return err
		}
		for i, v := range velocity {
			latents[i] -= v * dt
		}
	}
	return nil
}

// finish draws the frames and writes the video.
func (j *journey) finish(ctx context.Context, tools *media.Tools, path string) error {
	j.meter.add(2, "drawing")
	err := j.nets.each(ctx, j.keys-2, func(ctx context.Context, from, to int) error {
		part := j.latents[(from+1)*latentNumbers : (to+1)*latentNumbers]
		for i := range to - from {
			share := ease(float64(from+1+i) / float64(j.keys-1))
			slerp(part[i*latentNumbers:(i+1)*latentNumbers], j.noises[:latentNumbers], j.noises[latentNumbers:], share)
		}
		if err := j.forward(ctx, part); err != nil {
			return err
		}
		j.meter.add(float64(to-from), "drawing")
		return j.drawn(ctx, part[(to-from)/2*latentNumbers:][:latentNumbers])
	})
	if err != nil {
		return err
	}
	first, err := j.frame(ctx, 0)
	if err != nil {
		return err
	}
	last, err := j.frame(ctx, j.keys-1)
	if err != nil {
		return err
	}
	asked := j.asked
	return tools.Encode(ctx, path, asked.Size, asked.Rate, []int{0, asked.Frames - 1}, func(write func([]byte) error) error {
		s := &sequence{travel: asked, keys: j.keys, lostFirst: difference(asked.Start, first), lostLast: difference(asked.End, last)}
		s.write = func(frame []byte) error {
			err := write(frame)
			if err == nil {
				j.encoded(frame)
			}
			return err
		}
		workers := j.nets.backend.Workers()
		for from := 0; from < j.keys; from += workers {
			frames := make([][]byte, min(workers, j.keys-from))
			err := j.nets.each(ctx, len(frames), func(ctx context.Context, at, to int) (err error) {
				for ; at < to && err == nil; at++ {
					frames[at], err = j.frame(ctx, from+at)
				}
				return err
			})
			if err != nil {
				return err
			}
			for _, frame := range frames {
				if err := s.add(frame); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// frame draws a key as a raw frame.
func (j *journey) frame(ctx context.Context, key int) ([]byte, error) {
	picture, err := j.nets.decode(ctx, j.latents[key*latentNumbers:(key+1)*latentNumbers])
	if err != nil {
		return nil, err
	}
	large, err := j.nets.enlarge(ctx, j.framing.window(picture))
	if err != nil {
		return nil, err
	}
	return rawFrame(scale(large.image(), j.asked.Size.Width, j.asked.Size.Height)), nil
}

// drawn shows, now and then, the picture of a latent, small as the nets draw it.
func (j *journey) drawn(ctx context.Context, latent []float32) error {
	if !j.meter.due() {
		return nil
	}
	picture, err := j.nets.decode(ctx, latent)
	if err != nil {
		return err
	}
	data, err := encodePNG(j.framing.window(picture).image())
	if err != nil {
		return err
	}
	j.meter.sink.Preview(data, "image/png")
	return nil
}

// encoded counts a frame that was written, and shows it now and then.
func (j *journey) encoded(frame []byte) {
	j.meter.add(1, "encoding")
	if !j.meter.due() {
		return
	}
	if data, err := media.Preview(frame, j.asked.Size); err == nil {
		j.meter.sink.Preview(data, "image/jpeg")
	}
}

// slerp writes the point between two noises that is as far from the middle as they are, on the arc between them.
func slerp(to, a, b []float32, share float64) {
	var aa, ab, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		aa, ab, bb = aa+x*x, ab+x*y, bb+y*y
	}
	angle := math.Acos(min(max(ab/math.Sqrt(aa*bb), -1), 1))
	weightA, weightB := 1-share, share
	if sin := math.Sin(angle); sin > 1e-3 {
		weightA, weightB = math.Sin((1-share)*angle)/sin, math.Sin(share*angle)/sin
	}
	for i := range to {
		to[i] = float32(weightA*float64(a[i]) + weightB*float64(b[i]))
	}
}

// ease maps 0..1 to 0..1, slow at both ends.
func ease(t float64) float64 { return t * t * (3 - 2*t) }

// framing is how a frame lies in the square that the nets see: whole, in the middle.
type framing struct {
	size media.Size
	part image.Rectangle
}

func newFraming(size media.Size) framing {
	longer := max(size.Width, size.Height)
	width := max(1, (size.Width*pictureSide+longer/2)/longer)
	height := max(1, (size.Height*pictureSide+longer/2)/longer)
	corner := image.Pt((pictureSide-width)/2, (pictureSide-height)/2)
	return framing{size: size, part: image.Rectangle{Min: corner, Max: corner.Add(image.Pt(width, height))}}
}

// square puts a raw frame into the square; beside it lies the mean colour of its border.
func (f framing) square(frame []byte) planes {
	img := image.NewRGBA(image.Rect(0, 0, f.size.Width, f.size.Height))
	for from, to := 0, 0; from < len(frame); from, to = from+3, to+4 {
		copy(img.Pix[to:], frame[from:from+3])
		img.Pix[to+3] = 0xff
	}
	img = scale(img, f.part.Dx(), f.part.Dy())
	border := borderColor(img)
	square := image.NewRGBA(image.Rect(0, 0, pictureSide, pictureSide))
	for i := range square.Pix {
		square.Pix[i] = append(border[:], 0xff)[i%4]
	}
	draw.Draw(square, f.part, img, image.Point{}, draw.Src)
	return planesOf(square)
}

// window is the part of the square where the frame lies.
func (f framing) window(square []float32) planes {
	return planes{width: pictureSide, height: pictureSide, numbers: square}.crop(f.part)
}

// rawFrame turns a picture into a raw frame.
func rawFrame(img *image.RGBA) []byte {
	frame := make([]byte, 0, len(img.Pix)/4*3)
	for i := 0; i < len(img.Pix); i += 4 {
		frame = append(frame, img.Pix[i:i+3]...)
	}
	return frame
}

// difference is what must be added to a drawn frame to make it the given one.
func difference(given, drawn []byte) []int16 {
	lost := make([]int16, len(given))
	for i := range lost {
		lost[i] = int16(given[i]) - int16(drawn[i])
	}
	return lost
}

// sequence turns keys into all frames of a travel. The first and the last are the given pictures; what the nets lost of these is
// added to the frames near them, less and less.
type sequence struct {
	travel              *media.TravelTask
	keys                int
	lostFirst, lostLast []int16
	write               func(frame []byte) error

	added, written int
	last           []byte // the newest key
}

// add takes the next key and writes the frames up to it.
func (s *sequence) add(key []byte) error {
	number := s.added
	s.added++
	frames := s.travel.Frames
	for ; s.written < frames; s.written++ {
		at := float64(s.written) * float64(s.keys-1) / float64(frames-1)
		if at > float64(number)+1e-9 {
			break
		}
		if err := s.write(s.frame(key, at-float64(number-1))); err != nil {
			return err
		}
	}
	s.last = key
	return nil
}

// frame makes the next frame: between the keys before and now, share being that of the latter.
func (s *sequence) frame(key []byte, share float64) []byte {
	switch s.written {
	case 0:
		return s.travel.Start
	case s.travel.Frames - 1:
		return s.travel.End
	}
	const one = 1 << 12
	place := float64(s.written) / float64(s.travel.Frames-1)
	fade := func(distance float64) int { return int(one * (1 - ease(min(1, distance/fading)))) }
	first, last, now := fade(place), fade(1-place), int(one*min(share, 1)+0.5)
	before := s.last
	if before == nil {
		before = key
	}
	frame := make([]byte, len(key))
	for i := range frame {
		value := int(before[i])*(one-now) + int(key[i])*now + int(s.lostFirst[i])*first + int(s.lostLast[i])*last
		frame[i] = byte(min(max((value+one/2)>>12, 0), 255))
	}
	return frame
}

// meter tells a sink how far a travel is. Its methods may be called from several goroutines.
type meter struct {
	sink engine.Sink

	mu         sync.Mutex
	value, max float64
	shown      time.Time // when the last preview was
}

func (m *meter) add(done float64, phase string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.value += done
	m.max = max(m.max, m.value)
	m.sink.Progress(engine.Progress{Value: m.value, Max: m.max, Phase: phase})
}

// shorten says that there is only so much left to do.
func (m *meter) shorten(left float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.max = m.value + left
}

func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sink.Progress(engine.Progress{Value: m.max, Max: m.max, Phase: "done"})
}

// due says, now and then, that an unfinished frame should be shown.
func (m *meter) due() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if now.Sub(m.shown) < previewEvery {
		return false
	}
	m.shown = now
	return true
}
