package media

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"darkroom/workerd/engine"
)

const (
	// quality is x264's constant rate factor: finer than its default of 23, since clips are coded again when stitched.
	quality = "17"
	// passthroughMode, for [Tools.passthrough], neither repeats nor leaves out a frame.
	passthroughMode = "passthrough"
)

// decode calls each for every frame of a video, scaled and cropped to cover size. With rate other than zero frames are
// repeated or left out to have that rate, else every frame comes once. It returns how many came.
func (t *Tools) decode(ctx context.Context, video *Video, size Size, rate Rate, label string, each func(frame []byte) error) (int, error) {
	input, err := video.format.inputArgs(video.Path)
	if err != nil {
		return 0, err
	}
	filters := ""
	if rate != (Rate{}) {
		filters = "fps=" + rate.String() + ","
	}
	if !video.square {
		filters += "scale=iw*sar:ih,"
	}
	filters += fmt.Sprintf("scale=%d:%d:force_original_aspect_ratio=increase:flags=lanczos+accurate_rnd+full_chroma_int,format=rgb24,crop=%d:%d",
		size.Width, size.Height, size.Width, size.Height)
	args := append([]string{"-hide_banner", "-v", "error", "-nostdin"}, input...)
	args = append(args, "-map", "0:v:0", "-an", "-sn", "-dn", "-vf", filters, t.passthrough, passthroughMode, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1")
	frames, err := stream(ctx, size.bytes(), nil, each, t.FFmpeg, args...)
	return frames, blame(err, "The %s cannot be decoded; it is damaged or cut short.", label)
}

// Encode writes an MP4 (H.264, 4:2:0, playable while it loads) of the raw frames that produce passes to write. The file
// appears at path only when it is whole and has been counted to hold as many frames. keyframes lists frames that are coded on their own.
func (t *Tools) Encode(ctx context.Context, path string, size Size, rate Rate, keyframes []int, produce func(write func(frame []byte) error) error) error {
	part := partOf(path)
	defer func() { _ = os.Remove(part) }()
	args := []string{
		"-hide_banner", "-v", "error", "-nostdin",
		"-protocol_whitelist", "pipe", "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", size.String(), "-framerate", rate.String(), "-i", "pipe:0",
		"-vf", "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_inp,format=yuv420p",
		"-c:v", "libx264", "-preset", "medium", "-crf", quality,
		"-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv",
		t.passthrough, passthroughMode, "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart",
	}
	if len(keyframes) > 0 {
		args = append(args, "-force_key_frames", keyframeExpression(keyframes))
	}
	args = append(args, "-f", "mp4", "-y", "file:"+part)
	frames, err := t.feed(ctx, produce, args)
	if err != nil {
		return err
	}
	if err := t.verify(ctx, part, frames); err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("put the video into its place: %w", err)
	}
	return nil
}

// keyframeExpression is ffmpeg's expression that is 1 for the given frames.
func keyframeExpression(frames []int) string {
	var expression strings.Builder
	expression.WriteString("expr:0")
	for _, frame := range frames {
		expression.WriteString("+eq(n," + strconv.Itoa(frame) + ")")
	}
	return expression.String()
}

// feed runs ffmpeg with the frames of produce as its standard input, and returns how many there were.
func (t *Tools) feed(ctx context.Context, produce func(write func(frame []byte) error) error, args []string) (int, error) {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd, stderr := command(running, t.FFmpeg, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, fmt.Errorf("connect to ffmpeg: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return 0, notStarted(ctx, err)
	}
	frames := 0
	var broken error // of the pipe: ffmpeg has ended early, and says why when waited for
	producing := produce(func(frame []byte) error {
		frames++
		_, broken = stdin.Write(frame)
		return broken //nolint:wrapcheck // classed below, with what ffmpeg says
	})
	if producing != nil && broken == nil {
		cancel()
	}
	_ = stdin.Close()
	waiting := cmd.Wait()
	switch {
	case engine.Stopped(ctx) != nil:
		return 0, engine.Stopped(ctx)
	case producing != nil && broken == nil:
		return 0, producing
	case waiting != nil:
		return 0, encoderFailed(failed(ctx, waiting, stderr))
	case broken != nil:
		return 0, encoderFailed(broken)
	}
	return frames, nil
}

// encoderFailed classes what went wrong while writing a video: whatever it is, the input is not to blame.
func encoderFailed(err error) error {
	if _, ok := errors.AsType[*engine.Error](err); ok {
		return err
	}
	return &engine.Error{Class: engine.EngineDown, Message: "The worker's ffmpeg could not write the video.", Err: err}
}

// partOf is the name under which a file is written until it is whole.
func partOf(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".part")
}
