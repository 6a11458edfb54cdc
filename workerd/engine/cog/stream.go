package cog

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine"
	"darkroom/workerd/engine/remote"
)

// percent is a percentage in the log of a model, as tqdm and most others print it.
var percent = regexp.MustCompile(`\b(\d{1,3})%`)

// follow reads the events of a prediction (server-sent events, by the HTML standard, section 9.2) until it is completed.
func (r *run) follow(body io.Reader) (prediction, error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), remote.MaxPictures)
	var name string
	var data []byte
	for lines.Scan() {
		field, value, _ := bytes.Cut(lines.Bytes(), []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			name = string(value)
		case "data":
			data = append(append(data, value...), '\n')
		case "": // the end of an event, or a comment, which keeps the connection alive
			if len(lines.Bytes()) > 0 || name == "" && data == nil {
				continue
			}
			if made, done, err := r.heed(name, data); done || err != nil {
				return made, err
			}
			name, data = "", nil
		}
		if len(data) > remote.MaxPictures {
			return prediction{}, engine.Errorf(engine.EngineDown, "The model's server sent an event of more than %d MB.", remote.MaxPictures>>20)
		}
	}
	if failure, ok := errors.AsType[*engine.Error](lines.Err()); ok {
		return prediction{}, failure
	}
	return prediction{}, &engine.Error{Class: engine.EngineDown, Message: "The model's server ended its answer too early; the task will be tried again.", Err: lines.Err()}
}

// heed takes one event, and says whether it was the last.
func (r *run) heed(name string, data []byte) (made prediction, done bool, err error) {
	switch name {
	case "completed":
		if err := json.Unmarshal(data, &made); err != nil {
			return made, false, &engine.Error{Class: engine.EngineDown, Message: "The model's server sent an answer that cannot be read.", Err: err}
		}
		return made, true, nil
	case "error": // of the stream, not of the model
		return made, false, &engine.Error{Class: engine.EngineDown, Message: "The model's server lost its answer; the task will be tried again.", Err: errors.New(remote.Quote(string(data)))}
	case "log":
		var log struct {
			Data string `json:"data"`
		}
		if json.Unmarshal(data, &log) == nil {
			r.log(log.Data)
		}
	case "output":
		var output struct {
			Chunk string `json:"chunk"`
		}
		if json.Unmarshal(data, &output) == nil {
			r.preview(output.Chunk)
		}
	}
	return made, false, nil
}

// log passes lines on, and takes a percentage for the progress.
func (r *run) log(text string) {
	for line := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == '\n' || c == '\r' }) {
		if line = remote.Quote(line); line != "" {
			r.sink.Log(line)
		}
	}
	if all := percent.FindAllStringSubmatch(text, -1); all != nil {
		if share, err := strconv.Atoi(all[len(all)-1][1]); err == nil && share <= 100 {
			r.tell(stageWork+(stageFetch-stageWork)*float64(share)/100, "working")
		}
	}
}

// preview shows a picture that a model gives before its last one.
func (r *run) preview(chunk string) {
	header, encoded, _ := strings.Cut(chunk, ",")
	if !strings.HasPrefix(header, "data:image/") {
		return
	}
	data, err := base64.StdEncoding.DecodeString(encoded)
	if mediaType := storage.MediaType(data[:min(len(data), 512)]); err == nil && strings.HasPrefix(mediaType, "image/") {
		r.sink.Preview(data, mediaType)
	}
}
