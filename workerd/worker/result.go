package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"darkroom/workerd/engine"
)

// extensions are the ends of file names that may go into a key.
var extensions = regexp.MustCompile(`^\.[a-z0-9]{1,5}$`)

// made is the result of an engine, looked at.
type made struct {
	files    []madeFile // the output, and its thumbnail
	metadata json.RawMessage
}

// madeFile is one file of a result.
type madeFile struct {
	role   engine.Role
	name   string // for its key
	folder string
	path   string // inside folder
}

// open opens the file. What an engine made may lead out of its folder through a link: that is refused.
func (f madeFile) open() (io.ReadCloser, error) {
	root, err := os.OpenRoot(f.folder)
	if err != nil {
		return nil, fmt.Errorf("reading an output: %w", err)
	}
	defer root.Close()
	file, err := root.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("reading an output: %w", err)
	}
	return file, nil
}

// inspect looks at what an engine made in out, and makes a thumbnail where it made none.
func (w *Worker) inspect(ctx context.Context, result engine.Result, out, folder string) (*made, error) {
	made := &made{}
	if result.Metadata != nil {
		var err error
		if made.metadata, err = json.Marshal(result.Metadata); err != nil {
			return nil, unusable("Its facts cannot be written as JSON.", err)
		}
	}
	for _, role := range []engine.Role{engine.Output, engine.Thumbnail} {
		given, ok := result.File(role)
		if !ok {
			continue
		}
		file, err := look(given, out)
		if err != nil {
			return nil, err
		}
		made.files = append(made.files, file)
	}
	switch {
	case len(made.files) == 0 || made.files[0].role != engine.Output:
		return nil, unusable("It has no output.", nil)
	case len(made.files) == 2:
		return made, nil
	}
	const name = "thumbnail.jpg"
	err := w.Thumbnail(ctx, filepath.Join(out, made.files[0].path), filepath.Join(folder, name))
	switch {
	case engine.ClassOf(err) == engine.BadInput: // the fault is the engine's, not the task's
		return nil, unusable(engine.MessageOf(err), err)
	case err != nil:
		return nil, err
	}
	made.files = append(made.files, madeFile{role: engine.Thumbnail, name: name, folder: folder, path: name})
	return made, nil
}

// look checks a file that an engine says it made.
func look(given engine.File, out string) (madeFile, error) {
	path, err := filepath.Rel(out, given.Path)
	if err != nil || !filepath.IsLocal(path) {
		return madeFile{}, unusable("A file of it does not lie in the folder for results.", err)
	}
	file := madeFile{role: given.Role, name: string(given.Role), folder: out, path: path}
	if end := strings.ToLower(filepath.Ext(path)); extensions.MatchString(end) {
		file.name += end
	}
	root, err := os.OpenRoot(out)
	if err != nil {
		return madeFile{}, fmt.Errorf("looking at a result: %w", err)
	}
	defer root.Close()
	info, err := root.Stat(path)
	switch {
	case err != nil || !info.Mode().IsRegular():
		return madeFile{}, unusable("A file of it is not there, or none.", err)
	case info.Size() == 0:
		return madeFile{}, unusable("A file of it is empty.", nil)
	case info.Size() > engine.MaxOutputBytes:
		return madeFile{}, engine.Errorf(engine.BadInput, "The engine made a file larger than %d GiB: choose a smaller size or fewer frames.", engine.MaxOutputBytes>>30)
	}
	return file, nil
}

// unusable is the error of an engine whose result is of no use. The task is tried again.
func unusable(why string, cause error) error {
	return &engine.Error{Class: engine.EngineDown, Message: "The engine's result cannot be used. " + why, Err: cause}
}
