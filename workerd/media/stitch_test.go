package media

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"darkroom/workerd/engine"
)

// level is the grey of a frame of a clip: neighbouring frames and clips differ by more than coding does.
func level(clip, frame int) byte { return byte(20 + (clip*71+frame*11)%210) }

func levels(clip, frames int) []byte {
	greys := make([]byte, frames)
	for i := range greys {
		greys[i] = level(clip, i)
	}
	return greys
}

// expected is what a stitch of clips with the given lengths must show, written as plainly as possible.
func expected(lengths, overlaps []int) []float64 {
	var want []float64
	for clip, length := range lengths {
		before := 0
		if clip > 0 {
			before = overlaps[clip-1]
		}
		shared := len(want) - before
		for i := range length {
			grey := float64(level(clip, i))
			if i < before {
				share := float64(i+1) / float64(before+1)
				want[shared+i] = want[shared+i]*(1-share) + grey*share
				continue
			}
			want = append(want, grey)
		}
	}
	return want
}

// stitchCase is a random stitch that can be made.
type stitchCase struct{ lengths, overlaps []int }

var stitchCases = rapid.Custom(func(r *rapid.T) stitchCase {
	overlaps := rapid.SliceOfN(rapid.IntRange(0, 6), 0, 3).Draw(r, "overlaps")
	lengths := make([]int, len(overlaps)+1)
	for i := range lengths {
		shared := 0
		if i > 0 {
			shared += overlaps[i-1]
		}
		if i < len(overlaps) {
			shared += overlaps[i]
		}
		lengths[i] = max(1, shared) + rapid.IntRange(0, 4).Draw(r, "more")
	}
	return stitchCase{lengths: lengths, overlaps: overlaps}
})

func TestCrossfadeIsFrameExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		drawn := stitchCases.Draw(r, "stitch")
		want := expected(drawn.lengths, drawn.overlaps)
		var got []byte
		fade := &crossfade{write: func(frame []byte) error { got = append(got, frame...); return nil }}
		plan := &StitchPlan{overlaps: drawn.overlaps}
		for clip, length := range drawn.lengths {
			fade.begin(plan.before(clip), plan.after(clip))
			for i := range length {
				if err := fade.add([]byte{level(clip, i)}); err != nil {
					r.Fatal(err)
				}
			}
		}
		if len(got) != len(want) {
			r.Fatalf("%d frames, want %d", len(got), len(want))
		}
		for i := range want {
			if off := float64(got[i]) - want[i]; off < -0.51 || off > 0.51 {
				r.Fatalf("frame %d shows %d, want %.1f", i, got[i], want[i])
			}
		}
	})
}

func TestStitchIsFrameExact(t *testing.T) {
	t.Parallel()
	const runs = 12 // each starts about ten programs
	dir := t.TempDir()
	for seed := range runs {
		drawn := stitchCases.Example(seed)
		clips := make([]string, len(drawn.lengths))
		for i, length := range drawn.lengths {
			clips[i] = makeClip(t, filepath.Join(dir, fmt.Sprintf("%d.mp4", i)), small, Rate{Num: 16, Den: 1}, levels(i, length))
		}
		plan, err := tools(t).PlanStitch(t.Context(), clips, drawn.overlaps, Size{})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "out.mp4")
		frames, err := tools(t).Stitch(t.Context(), plan, path, func([]byte) {})
		if err != nil {
			t.Fatal(err)
		}
		want := expected(drawn.lengths, drawn.overlaps)
		_, got := decodeAll(t, path)
		if frames != len(want) || len(got) != len(want) || plan.Frames != len(want) {
			t.Fatalf("%+v: planned %d, wrote %d and decoded %d frames, want %d", drawn, plan.Frames, frames, len(got), len(want))
		}
		for i, frame := range got {
			if off := float64(frame[0]) - want[i]; off < -4 || off > 4 {
				t.Errorf("%+v: frame %d shows %d, want %.1f", drawn, i, frame[0], want[i])
			}
		}
	}
}

func TestStitchWithoutOverlapCopies(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "it's a 'dir' with #;%d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	clips := []string{
		makeClip(t, filepath.Join(dir, "a'b.mp4"), small, Rate{Num: 16, Den: 1}, levels(0, 9)),
		makeClip(t, filepath.Join(dir, "-c\\d.mp4"), small, Rate{Num: 16, Den: 1}, levels(1, 12)),
	}
	plan, err := tools(t).PlanStitch(t.Context(), clips, []int{0}, Size{})
	if err != nil {
		t.Fatal(err)
	}
	if !plan.Copy {
		t.Error("equal clips without overlap are coded anew")
	}
	path := filepath.Join(dir, "out.mp4")
	if _, err := tools(t).Stitch(t.Context(), plan, path, func([]byte) {}); err != nil {
		t.Fatal(err)
	}
	video, got := decodeAll(t, path)
	if len(got) != 21 || video.Rate != (Rate{Num: 16, Den: 1}) {
		t.Errorf("%d frames at %s", len(got), video.Rate)
	}
	for i, want := range expected([]int{9, 12}, []int{0}) {
		if off := float64(got[i][0]) - want; off < -4 || off > 4 {
			t.Errorf("frame %d shows %d, want %.0f", i, got[i][0], want)
		}
	}
}

func TestStitchNormalisesClipsThatDiffer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	clips := []string{
		makeClip(t, filepath.Join(dir, "a.mp4"), small, Rate{Num: 16, Den: 1}, levels(0, 16)),
		makeClip(t, filepath.Join(dir, "b.mp4"), Size{Width: 96, Height: 160}, Rate{Num: 16, Den: 1}, levels(1, 10)),
		makeClip(t, filepath.Join(dir, "c.mp4"), small, Rate{Num: 32, Den: 1}, levels(2, 32)),
	}
	for _, size := range []Size{{}, {Width: 80, Height: 34}} {
		plan, err := tools(t).PlanStitch(t.Context(), clips, []int{4, 0}, size)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "out.mp4")
		frames, err := tools(t).Stitch(t.Context(), plan, path, func([]byte) {})
		if err != nil {
			t.Fatal(err)
		}
		if size == (Size{}) {
			size = small
		}
		video, got := decodeAll(t, path)
		// The third clip lasts a second, which are 16 frames of the first clip's rate.
		if want := 16 - 4 + 10 + 16; frames != want || len(got) != want || video.Size != size || video.Rate != (Rate{Num: 16, Den: 1}) {
			t.Errorf("%d frames written, %d decoded, %s at %s; want %d frames, %s", frames, len(got), video.Size, video.Rate, want, size)
		}
	}
}

func TestStitchRefusesWhatCannotBeJoined(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := makeClip(t, filepath.Join(dir, "a.mp4"), small, Rate{Num: 16, Den: 1}, levels(0, 8))
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		clips    []string
		overlaps []int
		size     Size
		says     string
	}{
		"overlap as long as a clip":   {[]string{good, good}, []int{9}, Size{}, "fewer than the 9"},
		"overlaps that meet":          {[]string{good, good, good}, []int{5, 4}, Size{}, "Segment 2 has 8 frames"},
		"negative overlap":            {[]string{good, good}, []int{-1}, Size{}, "negative"},
		"overlap beyond memory":       {[]string{good, good}, []int{1 << 40}, Size{}, "at most"},
		"too few overlaps":            {[]string{good, good}, nil, Size{}, "1 boundaries"},
		"odd size":                    {[]string{good}, nil, Size{Width: 63, Height: 48}, "even"},
		"cut mp4":                     {[]string{good, file("cut.mp4", string(whole[:len(whole)-60]))}, []int{1}, Size{}, "cut short"},
		"mp4 cut in its header":       {[]string{file("head.mp4", string(whole[:100]))}, nil, Size{}, "no video"},
		"mp4 of nothing but a header": {[]string{file("ftyp.mp4", "\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42")}, nil, Size{}, "damaged"},
		"playlist named mp4":          {[]string{file("list.mp4", "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.ts\n")}, nil, Size{}, "neither"},
		"concat script named mp4":     {[]string{file("concat.mp4", "ffconcat version 1.0\nfile /etc/passwd\n")}, nil, Size{}, "neither"},
		"heic":                        {[]string{file("a.heic", "\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic")}, nil, Size{}, "neither"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, err := tools(t).PlanStitch(t.Context(), test.clips, test.overlaps, test.size)
			if err == nil {
				_, err = tools(t).Stitch(t.Context(), plan, filepath.Join(t.TempDir(), "out.mp4"), func([]byte) {})
			}
			checkClass(t, err, engine.BadInput)
			if message := engine.MessageOf(err); !strings.Contains(message, test.says) {
				t.Errorf("%q does not say %q", message, test.says)
			}
		})
	}
}

func TestStitchMemoryDoesNotGrowWithItsClips(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	const frames = 1500
	clip := makeClip(t, filepath.Join(t.TempDir(), "a.mp4"), small, Rate{Num: 16, Den: 1}, levels(0, frames))
	plan, err := tools(t).PlanStitch(t.Context(), []string{clip, clip, clip}, []int{5, 5}, Size{})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	written, err := tools(t).Stitch(t.Context(), plan, filepath.Join(t.TempDir(), "out.mp4"), func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if written != 3*frames-10 {
		t.Errorf("wrote %d frames", written)
	}
	raw := uint64(written * small.bytes())
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("allocated %d kB in all for %d kB of frames", allocated>>10, raw>>10)
	if allocated > raw/8 {
		t.Errorf("allocated %d bytes for %d bytes of frames", allocated, raw)
	}
}
