package media

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"darkroom/workerd/engine"
)

// StitchPlan is a checked order of clips, ready to be written.
type StitchPlan struct {
	Size   Size
	Rate   Rate
	Frames int  // of the result: all frames less all overlaps; an estimate when a clip's frame rate is changed
	Copy   bool // clips are joined as they are, without coding them anew

	exact    bool // no clip's frame rate is changed
	clips    []Video
	overlaps []int
}

// PlanStitch probes the clips and checks that they can be joined with overlaps[i] frames of cross-fade between clip i
// and the next. The result has the size given, or with the zero Size that of the first clip, and the first clip's
// frame rate; clips that differ are scaled and cropped, or have frames repeated or left out.
func (t *Tools) PlanStitch(ctx context.Context, clips []string, overlaps []int, size Size) (*StitchPlan, error) {
	if len(clips) == 0 || len(clips) > MaxSegments {
		return nil, engine.Errorf(engine.BadInput, "A stitch of %d segments cannot be made: give 1 to %d.", len(clips), MaxSegments)
	}
	if len(overlaps) != len(clips)-1 {
		return nil, engine.Errorf(engine.BadInput, "%d segments have %d boundaries, but %d overlaps were given.", len(clips), len(clips)-1, len(overlaps))
	}
	plan := &StitchPlan{Size: size, exact: true, Copy: true, overlaps: overlaps}
	for i, path := range clips {
		video, err := t.Probe(ctx, path, segmentLabel(i))
		if err != nil {
			return nil, err
		}
		plan.clips = append(plan.clips, video)
	}
	first := plan.clips[0]
	plan.Rate = first.Rate
	if size == (Size{}) {
		plan.Size = Size{Width: first.Size.Width &^ 1, Height: first.Size.Height &^ 1}
	}
	if err := plan.Size.check(); err != nil {
		return nil, err
	}
	for i := range plan.clips {
		clip := &plan.clips[i]
		plan.Copy = plan.Copy && clip.coding != "" && clip.coding == first.coding && clip.Size == plan.Size && clip.PixelFormat == "yuv420p" &&
			clip.Codec == "h264" && plan.before(i) == 0
		plan.exact = plan.exact && plan.resampled(clip) == Rate{}
		plan.Frames += plan.length(clip)
	}
	if err := plan.checkOverlaps(); err != nil {
		return nil, err
	}
	if plan.Frames > MaxFrames {
		return nil, engine.Errorf(engine.BadInput, "The result would have %d frames; at most %d can be made.", plan.Frames, MaxFrames)
	}
	return plan, nil
}

// checkOverlaps takes the overlaps off the plan's frames.
func (p *StitchPlan) checkOverlaps() error {
	for i, overlap := range p.overlaps {
		if overlap < 0 {
			return engine.Errorf(engine.BadInput, "The overlap of segments %d and %d is %d frames; it cannot be negative.", i+1, i+2, overlap)
		}
		if overlap > MaxHeldBytes/p.Size.bytes() {
			return engine.Errorf(engine.BadInput, "The overlap of segments %d and %d is %d frames; at %s it can be at most %d.",
				i+1, i+2, overlap, p.Size, MaxHeldBytes/p.Size.bytes())
		}
		p.Frames -= overlap
	}
	for i := range p.clips {
		if p.exact && p.length(&p.clips[i]) < p.before(i)+p.after(i) {
			return p.tooShort(i, p.length(&p.clips[i]))
		}
	}
	return nil
}

func (p *StitchPlan) tooShort(i, frames int) error {
	return engine.Errorf(engine.BadInput, "Segment %d has %d frames, fewer than the %d it shares with its neighbours.", i+1, frames, p.before(i)+p.after(i))
}

// before is how many frames clip i shares with the clip before it.
func (p *StitchPlan) before(i int) int {
	if i == 0 {
		return 0
	}
	return p.overlaps[i-1]
}

// after is how many frames clip i shares with the clip after it.
func (p *StitchPlan) after(i int) int {
	if i == len(p.overlaps) {
		return 0
	}
	return p.overlaps[i]
}

// resampled returns the rate that a clip's frames must be brought to, or zero for a clip whose frames are taken one by one.
func (p *StitchPlan) resampled(clip *Video) Rate {
	if clip.steady && clip.Rate.near(p.Rate) {
		return Rate{}
	}
	return p.Rate
}

// length is how many frames of the result a clip gives; an estimate for a resampled one.
func (p *StitchPlan) length(clip *Video) int {
	if p.resampled(clip) == (Rate{}) {
		return clip.Frames
	}
	return max(1, int(clip.Duration.Seconds()*p.Rate.FPS()+0.5))
}

func segmentLabel(i int) string { return fmt.Sprintf("segment %d", i+1) }

// Stitch writes the planned MP4 and returns its number of frames, which is exactly that of all clips less the overlaps.
// Sound is left out. shown is called with every frame after it was written, and must not keep it; when clips are joined
// as they are it is never called. Only the frames of one overlap are held in memory.
func (t *Tools) Stitch(ctx context.Context, plan *StitchPlan, path string, shown func(frame []byte)) (int, error) {
	if plan.Copy {
		return plan.Frames, t.join(ctx, plan, path)
	}
	frames := 0
	err := t.Encode(ctx, path, plan.Size, plan.Rate, nil, func(write func([]byte) error) error {
		fade := &crossfade{write: func(frame []byte) error {
			if frames++; frames > MaxFrames {
				return engine.Errorf(engine.BadInput, "The result would have more than %d frames, the most that can be made.", MaxFrames)
			}
			err := write(frame)
			if err == nil {
				shown(frame)
			}
			return err
		}}
		return t.fadeAll(ctx, plan, fade, &frames)
	})
	return frames, err
}

// fadeAll decodes all clips into the cross-fade and checks the number of frames that come out, as counted by written.
func (t *Tools) fadeAll(ctx context.Context, plan *StitchPlan, fade *crossfade, written *int) error {
	total := 0
	for i := range plan.clips {
		clip := &plan.clips[i]
		fade.begin(plan.before(i), plan.after(i))
		resampled := plan.resampled(clip)
		got, err := t.decode(ctx, clip, plan.Size, resampled, segmentLabel(i), fade.add)
		if err != nil {
			return err
		}
		if resampled == (Rate{}) && got != clip.Frames {
			return engine.Errorf(engine.BadInput, "Segment %d is damaged or cut short: it says it has %d frames and holds %d.", i+1, clip.Frames, got)
		}
		if got < plan.before(i)+plan.after(i) {
			return plan.tooShort(i, got)
		}
		total += got - plan.before(i)
	}
	if *written != total {
		return engine.Errorf(engine.EngineDown, "The worker joined %d frames instead of %d.", *written, total)
	}
	return nil
}

// crossfade joins clips. It holds back the last frames of a clip until it sees the first ones of the next.
type crossfade struct {
	write func(frame []byte) error

	before, after int      // overlaps of the current clip
	added         int      // frames of the current clip so far
	held          [][]byte // the newest frames of the current clip, at most after
	fading        [][]byte // the last frames of the clip before, those not yet mixed
	free          [][]byte // room for frames
}

// begin starts the next clip, which shares its first frames with the clip before and its last ones with the clip after.
func (c *crossfade) begin(before, after int) {
	c.before, c.after, c.added = before, after, 0
	c.fading, c.held = c.held, c.fading[:0]
}

// add takes the next frame of the current clip.
func (c *crossfade) add(frame []byte) error {
	if c.added++; c.added <= c.before {
		outgoing := c.fading[0]
		c.fading = c.fading[1:]
		c.free = append(c.free, outgoing)
		mix(outgoing, outgoing, frame, float64(c.added)/float64(c.before+1))
		return c.write(outgoing)
	}
	if c.after == 0 {
		return c.write(frame)
	}
	var room []byte
	if len(c.held) == c.after {
		room = c.held[0]
		if err := c.write(room); err != nil {
			return err
		}
		copy(c.held, c.held[1:])
		c.held = c.held[:c.after-1]
	} else if last := len(c.free) - 1; last >= 0 {
		room, c.free = c.free[last], c.free[:last]
	} else {
		room = make([]byte, len(frame))
	}
	copy(room, frame)
	c.held = append(c.held, room)
	return nil
}

// join writes the clips one after another without coding them anew.
func (t *Tools) join(ctx context.Context, plan *StitchPlan, path string) error {
	part := partOf(path)
	list := path + ".txt"
	defer func() { _, _ = os.Remove(part), os.Remove(list) }()
	var lines strings.Builder
	lines.WriteString("ffconcat version 1.0\n")
	for i := range plan.clips {
		abs, err := filepath.Abs(plan.clips[i].Path)
		if err != nil {
			return fmt.Errorf("find the full path of an input: %w", err)
		}
		if strings.ContainsAny(abs, "\n\r") {
			return errors.New("the path of an input holds a line break")
		}
		fmt.Fprintf(&lines, "file 'file:%s'\n", strings.ReplaceAll(abs, "'", `'\''`))
	}
	if err := os.WriteFile(list, []byte(lines.String()), 0o600); err != nil {
		return fmt.Errorf("write the list of segments: %w", err)
	}
	_, err := output(ctx, t.FFmpeg, "-hide_banner", "-v", "error", "-nostdin",
		"-protocol_whitelist", "file", "-f", "concat", "-safe", "0", "-i", "file:"+list,
		"-map", "0:v:0", "-c", "copy", "-fflags", "+bitexact", "-movflags", "+faststart", "-f", "mp4", "-y", "file:"+part)
	if err != nil {
		return blame(err, "The segments cannot be joined; one of them is damaged or cut short.")
	}
	if err := t.verify(ctx, part, plan.Frames); err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("put the video into its place: %w", err)
	}
	return nil
}
