// Package fetch brings the inputs of a task into a local folder, so that engines see plain files only.
//
// An input is named by its creator, whom nobody trusts: as the key of an uploaded file, as an address in our own
// storage, or as an https address anywhere on the internet. What comes is limited in size, in time and in pixels, its
// type is read from its bytes, and neither its address nor any redirect may lead into a private network.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/image/webp"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine"
)

const (
	// MaxBytes is the most that is read from an https address. Files in storage had their limit when they were stored.
	MaxBytes = 64 << 20
	// MaxPixels is the most that an image may have, checked before anything decodes it.
	MaxPixels = 33_000_000
	// Timeout is the longest that one input may take.
	Timeout = 2 * time.Minute

	maxReferenceBytes = 4096
)

// Kind says what an input may be. Kinds are combined with "|".
type Kind uint8

// Kinds of inputs.
const (
	Image Kind = 1 << iota // PNG, JPEG, WebP
	Video                  // MP4, WebM, QuickTime
)

// String says the kind in words that fit after "must be".
func (k Kind) String() string {
	switch k {
	case Image:
		return "a PNG, JPEG or WebP image"
	case Video:
		return "an MP4, WebM or QuickTime video"
	default:
		return "a PNG, JPEG or WebP image, or an MP4, WebM or QuickTime video"
	}
}

// File is a fetched input.
type File struct {
	// Path lies in the folder given to [Fetcher.Fetch]. No part of its name comes from outside.
	Path string
	// MediaType is read from the bytes.
	MediaType string
	// Size is in bytes.
	Size int64
}

// Fetcher fetches inputs. It is safe for concurrent use.
type Fetcher struct {
	bucket    *storage.Bucket
	publicURL string
	client    *http.Client
	maxBytes  int64
	timeout   time.Duration
}

// New makes a fetcher that reads our own files from the bucket. The public URL is the base of our storage addresses,
// see [storage.URL]. Proxies named in the environment are not used: behind one, no address could be checked.
func New(bucket *storage.Bucket, publicURL string) *Fetcher {
	return &Fetcher{
		bucket: bucket, publicURL: publicURL, client: newClient(publicOnly(), nil, nil),
		maxBytes: MaxBytes, timeout: Timeout,
	}
}

// Fetch writes the input that the reference names into a new file in the folder. A file in storage must be the
// owner's. Every error wraps an [*engine.Error]: bad_input when the task can never succeed with this reference,
// engine_down when another try may, and what [engine.Stopped] says when ctx ended.
func (f *Fetcher) Fetch(ctx context.Context, reference string, owner uuid.UUID, folder string, kind Kind) (File, error) {
	limited, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	file, err := f.fetch(limited, reference, owner, folder, kind)
	if err == nil {
		return file, nil
	}
	if stopped := engine.Stopped(ctx); stopped != nil {
		return File{}, stopped
	}
	if limited.Err() != nil {
		return File{}, down(fmt.Sprintf("An input did not arrive within %s.", f.timeout), err)
	}
	return File{}, err
}

func (f *Fetcher) fetch(ctx context.Context, reference string, owner uuid.UUID, folder string, kind Kind) (File, error) {
	source, err := f.open(ctx, reference, owner)
	if err != nil {
		return File{}, err
	}
	defer source.Close()
	return source.save(ctx, folder, kind)
}

// source is an input that is being read.
type source struct {
	io.ReadCloser

	label    string // names it in messages: a host or a key, never a query, which may hold a secret
	maxBytes int64
}

func (f *Fetcher) open(ctx context.Context, reference string, owner uuid.UUID) (*source, error) {
	if len(reference) > maxReferenceBytes {
		return nil, engine.Errorf(engine.BadInput, "The address of an input has more than %d characters.", maxReferenceBytes)
	}
	if key, ok := storage.KeyFromURL(f.publicURL, reference); ok {
		return f.openKey(ctx, key, owner)
	}
	u, err := url.Parse(reference)
	switch {
	case err != nil:
		return nil, errReference(nil) // the parser's error quotes the whole address, and a query may hold a secret
	case strings.EqualFold(u.Scheme, "https"):
		return f.openURL(ctx, u)
	case u.Scheme != "":
		return nil, errReference(nil)
	}
	return f.openKey(ctx, reference, owner)
}

func errReference(cause error) error {
	return &engine.Error{
		Class:   engine.BadInput,
		Message: "An input must be an https address, an address in this storage, or the key of an uploaded file.",
		Err:     cause,
	}
}

// openKey reads from the bucket. Another owner's file and one that doesn't exist get the same answer.
func (f *Fetcher) openKey(ctx context.Context, key string, owner uuid.UUID) (*source, error) {
	if _, err := storage.CleanKey(key); err != nil {
		return nil, errReference(err)
	}
	if !strings.HasPrefix(key, owner.String()+"/") {
		return nil, errNoFile(key, nil)
	}
	object, err := f.bucket.Get(ctx, key)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, errNoFile(key, err)
	case err != nil:
		return nil, down("The storage could not be read; the task will be tried again.", err)
	}
	return &source{ReadCloser: object, label: key, maxBytes: math.MaxInt64 - 1}, nil
}

func errNoFile(key string, cause error) error {
	return &engine.Error{
		Class: engine.BadInput, Message: fmt.Sprintf("You have no file %q in storage; upload it first.", key), Err: cause,
	}
}

// save writes the input into a new file and checks what it is. Of a refused input nothing stays.
func (s *source) save(ctx context.Context, folder string, kind Kind) (file File, err error) {
	f, err := os.CreateTemp(folder, "input-*")
	if err != nil {
		return File{}, down("The worker has no place for the inputs.", err)
	}
	defer func() {
		if closed := f.Close(); closed != nil && err == nil {
			err = down("The worker has no place for the inputs.", closed)
		}
		if err != nil {
			file = File{}
			_ = os.Remove(f.Name())
		}
	}()

	size, err := io.Copy(f, io.LimitReader(s, s.maxBytes+1))
	if err == nil {
		err = ctx.Err() // a server that notices that we hang up may end its body properly before the connection is gone
	}
	if err != nil {
		return File{}, down(fmt.Sprintf("The input at %q broke off; the task will be tried again.", s.label), err)
	}
	if size > s.maxBytes {
		return File{}, s.errTooLarge()
	}
	mediaType, err := s.check(f, kind)
	if err != nil {
		return File{}, err
	}
	named := f.Name() + extension(mediaType)
	if err := os.Rename(f.Name(), named); err != nil {
		return File{}, down("The worker has no place for the inputs.", err)
	}
	return File{Path: named, MediaType: mediaType, Size: size}, nil
}

func (s *source) errTooLarge() error {
	return engine.Errorf(engine.BadInput, "The input at %q is too large: at most %d MB can be fetched.", s.label, s.maxBytes>>20)
}

// check returns the media type of what was saved, when it is of the kind asked for and an image within [MaxPixels].
func (s *source) check(f io.ReaderAt, kind Kind) (string, error) {
	head := make([]byte, 512)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", down("The worker could not read the input it saved.", err)
	}
	mediaType := storage.MediaType(head[:n])
	if kindOf(mediaType)&kind == 0 {
		return "", engine.Errorf(engine.BadInput, "The input at %q must be %s.", s.label, kind)
	}
	decode := map[string]func(io.Reader) (image.Config, error){
		"image/png": png.DecodeConfig, "image/jpeg": jpeg.DecodeConfig, "image/webp": webp.DecodeConfig,
	}[mediaType]
	if decode == nil {
		return mediaType, nil
	}
	config, err := decode(io.NewSectionReader(f, 0, math.MaxInt64))
	if err != nil {
		return "", &engine.Error{Class: engine.BadInput, Message: fmt.Sprintf("The image at %q is damaged.", s.label), Err: err}
	}
	if int64(config.Width)*int64(config.Height) > MaxPixels {
		return "", engine.Errorf(engine.BadInput, "The image at %q has %d x %d pixels; at most %d million can be used.",
			s.label, config.Width, config.Height, MaxPixels/1_000_000)
	}
	return mediaType, nil
}

func kindOf(mediaType string) Kind {
	switch {
	case strings.HasPrefix(mediaType, "image/"):
		return Image
	case strings.HasPrefix(mediaType, "video/"):
		return Video
	}
	return 0
}

// extension returns the file name ending that other programs know a media type by.
func extension(mediaType string) string {
	switch mediaType {
	case "image/jpeg":
		return ".jpg"
	case "video/quicktime":
		return ".mov"
	}
	return "." + filepath.Base(mediaType)
}

// down makes an error that another try may not meet.
func down(message string, cause error) error {
	return &engine.Error{Class: engine.EngineDown, Message: message, Err: cause}
}
