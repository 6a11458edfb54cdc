package comfyui

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine"
	"darkroom/workerd/engine/remote"
)

// upload is an input of the task and its place on the server.
type upload struct{ file, folder, name string }

// upload notes an input to be sent and returns how the workflow names it. It implements [template.File].
func (r *run) upload(input engine.Input) (string, error) {
	head, err := beginning(input.Path)
	if err != nil {
		return "", &engine.Error{Class: engine.EngineDown, Message: fmt.Sprintf("The worker cannot read the input %s.", input.Role), Err: err}
	}
	extension, ok := extensions[storage.MediaType(head)]
	if !ok {
		return "", engine.Errorf(engine.BadInput, "The input %s is neither a JPEG, PNG or WebP picture nor an MP4, MOV or WebM video.", input.Role)
	}
	up := upload{file: input.Path, folder: "darkroom/" + r.client, name: string(input.Role) + extension}
	r.uploads = append(r.uploads, up)
	return path.Join(up.folder, up.name), nil
}

// extensions by media type. The server and its nodes go by them.
var extensions = map[string]string{
	"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "video/mp4": ".mp4", "video/webm": ".webm", "video/quicktime": ".mov",
}

func beginning(file string) ([]byte, error) {
	from, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open an input: %w", err)
	}
	defer func() { _ = from.Close() }()
	head, err := io.ReadAll(io.LimitReader(from, 512))
	if err != nil {
		return nil, fmt.Errorf("read an input: %w", err)
	}
	return head, nil
}

// send uploads an input. The folder is the run's own, so nothing of others is overwritten.
func (e *Engine) send(ctx context.Context, up upload) error {
	from, err := os.Open(up.file)
	if err != nil {
		return &engine.Error{Class: engine.EngineDown, Message: "The worker cannot read an input.", Err: err}
	}
	defer func() { _ = from.Close() }()
	reader, writer := io.Pipe()
	form := multipart.NewWriter(writer)
	written := make(chan struct{})
	go func() {
		defer close(written)
		err := form.WriteField("subfolder", up.folder)
		if err == nil {
			err = form.WriteField("overwrite", "true")
		}
		var part io.Writer
		if err == nil {
			part, err = form.CreateFormFile("image", up.name)
		}
		if err == nil {
			_, err = io.Copy(part, from)
		}
		if err == nil {
			err = form.Close()
		}
		writer.CloseWithError(err)
	}()
	defer func() {
		_ = reader.Close()
		<-written
	}()
	response, err := e.client.Do(ctx, http.MethodPost, "/upload/image", http.Header{"Content-Type": {form.FormDataContentType()}}, reader) //nolint:bodyclose // Decode does
	if err != nil {
		return err
	}
	var stored struct {
		Name      string `json:"name"`
		Subfolder string `json:"subfolder"`
	}
	if err := e.client.Decode(response, remote.MaxAnswer, &stored); err != nil {
		return err
	}
	if stored.Name != up.name || strings.ReplaceAll(stored.Subfolder, `\`, "/") != up.folder {
		return engine.Errorf(engine.EngineDown, "The ComfyUI server stored an input under another name; the task will be tried again.")
	}
	return nil
}

// output is a file on the server, as the history has it.
type output struct {
	Filename  string `json:"filename"`
	Subfolder string `json:"subfolder"`
	Type      string `json:"type"` // output or temp

	node string
}

// choose picks the result: the first file of the node that the configuration names, else of the last node, in natural order, that
// saved one for good. Nodes call their files images, gifs, videos and more; audio can't be the result.
func (r *run) choose(outputs map[string]map[string]json.RawMessage) (output, error) {
	var candidates []output
	var savers []string
	for _, node := range slices.SortedFunc(maps.Keys(outputs), natural) {
		if r.flow.output != "" && node != r.flow.output {
			continue
		}
		before := len(candidates)
		for _, kind := range slices.Sorted(maps.Keys(outputs[node])) {
			var files []output
			if kind == "audio" || json.Unmarshal(outputs[node][kind], &files) != nil {
				continue
			}
			for _, file := range files {
				if file.node = node; file.Filename != "" && (file.Type == "output" || r.flow.output != "") {
					candidates = append(candidates, file)
				}
			}
		}
		if len(candidates) > before {
			savers = append(savers, node)
		}
	}
	if len(candidates) == 0 {
		return output{}, engine.Errorf(engine.BadInput, "The workflow ended without saving a picture or video; the operator must look at its output node.")
	}
	last := savers[len(savers)-1]
	chosen := candidates[slices.IndexFunc(candidates, func(file output) bool { return file.node == last })]
	if len(candidates) > 1 {
		r.sink.Log(fmt.Sprintf("the workflow saved %d files, in the nodes %s; the first of node %s is taken",
			len(candidates), strings.Join(savers, ", "), last))
	}
	return chosen, nil
}

// fetch brings the result over.
func (r *run) fetch(ctx context.Context, ended entry) (engine.File, error) {
	chosen, err := r.choose(ended.Outputs)
	if err != nil {
		return engine.File{}, err
	}
	r.meter.fetching()
	file := filepath.Join(r.task.OutDir, "output")
	query := url.Values{"filename": {chosen.Filename}, "subfolder": {chosen.Subfolder}, "type": {chosen.Type}}
	mediaType, err := r.engine.client.Save(ctx, "/view?"+query.Encode(), file, r.engine.most)
	if err != nil {
		return engine.File{}, err
	}
	named := file + extensions[mediaType]
	if err := os.Rename(file, named); err != nil {
		return engine.File{}, &engine.Error{Class: engine.EngineDown, Message: "The worker cannot write the output.", Err: err}
	}
	return engine.File{Path: named, MediaType: mediaType, Role: engine.Output}, nil
}
