package media

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"darkroom/workerd/engine"
)

// Video is what a video file says about itself.
type Video struct {
	Path        string
	Size        Size // as shown, after rotation
	Rate        Rate // frames a second: constant, or on average
	Frames      int  // as counted by the container; see [Tools.Count]
	Duration    time.Duration
	Codec       string // such as "h264"
	PixelFormat string // such as "yuv420p"
	HasAudio    bool

	format format
	// steady says that the frames are evenly spaced.
	steady bool
	// square says that pixels are shown as wide as they are high.
	square bool
	// coding is equal for two clips whose streams can be joined without coding them anew; "" when that is unknown.
	coding string
}

// stream as ffprobe prints it.
type probedStream struct {
	CodecType    string `json:"codec_type"`
	CodecName    string `json:"codec_name"`
	Profile      string `json:"profile"`
	Level        int    `json:"level"`
	Width        int    `json:"width"`
	Height       int    `json:"height"`
	PixFmt       string `json:"pix_fmt"`
	Aspect       string `json:"sample_aspect_ratio"`
	RFrameRate   string `json:"r_frame_rate"`
	AvgFrameRate string `json:"avg_frame_rate"`
	TimeBase     string `json:"time_base"`
	ColorRange   string `json:"color_range"`
	ColorSpace   string `json:"color_space"`
	NbFrames     string `json:"nb_frames"`
	NbRead       string `json:"nb_read_packets"`
	NbReadFrames string `json:"nb_read_frames"`
	Duration     string `json:"duration"`
	Extradata    string `json:"extradata_hash"`
	Tags         struct {
		Rotate string `json:"rotate"`
	} `json:"tags"`
	SideData []struct {
		Rotation float64 `json:"rotation"`
	} `json:"side_data_list"`
	Disposition struct {
		AttachedPic int `json:"attached_pic"`
	} `json:"disposition"`
}

// quarterTurned says whether the video is shown turned by 90 degrees.
func (s *probedStream) quarterTurned() bool {
	turn, _ := strconv.Atoi(s.Tags.Rotate)
	for _, side := range s.SideData {
		if side.Rotation != 0 {
			turn = int(side.Rotation)
		}
	}
	return turn%180 != 0
}

// Probe reads what a video file says about itself and checks it against the limits. label names the file in messages,
// such as "segment 2".
func (t *Tools) Probe(ctx context.Context, path, label string) (Video, error) {
	found, err := recogniseVideo(path, label)
	if err != nil {
		return Video{}, err
	}
	video := Video{Path: path, format: found}
	stream, length, err := t.probe(ctx, &video, label, "-show_streams", "-show_format", "-show_data_hash", "sha256")
	if err != nil {
		return Video{}, err
	}
	video.Size = Size{Width: stream.Width, Height: stream.Height}
	if stream.quarterTurned() {
		video.Size = Size{Width: stream.Height, Height: stream.Width}
	}
	if pixels := int64(stream.Width) * int64(stream.Height); pixels <= 0 || pixels > MaxPixels {
		return Video{}, engine.Errorf(engine.BadInput, "The %s has %s pixels; at most %d million can be used.", label, video.Size, MaxPixels/1_000_000)
	}
	video.Codec, video.PixelFormat = stream.CodecName, stream.PixFmt
	video.square = stream.Aspect == "" || stream.Aspect == "1:1" || stream.Aspect == "0:1"
	constant, average := parseRate(stream.RFrameRate), parseRate(stream.AvgFrameRate)
	video.Rate, video.steady = constant, constant.near(average) || average == Rate{}
	if !video.steady || constant.FPS() > MaxRate {
		if video.Rate, err = NewRate(min(average.FPS(), MaxRate)); err != nil {
			return Video{}, engine.Errorf(engine.BadInput, "The %s has no usable frame rate.", label)
		}
		video.steady = false
	}
	if stream.Duration == "" {
		stream.Duration = length
	}
	if seconds, err := strconv.ParseFloat(stream.Duration, 64); err == nil && seconds > 0 && seconds < 1e6 {
		video.Duration = time.Duration(seconds * float64(time.Second))
	}
	if stream.Extradata != "" && found.demuxer == "mov" {
		video.coding = fmt.Sprint(stream.CodecName, stream.Profile, stream.Level, video.Size, stream.PixFmt, stream.Aspect, stream.TimeBase,
			stream.ColorRange, stream.ColorSpace, stream.Extradata, stream.quarterTurned(), video.Rate)
	}
	if video.Frames, err = strconv.Atoi(stream.NbFrames); err != nil || video.Frames <= 0 {
		packets, _, err := t.probe(ctx, &video, label, "-count_packets", "-select_streams", "v:0", "-show_streams")
		if err != nil {
			return Video{}, err
		}
		video.Frames, _ = strconv.Atoi(packets.NbRead)
	}
	if video.Frames < 1 || video.Frames > MaxFrames {
		return Video{}, engine.Errorf(engine.BadInput, "The %s has %d frames; it must have 1 to %d.", label, video.Frames, MaxFrames)
	}
	return video, nil
}

// probe runs ffprobe on a recognised video and returns its first video stream and the duration of the file.
func (t *Tools) probe(ctx context.Context, video *Video, label string, show ...string) (*probedStream, string, error) {
	input, err := video.format.inputArgs(video.Path)
	if err != nil {
		return nil, "", err
	}
	args := append([]string{"-v", "error", "-print_format", "json"}, show...)
	printed, err := output(ctx, t.FFprobe, append(args, input...)...)
	if err != nil {
		return nil, "", blame(err, "The %s cannot be read as a video; it is damaged or cut short.", label)
	}
	var parsed struct {
		Streams []*probedStream `json:"streams"`
		Format  struct {
			Duration string `json:"duration"`
		} `json:"format"`
	}
	if err := json.Unmarshal(printed, &parsed); err != nil {
		return nil, "", fmt.Errorf("read what ffprobe says: %w", err)
	}
	var picture *probedStream
	for _, stream := range parsed.Streams {
		switch {
		case stream.CodecType == "audio":
			video.HasAudio = true
		case stream.CodecType == "video" && picture == nil && stream.Disposition.AttachedPic == 0:
			picture = stream
		}
	}
	if picture == nil {
		return nil, "", engine.Errorf(engine.BadInput, "The %s holds no video.", label)
	}
	return picture, parsed.Format.Duration, nil
}

// Count decodes a whole video and returns how many frames it really has.
func (t *Tools) Count(ctx context.Context, path string) (int, error) {
	found, err := recogniseVideo(path, "video")
	if err != nil {
		return 0, err
	}
	stream, _, err := t.probe(ctx, &Video{Path: path, format: found}, "video", "-count_frames", "-select_streams", "v:0", "-show_streams")
	if err != nil {
		return 0, err
	}
	frames, err := strconv.Atoi(stream.NbReadFrames)
	if err != nil {
		return 0, fmt.Errorf("read ffprobe's count of frames: %w", err)
	}
	return frames, nil
}

// verify checks that a video this package has made is whole. A difference is an error of ours, never of the input.
func (t *Tools) verify(ctx context.Context, path string, frames int) error {
	counted, err := t.Count(ctx, path)
	if err != nil {
		if err := engine.Stopped(ctx); err != nil {
			return err
		}
		return &engine.Error{Class: engine.EngineDown, Message: "The worker's ffmpeg wrote a video that cannot be read.", Err: err}
	}
	if counted != frames {
		return engine.Errorf(engine.EngineDown, "The worker's ffmpeg wrote %d frames instead of %d.", counted, frames)
	}
	return nil
}
