package openaiserver

import (
	"bytes"
	"context"
	"fmt"
	"image"
	_ "image/jpeg" // formats of pictures whose size is read
	_ "image/png"
	"net/http"
	"os"
	"strings"
	"time"

	"darkroom/workerd/engine"
)

const (
	maxImages = 4
	// maxPrompt is as long as OpenAI's API takes.
	maxPrompt = 32_000
)

type images struct {
	Created      int64       `json:"created"`
	Background   string      `json:"background"`
	Data         []imageData `json:"data"`
	OutputFormat string      `json:"output_format"`
	Quality      string      `json:"quality"`
	Size         string      `json:"size,omitempty"`
}

type imageData struct {
	Base64 []byte `json:"b64_json"`
}

// createImages answers POST /v1/images/generations, when all pictures are there.
func (s *Server) createImages(w http.ResponseWriter, r *http.Request) error {
	if !s.does(singleImage) {
		return badField("", "unsupported", "This server's engine makes no pictures.")
	}
	if err := s.admit(); err != nil {
		return err
	}
	defer s.release()
	folder, err := os.MkdirTemp(s.folder, "images-")
	if err != nil {
		return noRoom(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	f, err := readFields(w, r, folder)
	if err != nil {
		return err
	}
	s.wantedModel(f)
	prompt, size, seed := f.prompt(true), f.size(), f.seed()
	count, found := f.whole("n", 1, maxImages)
	if !found {
		count = 1
	}
	f.only("response_format", "pictures come as b64_json.", "b64_json")
	f.only("output_format", "pictures come as png.", "png")
	f.only("background", "pictures are opaque.", "auto", "opaque")
	f.only("quality", "there is one quality, so leave it out.", "auto", "standard")
	f.only("moderation", "there is none to set.", "auto", "low")
	f.only("output_compression", "png is not compressed with loss.", "100")
	f.only("stream", "pictures are not streamed.", "false")
	f.only("partial_images", "pictures are not streamed.", "0")
	f.known["user"], f.known["safety_identifier"] = true, true // say who asks, which changes nothing
	if err := f.done(); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	answered := images{Created: time.Now().Unix(), Background: "opaque", Quality: "auto"}
	for i := range count {
		file, err := s.drawPicture(ctx, folder, prompt, size, (seed+i)%(maxSeed+1), func(engine.Progress) {})
		if err != nil {
			return err
		}
		data, err := os.ReadFile(file.Path)
		if err != nil {
			return noRoom(err)
		}
		answered.Data = append(answered.Data, imageData{Base64: data})
		if config, format, err := image.DecodeConfig(bytes.NewReader(data)); err == nil {
			answered.OutputFormat, answered.Size = format, fmt.Sprintf("%dx%d", config.Width, config.Height)
		}
	}
	return answer(w, answered)
}

// prompt reads the prompt.
func (f *fields) prompt(required bool) string {
	prompt := f.text("prompt")
	switch {
	case required && strings.TrimSpace(prompt) == "":
		f.blame(badField("prompt", "missing_required_parameter", "Missing required parameter: 'prompt'."))
	case len(prompt) > maxPrompt:
		f.blame(badField("prompt", "invalid_value", "The prompt is longer than %d characters.", maxPrompt))
	}
	return prompt
}
