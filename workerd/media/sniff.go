package media

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine"
)

// format is a kind of file, recognised by its first bytes: names and claimed media types are never believed.
type format struct {
	name    string // for people
	demuxer string // ffmpeg's name for a video's container; "" for pictures
}

// recognise returns the kind of a file, after checking its size. label names the file in messages, such as "start picture".
func recognise(path, label string) (format, error) {
	file, err := os.Open(path)
	if err != nil {
		return format{}, &engine.Error{Class: engine.EngineDown, Message: fmt.Sprintf("The worker cannot read the %s.", label), Err: err}
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return format{}, &engine.Error{Class: engine.EngineDown, Message: fmt.Sprintf("The worker cannot read the %s.", label), Err: err}
	}
	head := make([]byte, 512)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return format{}, &engine.Error{Class: engine.EngineDown, Message: fmt.Sprintf("The worker cannot read the %s.", label), Err: err}
	}
	if n == 0 {
		return format{}, engine.Errorf(engine.BadInput, "The %s is an empty file.", label)
	}
	found, ok := sniff(head[:n])
	if !ok {
		return format{}, engine.Errorf(engine.BadInput,
			"The %s is neither a JPEG, PNG or WebP picture nor an MP4, MOV or WebM video.", label)
	}
	limit := int64(MaxImageBytes)
	if found.demuxer != "" {
		limit = MaxVideoBytes
	}
	if info.Size() > limit {
		return format{}, engine.Errorf(engine.BadInput, "The %s has %d MB; at most %d MB can be used.", label, info.Size()>>20, limit>>20)
	}
	return found, nil
}

// sniff tells the kind from the first bytes of a file.
func sniff(head []byte) (format, bool) {
	switch storage.MediaType(head) {
	case "image/jpeg":
		return format{name: "JPEG"}, true
	case "image/png":
		return format{name: "PNG"}, true
	case "image/webp":
		return format{name: "WebP"}, true
	case "video/mp4", "video/quicktime":
		return format{name: "MP4", demuxer: "mov"}, true
	case "video/webm":
		return format{name: "WebM", demuxer: "matroska"}, true
	}
	return format{}, false
}

// recogniseImage is [recognise] for what must be a picture.
func recogniseImage(path, label string) (format, error) {
	found, err := recognise(path, label)
	if err == nil && found.demuxer != "" {
		err = engine.Errorf(engine.BadInput, "The %s is a video; use a JPEG, PNG or WebP picture.", label)
	}
	return found, err
}

// recogniseVideo is [recognise] for what must be a video.
func recogniseVideo(path, label string) (format, error) {
	found, err := recognise(path, label)
	if err == nil && found.demuxer == "" {
		err = engine.Errorf(engine.BadInput, "The %s is a picture; use an MP4, MOV or WebM video.", label)
	}
	return found, err
}

// inputArgs are ffmpeg's and ffprobe's arguments to read a recognised video: in its own format and by plain file access
// only, so that no playlist within can lead elsewhere.
func (f format) inputArgs(path string) ([]string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the full path of an input: %w", err)
	}
	return []string{"-protocol_whitelist", "file", "-f", f.demuxer, "-i", "file:" + abs}, nil
}
