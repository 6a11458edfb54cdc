package exec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine"
)

// maxMessage is the longest message of the child that the owner of a task sees, in characters.
const maxMessage = 300

// collect checks the files of a result. The child is trusted with the machine, but not to name the right file: what it names
// is published.
func collect(outDir string, m message) (engine.Result, error) {
	root, err := os.OpenRoot(outDir)
	if err != nil {
		return engine.Result{}, &engine.Error{Class: engine.EngineDown, Message: "The worker cannot read what the engine made.", Err: err}
	}
	defer root.Close()
	result := engine.Result{Metadata: m.Metadata}
	for _, named := range m.Files {
		role := named.Role
		if role == "" {
			role = engine.Output
		}
		if role != engine.Output && role != engine.Thumbnail {
			return engine.Result{}, wrong("The engine made a file of an unknown role.", fmt.Errorf("role %q", role))
		}
		if _, twice := result.File(role); twice {
			return engine.Result{}, wrong("The engine made more than one file where one is wanted.", fmt.Errorf("a second %s", role))
		}
		name, mediaType, err := inspect(root, outDir, named.Path)
		if err != nil {
			return engine.Result{}, err
		}
		if role == engine.Thumbnail && mediaType != "image/jpeg" {
			return engine.Result{}, wrong("The engine made a thumbnail that is no JPEG.", errors.New(mediaType))
		}
		result.Files = append(result.Files, engine.File{Path: filepath.Join(outDir, name), MediaType: mediaType, Role: role})
	}
	if _, ok := result.File(engine.Output); !ok {
		return engine.Result{}, wrong("The engine said that it is done, but named no output.", nil)
	}
	return result, nil
}

// inspect checks a file that the child names, and returns its name within the output folder and its media type.
func inspect(root *os.Root, outDir, path string) (name, mediaType string, err error) {
	name = path
	if filepath.IsAbs(path) {
		if name, err = filepath.Rel(outDir, path); err != nil {
			return "", "", wrong("The engine named a file that lies outside its output folder.", err)
		}
	}
	if name = filepath.Clean(name); !filepath.IsLocal(name) {
		return "", "", wrong("The engine named a file that lies outside its output folder.", errors.New(path))
	}
	// No part of the path may be a link, so that the file is here, and stays what was checked.
	var info fs.FileInfo
	for end := range len(name) + 1 {
		if end != len(name) && name[end] != filepath.Separator {
			continue
		}
		if info, err = root.Lstat(name[:end]); err != nil {
			return "", "", wrong("The engine named a file that is not there.", err)
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return "", "", wrong("The engine named a link instead of a file.", errors.New(path))
		}
	}
	switch {
	case !info.Mode().IsRegular():
		return "", "", wrong("The engine named something that is no file.", errors.New(path))
	case info.Size() == 0:
		return "", "", wrong("The engine made an empty file.", errors.New(path))
	case info.Size() > engine.MaxOutputBytes:
		return "", "", wrong("The engine made a file larger than 4 GiB.", fmt.Errorf("%s has %d bytes", path, info.Size()))
	}
	opened, err := root.Open(name)
	if err != nil {
		return "", "", wrong("The worker cannot read what the engine made.", err)
	}
	defer opened.Close()
	head := make([]byte, 512)
	n, err := io.ReadFull(opened, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", "", wrong("The worker cannot read what the engine made.", err)
	}
	switch mediaType = storage.MediaType(head[:n]); mediaType {
	case "image/png", "image/jpeg", "image/webp", "video/mp4", "video/webm":
		return name, mediaType, nil
	}
	return "", "", wrong("The engine made a file that is neither a PNG, JPEG or WebP picture nor an MP4 or WebM video.", errors.New(path))
}

// wrong is the failure of a child that says it is done and is not.
func wrong(text string, err error) error {
	return &engine.Error{Class: engine.EngineDown, Message: text, Err: err}
}

// localPath finds names of local files, which exceptions like to quote.
var localPath = regexp.MustCompile(`(^|[\s"'(\[=:])/[^\s"')\]/][^\s"')\]]*`)

// failure turns the error message of the child into an error.
func failure(task engine.Task, m message) error {
	text := plain(m.Message, maxMessage)
	for _, in := range task.Inputs {
		text = strings.ReplaceAll(text, in.Path, "the input "+string(in.Role))
	}
	text = localPath.ReplaceAllString(text, "${1}a file")
	if text == "" {
		text = "The engine's program failed; the operator finds the reason in the worker's log."
	}
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	class := engine.EngineDown
	switch engine.Class(m.Code) {
	case engine.BadInput, engine.OutOfMem, engine.Timeout:
		class = engine.Class(m.Code)
	case engine.Cancelled:
		text = "The engine's program gave the task up, though nobody had cancelled it."
	case engine.EngineDown:
	default:
		if m.Retryable != nil && !*m.Retryable {
			class = engine.BadInput
		}
	}
	return &engine.Error{Class: class, Message: text, Err: fmt.Errorf("the engine's program says %q", m.Code)}
}

// plain makes one line of at most limit characters of any text.
func plain(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > limit {
		text = string(runes[:limit-1]) + "…"
	}
	return text
}
