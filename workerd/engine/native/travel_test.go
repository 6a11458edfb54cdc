package native

import (
	"bytes"
	"fmt"
	"image"
	"math"
	"path/filepath"
	"testing"

	"darkroom/workerd/engine"
	"darkroom/workerd/media"
)

// progress is a sink that checks that progress never falls and ends at its maximum.
type progress struct {
	t    *testing.T
	last engine.Progress
}

func (p *progress) Progress(now engine.Progress) {
	if now.Value < p.last.Value || now.Value > now.Max {
		p.t.Errorf("progress went from %+v to %+v", p.last, now)
	}
	p.last = now
}
func (*progress) Preview([]byte, string) {}
func (*progress) Log(string)             {}

// firstFrame is the first frame of a picture or video, as the engine media draws posters.
func firstFrame(t *testing.T, e *Engine, path string, size media.Size) []byte {
	t.Helper()
	poster := filepath.Join(t.TempDir(), "poster.jpg")
	if err := e.tools.Thumbnail(t.Context(), path, poster); err != nil {
		t.Fatal(err)
	}
	frame, err := media.Picture(t.Context(), poster, "poster", size)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func TestTravel(t *testing.T) {
	t.Parallel()
	e := newEngine(t, BackendGo, 1, 2)
	apple, cat := ends(t, e)
	for _, test := range []struct {
		start, end, size string
		frames           int
		method           string
	}{
		{apple, cat, "128x128", 6, TravelMethod},
		{cat, apple, "160x96", 2, TravelMethod},
		{photo("cat"), photo("coffee"), "96x128", 5, media.TravelMethod},
	} {
		t.Run(test.size, func(t *testing.T) {
			t.Parallel()
			sink := &progress{t: t}
			params := map[string]any{"segment_frames_target": test.frames, "resolution": test.size, "prompt": "red apple, qwertyuiop"}
			result, err := e.Run(t.Context(), task(t, media.TravelSegment, params, test.start, test.end), sink)
			if err != nil {
				t.Fatal(err)
			}
			if sink.last.Value != sink.last.Max {
				t.Errorf("progress ended at %+v", sink.last)
			}
			output, _ := result.File(engine.Output)
			video, err := e.tools.Probe(t.Context(), output.Path, "output")
			if err != nil {
				t.Fatal(err)
			}
			if video.Size.String() != test.size || result.Metadata["frames"] != test.frames || result.Metadata["method"] != test.method {
				t.Errorf("a video of %v: %v", video.Size, result.Metadata)
			}
			if reason, fell := result.Metadata["fallback_reason"]; fell != (test.method == media.TravelMethod) {
				t.Errorf("the reason for falling back is %v", reason)
			}
			first, err := media.Picture(t.Context(), test.start, "start", video.Size)
			if err != nil {
				t.Fatal(err)
			}
			if off := meanApart(first, firstFrame(t, e, output.Path, video.Size)); off > 8 {
				t.Errorf("the first frame is %.1f of 255 off the start picture", off)
			}
		})
	}
}

// shown is a sink that keeps previews.
type shown struct{ previews []image.Config }

func (*shown) Progress(engine.Progress) {}
func (s *shown) Preview(data []byte, mediaType string) {
	config, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || "image/"+format != mediaType {
		config = image.Config{}
	}
	s.previews = append(s.previews, config)
}
func (*shown) Log(string) {}

func TestTravelShowsFramesNowAndThen(t *testing.T) {
	t.Parallel()
	e := newEngine(t, BackendGo, 1, 1)
	size := media.Size{Width: 640, Height: 320}
	sink := &shown{}
	j := &journey{nets: e.nets, asked: &media.TravelTask{Size: size}, framing: newFraming(size), meter: &meter{sink: sink}}
	show := func(want int, width, height int) {
		t.Helper()
		if len(sink.previews) != want || want > 0 && (sink.previews[want-1].Width != width || sink.previews[want-1].Height != height) {
			t.Fatalf("shown are %+v, want %d, the last of %dx%d", sink.previews, want, width, height)
		}
	}
	draw := func() {
		t.Helper()
		if err := j.drawn(t.Context(), normal(1, latentNumbers)); err != nil {
			t.Fatal(err)
		}
	}
	draw()
	show(1, 128, 64)
	draw()
	j.encoded(make([]byte, 3*size.Width*size.Height))
	show(1, 128, 64) // too soon
	j.meter.shown = j.meter.shown.Add(-previewEvery)
	j.encoded(make([]byte, 3*size.Width*size.Height))
	show(2, 320, 160)
}

func meanApart(a, b []byte) float64 {
	sum := 0
	for i := range a {
		sum += abs(int(a[i]) - int(b[i]))
	}
	return float64(sum) / float64(len(a))
}

func TestSequenceGivesEveryFrame(t *testing.T) {
	t.Parallel()
	size := media.Size{Width: 2, Height: 1}
	level := func(value int) []byte { return bytes.Repeat([]byte{byte(value)}, 6) }
	for _, test := range []struct{ frames, keys int }{{2, 2}, {3, 3}, {24, 24}, {25, 7}, {400, 96}} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			t.Parallel()
			// The keys go from 20 to 220, while the given pictures are 10 and 250: 10 and 30 are lost.
			var got []int
			s := &sequence{travel: &media.TravelTask{Size: size, Frames: test.frames, Start: level(10), End: level(250)}, keys: test.keys}
			s.lostFirst, s.lostLast = difference(level(10), level(20)), difference(level(250), level(220))
			s.write = func(frame []byte) error {
				got = append(got, int(frame[5]))
				return nil
			}
			for key := range test.keys {
				if err := s.add(level(20 + 200*key/(test.keys-1))); err != nil {
					t.Fatal(err)
				}
			}
			if len(got) != test.frames || got[0] != 10 || got[len(got)-1] != 250 {
				t.Fatalf("%d frames of %d: %v", len(got), test.frames, got)
			}
			for i := 1; i < len(got); i++ {
				if step := got[i] - got[i-1]; step < 0 || step > 8+240/(test.frames-1)*2 {
					t.Errorf("a jump from %d to %d at frame %d", got[i-1], got[i], i)
				}
			}
		})
	}
}

func TestSlerpStaysOnTheArc(t *testing.T) {
	t.Parallel()
	a, b, to := []float32{3, 0}, []float32{0, 3}, make([]float32, 2)
	for _, share := range []float64{0, 0.25, 0.5, 1} {
		slerp(to, a, b, share)
		if math.Abs(math.Hypot(float64(to[0]), float64(to[1]))-3) > 1e-5 || math.Abs(math.Atan2(float64(to[1]), float64(to[0]))-share*math.Pi/2) > 1e-5 {
			t.Errorf("at %v: %v", share, to)
		}
	}
	slerp(to, a, a, 0.5)
	if to[0] != 3 || to[1] != 0 {
		t.Errorf("between a noise and itself: %v", to)
	}
}

func TestFramingKeepsWholePictures(t *testing.T) {
	t.Parallel()
	for _, size := range []media.Size{{Width: 512, Height: 512}, {Width: 768, Height: 512}, {Width: 64, Height: 1024}, {Width: 4096, Height: 32}} {
		f := newFraming(size)
		frame := bytes.Repeat([]byte{200, 100, 50}, size.Width*size.Height)
		square := f.square(frame)
		if len(square.numbers) != 3*pictureSide*pictureSide {
			t.Fatalf("%v: %d numbers", size, len(square.numbers))
		}
		back := rawFrame(scale(f.window(square.numbers).image(), size.Width, size.Height))
		if off := meanApart(frame, back); len(back) != len(frame) || off > 1 {
			t.Errorf("%v: %d of %d bytes, %.1f off", size, len(back), len(frame), off)
		}
	}
}
