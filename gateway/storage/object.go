package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
)

// Object is an object open for reading. The caller closes it.
type Object struct {
	io.ReadSeekCloser
	Info
}

// remote reads an object of a cloud from where it was last sought, and asks for nothing before it is read: whoever wants a range asks for that alone.
type remote struct {
	ctx    context.Context //nolint:containedctx // of the call that opened it, as io.Reader has none
	blob   *blob.Bucket
	key    string
	size   int64
	offset int64         // where the next Read begins
	open   io.ReadCloser // stands at the offset; nil when it is to be asked for
}

// Read implements [io.Reader].
func (r *remote) Read(p []byte) (int, error) {
	if r.offset >= r.size {
		return 0, io.EOF
	}
	if r.open == nil {
		open, err := r.blob.NewRangeReader(r.ctx, r.key, r.offset, -1, &blob.ReaderOptions{BeforeRead: quietly})
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", r.key, readError(err))
		}
		r.open = open
	}
	n, err := r.open.Read(p)
	r.offset += int64(n)
	switch {
	case errors.Is(err, io.EOF) && r.offset < r.size:
		return n, fmt.Errorf("read %s: %w", r.key, io.ErrUnexpectedEOF)
	case err != nil && !errors.Is(err, io.EOF):
		return n, fmt.Errorf("read %s: %w", r.key, readError(err))
	}
	return n, err //nolint:wrapcheck // io.EOF or nil
}

// Seek implements [io.Seeker].
func (r *remote) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("read %s: the offset %d lies before its start", r.key, offset)
	}
	if offset != r.offset {
		_ = r.Close() // what was asked for is not wanted any more
	}
	r.offset = offset
	return offset, nil
}

// Close implements [io.Closer].
func (r *remote) Close() error {
	if r.open == nil {
		return nil
	}
	open := r.open
	r.open = nil
	return open.Close() //nolint:wrapcheck // nobody acts on it
}

// quietly keeps S3's library from writing to stderr that it has no checksum of an object that was stored in parts.
func quietly(as func(any) bool) error {
	var options *[]func(*s3.Options)
	if as(&options) {
		*options = append(*options, func(o *s3.Options) { o.DisableLogOutputChecksumValidationSkipped = true })
	}
	return nil
}

// source is a file on its way into a bucket. It fails when there is more of it than allowed, and when its context ends.
type source struct {
	ctx    context.Context //nolint:containedctx // of the call that made it, as io.Reader has none
	r      io.Reader
	left   int64  // bytes that are allowed yet
	failed func() // called before the error is returned
	err    error  // the first but io.EOF
}

// Read implements [io.Reader].
func (s *source) Read(p []byte) (n int, err error) {
	if s.err == nil {
		n, err = s.r.Read(p[:min(int64(len(p)), s.left+1)])
		s.left -= int64(n)
		switch {
		case s.ctx.Err() != nil:
			s.err = s.ctx.Err()
		case s.left < 0:
			s.err = ErrTooLarge
		case err != nil && !errors.Is(err, io.EOF):
			s.err = err
		default:
			return n, err //nolint:wrapcheck // io.EOF or nil
		}
		s.failed()
	}
	return 0, s.err
}

// signaturePattern finds what in a request's address would open the storage to a reader of logs.
var signaturePattern = regexp.MustCompile(`(?i)([?&](?:sig|[a-z-]*signature|[a-z-]*credential)=)[^&\s"']+`)

// discreetError hides signatures in the text of an error.
type discreetError struct{ error }

// Error implements [error].
func (e discreetError) Error() string {
	return signaturePattern.ReplaceAllString(e.error.Error(), "${1}hidden")
}

// Unwrap gives the error as it was.
func (e discreetError) Unwrap() error { return e.error }

// discreet returns the error with a text that may be logged.
func discreet(err error) error {
	if err == nil {
		return nil
	}
	return discreetError{err}
}
