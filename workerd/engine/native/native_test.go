package native

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/enginetest"
	"darkroom/workerd/engine/native/ort"
	"darkroom/workerd/media"
)

// update rewrites the golden pictures: go test ./workerd/engine/native -run TestGolden -update.
var update = flag.Bool("update", false, "rewrite the golden pictures with what the plain Go backend draws")

// newEngine returns an engine with the given backend. A test is skipped where ONNX Runtime is not installed.
func newEngine(tb testing.TB, backend string, slots, threads int) *Engine {
	tb.Helper()
	e, err := New(tb.Context(), "native", Config{Backend: backend, Slots: slots, Threads: threads})
	if backend == BackendORT && (errors.Is(err, ort.ErrNotFound) || errors.Is(err, ort.ErrNoCgo)) {
		tb.Skipf("%v", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

var backends = []string{BackendGo, BackendORT}

func task(tb testing.TB, kind string, params map[string]any, inputs ...string) engine.Task {
	tb.Helper()
	raw, err := json.Marshal(params)
	if err != nil {
		tb.Fatal(err)
	}
	t := engine.Task{ID: uuid.New(), Type: kind, Params: raw, OutDir: tb.TempDir()}
	for i, input := range inputs {
		t.Inputs = append(t.Inputs, engine.Input{Path: input, Role: []engine.Role{engine.StartImage, engine.EndImage}[i]})
	}
	return t
}

// silent is a sink for runs of which only the result matters.
type silent struct{}

func (silent) Progress(engine.Progress) {}
func (silent) Preview([]byte, string)   {}
func (silent) Log(string)               {}

// drawn runs a task that makes a picture.
func drawn(t *testing.T, e *Engine, params map[string]any) (image.Image, map[string]any) {
	t.Helper()
	result, err := e.Run(t.Context(), task(t, SingleImage, params), silent{})
	if err != nil {
		t.Fatal(err)
	}
	output, _ := result.File(engine.Output)
	return readPNG(t, output.Path), result.Metadata
}

func readPNG(t *testing.T, path string) image.Image {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// apart is how far two pictures are apart: the mean and the largest difference of a channel, of 255.
func apart(t *testing.T, a, b image.Image) (mean float64, most int) {
	t.Helper()
	if a.Bounds() != b.Bounds() {
		t.Fatalf("sizes %v and %v", a.Bounds(), b.Bounds())
	}
	sum, count := 0, 0
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			r, g, b1, _ := a.At(x, y).RGBA()
			r2, g2, b2, _ := b.At(x, y).RGBA()
			for _, d := range []int{int(r>>8) - int(r2>>8), int(g>>8) - int(g2>>8), int(b1>>8) - int(b2>>8)} {
				sum, count, most = sum+abs(d), count+1, max(most, abs(d))
			}
		}
	}
	return float64(sum) / float64(count), most
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) { // one after the other: the first may write what the second is compared with
			e := newEngine(t, backend, 1, 1)
			for name, params := range map[string]map[string]any{
				"apple": {"prompt": "red apple", "seed": 1},
				"cat":   {"prompt": "cat face on a blue background", "seed": 2, "size": "384x256"},
			} {
				path := filepath.Join("testdata", "golden", name+".png")
				got, facts := drawn(t, e, params)
				if facts["backend"] != backend {
					t.Errorf("it ran on %v", facts["backend"])
				}
				if *update && backend == BackendGo {
					var data bytes.Buffer
					if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&data, got); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, data.Bytes(), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if mean, most := apart(t, got, readPNG(t, path)); mean > 0.5 || most > 16 {
					t.Errorf("%s: mean difference %.3f, largest %d", name, mean, most)
				}
			}
		})
	}
}

// ends are the pictures of travels: two that the engine drew itself.
func ends(t testing.TB, e *Engine) (start, end string) {
	t.Helper()
	dir := t.TempDir()
	paths := make([]string, 0, 2)
	for i, prompt := range []string{"red apple", "cat face"} {
		known, _ := e.nets.vocabulary.encode(prompt)
		img, err := e.draw(t.Context(), known, int64(i+1), silent{})
		if err != nil {
			t.Fatal(err)
		}
		data, err := encodePNG(img)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, filepath.Join(dir, fmt.Sprintf("%d.png", i)))
		if err := os.WriteFile(paths[i], data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return paths[0], paths[1]
}

func photo(name string) string {
	return filepath.Join("..", "..", "..", "testdata", "pictures", name+".jpg")
}

func TestEngineConforms(t *testing.T) { //nolint:paralleltest // it watches goroutines
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			e := newEngine(t, backend, 2, 1)
			image := func(params map[string]any) func(t *testing.T) engine.Task {
				return func(t *testing.T) engine.Task {
					t.Helper()
					return task(t, SingleImage, params)
				}
			}
			travel := func(frames, size any) func(t *testing.T) engine.Task {
				return func(t *testing.T) engine.Task {
					t.Helper()
					start, end := ends(t, e)
					return task(t, media.TravelSegment, map[string]any{"segment_frames_target": frames, "parsed_resolution_wh": size}, start, end)
				}
			}
			enginetest.Run(t, enginetest.Subject{
				Engine: e,
				Good:   image(map[string]any{"prompt": "red apple", "seed": 3}),
				Long:   travel(900, "1024x1024"),
				Bad: map[string]func(t *testing.T) engine.Task{
					"no prompt":              image(map[string]any{}),
					"no word":                image(map[string]any{"prompt": " ,; "}),
					"no known word":          image(map[string]any{"prompt": "qwertyuiop"}),
					"prompt of another kind": image(map[string]any{"prompt": 7}),
					"tiny size":              image(map[string]any{"prompt": "red apple", "size": "63x64"}),
					"huge size":              image(map[string]any{"prompt": "red apple", "size": "64x2049"}),
					"seed as text":           image(map[string]any{"prompt": "red apple", "seed": "x"}),
					"travel of one frame":    travel(1, "64x64"),
					"travel without a size":  travel(9, nil),
					"travel to nowhere": func(t *testing.T) engine.Task {
						t.Helper()
						task := travel(9, "64x64")(t)
						task.Inputs = task.Inputs[:1]
						return task
					},
					"travel from a text": func(t *testing.T) engine.Task {
						t.Helper()
						path := filepath.Join(t.TempDir(), "a.png")
						if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
							t.Fatal(err)
						}
						return task(t, media.TravelSegment, map[string]any{"segment_frames_target": 9, "parsed_resolution_wh": "64x64"}, path, photo("cat"))
					},
				},
			})
		})
	}
}

func TestNewRefusesWrongSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{Backend: "tpu"}, {Slots: -1}, {Threads: -1}} {
		if _, err := New(t.Context(), "native", c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

func TestSameSeedSamePicture(t *testing.T) {
	t.Parallel()
	e := newEngine(t, BackendGo, 1, 2)
	a, facts := drawn(t, e, map[string]any{"prompt": "a red apple, qwertyuiop", "seed": 5, "size": "128x96"})
	b, _ := drawn(t, e, map[string]any{"prompt": "RED apples", "seed": 5, "size": "128x96"})
	other, _ := drawn(t, e, map[string]any{"prompt": "red apple", "seed": 6, "size": "128x96"})
	if _, most := apart(t, a, b); most != 0 {
		t.Errorf("two pictures of the same words and seed are %d apart", most)
	}
	if mean, _ := apart(t, a, other); mean < 0.1 {
		t.Errorf("pictures of two seeds are %.2f apart", mean)
	}
	for name, want := range map[string]any{
		"width": 128, "height": 96, "seed": int64(5), "steps": imageSteps, "engine": "native", "model": modelName, "backend": BackendGo,
	} {
		if facts[name] != want {
			t.Errorf("%s is %v, want %v", name, facts[name], want)
		}
	}
	if got := fmt.Sprint(facts["known_words"], facts["unknown_words"]); got != "[red apple] [qwertyuiop]" {
		t.Errorf("words: %s", got)
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	square := image.NewRGBA(image.Rect(0, 0, 32, 32))
	for i := range square.Pix {
		square.Pix[i] = []byte{10, 200, 90, 255}[i%4]
	}
	for _, size := range [][2]int{{64, 64}, {128, 64}, {64, 200}} {
		img := fill(square, struct{ Width, Height int }{size[0], size[1]})
		if img.Bounds() != image.Rect(0, 0, size[0], size[1]) {
			t.Errorf("%v: got %v", size, img.Bounds())
		}
		for i, value := range img.Pix {
			if want := int(square.Pix[i%4]); abs(int(value)-want) > 1 {
				t.Fatalf("%v: the background is %d at %d, want %d", size, value, i, want)
			}
		}
	}
}

func TestPlanesAndBack(t *testing.T) {
	t.Parallel()
	img := image.NewRGBA(image.Rect(0, 0, 16, 16))
	for i := range img.Pix {
		img.Pix[i] = byte(i/4 + i%4)
		if i%4 == 3 {
			img.Pix[i] = 255
		}
	}
	if back := planesOf(img).image(); !bytes.Equal(back.Pix, img.Pix) {
		t.Error("a picture is not the same after its way through planes")
	}
	cut := planesOf(img).crop(image.Rect(3, 5, 7, 6)).image()
	if got, want := cut.RGBAAt(1, 0), img.RGBAAt(4, 5); cut.Bounds() != image.Rect(0, 0, 4, 1) || got != want {
		t.Errorf("cut out: %v %v, want %v", cut.Bounds(), got, want)
	}
}

//go:embed testdata/noise.json
var noiseJSON []byte

func TestNoise(t *testing.T) {
	t.Parallel()
	var vectors []struct {
		Seed    int64
		Numbers []float32
	}
	if err := json.Unmarshal(noiseJSON, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		for i, got := range normal(v.Seed, len(v.Numbers)) {
			if math.Abs(float64(got-v.Numbers[i])) > 1e-6 {
				t.Errorf("seed %d, number %d: got %v, want %v", v.Seed, i, got, v.Numbers[i])
			}
		}
	}
}

//go:embed testdata/words.json
var wordsJSON []byte

func TestWords(t *testing.T) {
	t.Parallel()
	var vectors struct {
		Vocabulary []string
		Prompts    []struct {
			Prompt  string
			Numbers []int64
			Unknown []string
		}
	}
	if err := json.Unmarshal(wordsJSON, &vectors); err != nil {
		t.Fatal(err)
	}
	v := newVocabulary(strings.Join(vectors.Vocabulary, "\n") + "\n")
	for _, want := range vectors.Prompts {
		numbers, unknown := v.encode(want.Prompt)
		if !slices.Equal(numbers, want.Numbers) || !slices.Equal(unknown, want.Unknown) {
			t.Errorf("%q: got %v %q, want %v %q", want.Prompt, numbers, unknown, want.Numbers, want.Unknown)
		}
	}
}

// cpuTime reports, when the returned function is called, the time that processors spent on each round, in this process and those
// that it started: on a busy machine it says more than the time that passed.
func cpuTime(b *testing.B) func() {
	b.Helper()
	used := func() (sum float64) {
		for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
			var usage unix.Rusage
			if err := unix.Getrusage(who, &usage); err != nil {
				b.Fatal(err)
			}
			for _, spent := range []unix.Timeval{usage.Utime, usage.Stime} {
				sum += float64(spent.Nano()) / 1e9
			}
		}
		return sum
	}
	before := used()
	return func() { b.ReportMetric((used()-before)/float64(b.N), "cpu-s/op") }
}

func BenchmarkImage(b *testing.B) {
	for _, backend := range backends {
		b.Run(backend, func(b *testing.B) {
			e := newEngine(b, backend, 1, 1)
			params := map[string]any{"prompt": "red apple", "seed": 1}
			if _, err := e.Run(b.Context(), task(b, SingleImage, params), silent{}); err != nil {
				b.Fatal(err)
			}
			defer cpuTime(b)()
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				if _, err := e.Run(b.Context(), task(b, SingleImage, params), silent{}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2].Seconds(), "s-p50")
		})
	}
}

// BenchmarkCancel cancels a picture after its first step, and a travel after its first.
func BenchmarkCancel(b *testing.B) {
	for _, backend := range backends {
		e := newEngine(b, backend, 1, 1)
		b.Run(backend+"/image", func(b *testing.B) {
			enginetest.BenchmarkCancel(b, e, func() engine.Task {
				return task(b, SingleImage, map[string]any{"prompt": "red apple", "size": "2048x2048"})
			})
		})
		b.Run(backend+"/travel", func(b *testing.B) {
			start, end := ends(b, e)
			enginetest.BenchmarkCancel(b, e, func() engine.Task {
				return task(b, media.TravelSegment, map[string]any{"segment_frames_target": 900, "parsed_resolution_wh": "1024x1024"}, start, end)
			})
		})
	}
}

// BenchmarkTravel draws 24 frames at 512x512, on one core and on all.
func BenchmarkTravel(b *testing.B) {
	for _, backend := range backends {
		for _, threads := range []int{1, 0} {
			b.Run(fmt.Sprintf("%s/threads=%d", backend, threads), func(b *testing.B) {
				e := newEngine(b, backend, 1, threads)
				start, end := ends(b, e)
				defer cpuTime(b)()
				for b.Loop() {
					t := task(b, media.TravelSegment, map[string]any{"segment_frames_target": 24, "parsed_resolution_wh": "512x512"}, start, end)
					result, err := e.Run(b.Context(), t, silent{})
					if err != nil {
						b.Fatal(err)
					}
					if result.Metadata["method"] != TravelMethod {
						b.Skipf("the nets do not draw these pictures: %v", result.Metadata)
					}
				}
			})
		}
	}
}
