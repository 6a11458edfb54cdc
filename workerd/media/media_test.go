package media

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/enginetest"
)

// small is the size of most clips in tests.
var small = Size{Width: 64, Height: 48}

// findOnce finds ffmpeg as workerd does.
var findOnce = sync.OnceValues(func() (*Tools, error) { return Find(context.Background(), os.Stderr) })

func tools(t testing.TB) *Tools {
	t.Helper()
	found, err := findOnce()
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func photo(name string) string { return filepath.Join("..", "..", "testdata", "pictures", name+".jpg") }

// checkClass checks the class of an error.
func checkClass(t *testing.T, err error, want engine.Class) {
	t.Helper()
	if got := engine.ClassOf(err); got != want {
		t.Errorf("got class %q, want %q: %v", got, want, err)
	}
}

// flat is a raw frame of one grey.
func flat(size Size, level byte) []byte {
	frame := make([]byte, size.bytes())
	for i := range frame {
		frame[i] = level
	}
	return frame
}

// makeClip writes a clip of flat grey frames.
func makeClip(t *testing.T, path string, size Size, rate Rate, levels []byte) string {
	t.Helper()
	err := tools(t).Encode(t.Context(), path, size, rate, nil, func(write func([]byte) error) error {
		for _, level := range levels {
			if err := write(flat(size, level)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// decodeAll returns the frames of a video.
func decodeAll(t *testing.T, path string) (Video, [][]byte) {
	t.Helper()
	video, err := tools(t).Probe(t.Context(), path, "video")
	if err != nil {
		t.Fatal(err)
	}
	var frames [][]byte
	_, err = tools(t).decode(t.Context(), &video, video.Size, Rate{}, "video", func(frame []byte) error {
		frames = append(frames, append([]byte(nil), frame...))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return video, frames
}

// difference is the mean absolute difference of two frames, of 255.
func difference(a, b []byte) float64 {
	sum := 0
	for i := range a {
		sum += max(int(a[i])-int(b[i]), int(b[i])-int(a[i]))
	}
	return float64(sum) / float64(len(a))
}

func travelTask(t testing.TB, start, end string, params map[string]any) engine.Task {
	t.Helper()
	raw, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Task{
		ID: uuid.New(), Type: TravelSegment, Params: raw, OutDir: t.TempDir(),
		Inputs: []engine.Input{{Path: start, Role: engine.StartImage}, {Path: end, Role: engine.EndImage}},
	}
}

func BenchmarkCancel(b *testing.B) {
	e := NewEngine(tools(b), 1)
	enginetest.BenchmarkCancel(b, e, func() engine.Task {
		return travelTask(b, photo("coffee"), photo("cat"), map[string]any{"segment_frames_target": 400, "parsed_resolution_wh": "1536x1024", "fps_helpers": 16})
	})
}

func TestEngineConforms(t *testing.T) { //nolint:paralleltest // it watches goroutines
	params := func(frames, resolution, fps any) map[string]any {
		return map[string]any{
			"segment_frames_target": frames, "orchestrator_details": map[string]any{"parsed_resolution_wh": resolution, "fps_helpers": fps},
		}
	}
	travel := func(frames, resolution, fps any) func(t *testing.T) engine.Task {
		return func(t *testing.T) engine.Task {
			t.Helper()
			return travelTask(t, photo("coffee"), photo("cat"), params(frames, resolution, fps))
		}
	}
	junk := func(name, content string) func(t *testing.T) engine.Task {
		return func(t *testing.T) engine.Task {
			t.Helper()
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			return travelTask(t, path, photo("cat"), params(9, "64x48", 16))
		}
	}
	enginetest.Run(t, enginetest.Subject{
		Engine: NewEngine(tools(t), 2),
		Good:   travel(9, "96x64", 16),
		Long:   travel(400, "1536x1024", 16),
		Bad: map[string]func(t *testing.T) engine.Task{
			"text named png":      junk("a.png", "hello"),
			"empty file":          junk("a.png", ""),
			"broken jpeg":         junk("a.jpg", "\xff\xd8\xff\xe0 no more"),
			"no frames":           travel(0, "64x48", 16),
			"negative frames":     travel(-5, "64x48", 16),
			"too many frames":     travel(MaxFrames+1, "64x48", 16),
			"fraction of a frame": travel(8.5, "64x48", 16),
			"frames missing":      travel(nil, "64x48", 16),
			"odd resolution":      travel(9, "65x48", 16),
			"huge resolution":     travel(9, "100000x100000", 16),
			"tiny resolution":     travel(9, "2x2", 16),
			"resolution missing":  travel(9, nil, 16),
			"resolution as text":  travel(9, "$(reboot)x,scale=1:1", 16),
			"frame rate 0":        travel(9, "64x48", 0),
			"frame rate as text":  travel(9, "64x48", "fast"),
			"one picture": func(t *testing.T) engine.Task {
				t.Helper()
				task := travel(9, "64x48", 16)(t)
				task.Inputs = task.Inputs[:1]
				return task
			},
			"a video for a picture": func(t *testing.T) engine.Task {
				t.Helper()
				clip := makeClip(t, filepath.Join(t.TempDir(), "a.mp4"), small, Rate{Num: 16, Den: 1}, []byte{9})
				return travelTask(t, clip, photo("cat"), params(9, "64x48", 16))
			},
			"a picture for a clip": func(t *testing.T) engine.Task {
				t.Helper()
				return stitchTask(t, []string{photo("cat")}, `{}`)
			},
			"no clips": func(t *testing.T) engine.Task {
				t.Helper()
				return stitchTask(t, nil, `{}`)
			},
			"params that are no object": func(t *testing.T) engine.Task {
				t.Helper()
				return stitchTask(t, []string{photo("cat")}, `[1]`)
			},
		},
	})
}

func TestCancelledStitchFreesItsSlot(t *testing.T) { //nolint:paralleltest // it measures time
	levels := make([]byte, 150)
	dir := t.TempDir()
	a := makeClip(t, filepath.Join(dir, "a.mp4"), Size{Width: 768, Height: 512}, Rate{Num: 16, Den: 1}, levels)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked time.Time
	sink := sinkFunc(func(progress engine.Progress) {
		if progress.Value == 5 {
			asked = time.Now()
			cancel()
		}
	})
	_, err := NewEngine(tools(t), 1).Run(ctx, stitchTask(t, []string{a, a}, `{"frame_overlap_settings_expanded":[3]}`), sink)
	checkClass(t, err, engine.Cancelled)
	if took := time.Since(asked); took > 5*time.Second {
		t.Errorf("it ended %v after the cancel", took)
	}
}

func stitchTask(t *testing.T, clips []string, params string) engine.Task {
	t.Helper()
	task := engine.Task{ID: uuid.New(), Type: TravelStitch, Params: json.RawMessage(params), OutDir: t.TempDir()}
	for _, clip := range clips {
		task.Inputs = append(task.Inputs, engine.Input{Path: clip, Role: engine.Segment})
	}
	return task
}

// sinkFunc is a sink that only looks at progress.
type sinkFunc func(engine.Progress)

func (f sinkFunc) Progress(progress engine.Progress) { f(progress) }
func (sinkFunc) Preview([]byte, string)              {}
func (sinkFunc) Log(string)                          {}

func TestTravelShowsTheGivenPicturesFirstAndLast(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		start, end, resolution string
		frames                 int
		fps                    float64
		// bound of what H.264 with 4:2:0 may lose, as mean absolute difference of 255; small pictures hold more detail a pixel.
		bound float64
	}{
		{"coffee", "cat", "768x512", 24, 16, 2.5},
		{"cat", "rocket", "384x512", 17, 24, 2.5},
		{"rocket", "coffee", "256x130", 2, 23.976, 5},
		{"coffee", "coffee", "64x48", 120, 30, 6},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			t.Parallel()
			var size Size
			if _, err := fmt.Sscanf(test.resolution, "%dx%d", &size.Width, &size.Height); err != nil {
				t.Fatal(err)
			}
			task := travelTask(t, photo(test.start), photo(test.end), map[string]any{
				"segment_frames_target": test.frames, "parsed_resolution_wh": test.resolution, "fps": test.fps,
			})
			begun := time.Now()
			result, err := NewEngine(tools(t), 1).Run(t.Context(), task, sinkFunc(func(engine.Progress) {}))
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(begun)
			file, _ := result.File(engine.Output)
			video, frames := decodeAll(t, file.Path)
			if len(frames) != test.frames || video.Frames != test.frames || video.Size != size || video.PixelFormat != "yuv420p" || video.Codec != "h264" {
				t.Errorf("%d frames decoded, %+v", len(frames), video)
			}
			if want, _ := NewRate(test.fps); video.Rate != want {
				t.Errorf("rate %s, want %s", video.Rate, want)
			}
			if result.Metadata["method"] != TravelMethod || result.Metadata["frames"] != test.frames {
				t.Errorf("metadata: %v", result.Metadata)
			}
			for name, frame := range map[string][]byte{test.start: frames[0], test.end: frames[len(frames)-1]} {
				given, err := Picture(t.Context(), photo(name), name, size)
				if err != nil {
					t.Fatal(err)
				}
				off := difference(frame, given)
				t.Logf("%s at %s: off by %.2f of 255; %v", name, size, off, took)
				if off > test.bound {
					t.Errorf("%s is off by %.2f of 255, more than %.1f", name, off, test.bound)
				}
			}
			checkMovement(t, frames)
		})
	}
}

// checkMovement checks that a travel goes from its first to its last frame bit by bit: the middle is about half way, and no
// frame jumps.
func checkMovement(t *testing.T, frames [][]byte) {
	t.Helper()
	first, last := frames[0], frames[len(frames)-1]
	whole := difference(first, last)
	if whole < 5 || len(frames) < 10 {
		return
	}
	middle := frames[len(frames)/2]
	if toFirst, toLast := difference(middle, first), difference(middle, last); toFirst < whole/5 || toLast < whole/5 {
		t.Errorf("the middle is %.1f from the start and %.1f from the end, which are %.1f apart", toFirst, toLast, whole)
	}
	for i := 1; i < len(frames); i++ {
		if jump := difference(frames[i-1], frames[i]); jump > whole/4 {
			t.Errorf("frame %d jumps by %.1f of %.1f", i, jump, whole)
		}
	}
}

func TestTravelKeepsColours(t *testing.T) {
	t.Parallel()
	red, blue := make([]byte, 0, small.bytes()), make([]byte, 0, small.bytes())
	for range small.Width * small.Height {
		red, blue = append(red, 220, 30, 20), append(blue, 20, 60, 210)
	}
	path := filepath.Join(t.TempDir(), "a.mp4")
	if err := tools(t).Travel(t.Context(), path, small, Rate{Num: 16, Den: 1}, 9, red, blue, func([]byte) {}); err != nil {
		t.Fatal(err)
	}
	_, frames := decodeAll(t, path)
	if off := max(difference(frames[0], red), difference(frames[8], blue)); off > 3 {
		t.Errorf("colours are off by %.1f of 255", off)
	}
}

func TestProgramsDieWithTheirParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can end a program whose parent is killed")
	}
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestParent$")
	parent.Env = append(os.Environ(), "DARKROOM_TEST_PARENT="+tools(t).FFmpeg)
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for running(pid) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("ffmpeg outlives the process that started it")
		}
		runtime.Gosched()
	}
}

// TestParent is the process that TestProgramsDieWithTheirParent kills.
func TestParent(t *testing.T) {
	t.Parallel()
	program := os.Getenv("DARKROOM_TEST_PARENT")
	if program == "" {
		t.Skip("runs in a process of its own")
	}
	cmd, _ := command(t.Context(), program, "-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i", "testsrc", "-f", "null", "-")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(os.Stdout, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// running says whether a process exists and is no zombie.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return fields[0] != "Z"
}
