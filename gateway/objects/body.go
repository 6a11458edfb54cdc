package objects

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/storage"
)

const (
	maxFieldBytes = 16 << 10 // of cacheControl and metadata
	maxFields     = 16
	maxFraming    = 64 << 10 // what a form may have beside its file

	headBytes = 512
)

// incoming is a file on its way in, with what its sender says of it.
type incoming struct {
	file        io.Reader
	least, most int64 // bytes that it may have, by the headers
	about

	line line // where it comes from

	rest func() error // reads what of a form comes after the file
}

// receive reads a request up to its file: a raw body, or the form that storage-js sends for a Blob. More than most bytes are refused at once where the
// headers tell.
func (d *Door) receive(c echo.Context, most int64) (*incoming, error) {
	r := c.Request()
	mediaType, parameters, err := mime.ParseMediaType(r.Header.Get(echo.HeaderContentType))
	form := err == nil && mediaType == echo.MIMEMultipartForm
	framing := int64(0)
	if form {
		framing = maxFraming
	}
	if r.ContentLength > most+framing {
		return nil, errTooLarge.because("At most %d bytes.", most)
	}
	total := most + framing
	if r.ContentLength >= 0 {
		total = r.ContentLength
	}
	// The server's own limit of time is for small bodies.
	slow := &patientReader{from: r.Body, deadlines: http.NewResponseController(c.Response()), idle: d.patience.idle, end: time.Now().Add(d.patience.deadline(total))}
	_ = slow.deadlines.SetWriteDeadline(slow.end.Add(callTimeout))
	whole := http.MaxBytesReader(c.Response(), io.NopCloser(slow), most+framing+1)

	in := &incoming{about: about{cacheControl: cacheDefault, metadata: json.RawMessage("{}")}, least: 1, most: most, rest: func() error { return nil }}
	if form {
		if r.ContentLength >= 0 {
			in.least, in.most = max(r.ContentLength-maxFraming, 1), min(r.ContentLength, most)
		}
		return in, in.readForm(multipart.NewReader(whole, parameters["boundary"]))
	}
	if r.ContentLength >= 0 {
		in.least, in.most = r.ContentLength, r.ContentLength
	}
	in.line.from, in.file = whole, &in.line
	in.contentType = r.Header.Get(echo.HeaderContentType)
	if caching := r.Header.Get(echo.HeaderCacheControl); caching != "" {
		in.cacheControl = cachingOf(caching)
	}
	if said := r.Header.Get("X-Metadata"); said != "" {
		text, err := base64.StdEncoding.DecodeString(said)
		if err != nil || len(text) > maxFieldBytes {
			return nil, errRequest.because("x-metadata must be a JSON object of up to %d bytes in base64.", maxFieldBytes)
		}
		return in, in.setMetadata(text)
	}
	return in, nil
}

// readForm reads the fields before the file, and opens that.
func (in *incoming) readForm(form *multipart.Reader) error {
	fields := 0
	next := func() (*multipart.Part, error) {
		for ; fields < maxFields; fields++ {
			part, err := form.NextRawPart()
			if err != nil {
				return nil, err //nolint:wrapcheck // io.EOF, or said by the caller
			}
			if part.FormName() == "" || part.FileName() != "" {
				return part, nil
			}
			if err := in.readField(part); err != nil {
				return nil, err
			}
		}
		return nil, errRequest.because("The form has too many fields.")
	}
	file, err := next()
	switch {
	case errors.Is(err, io.EOF):
		return errRequest.because("The form has no file.")
	case err != nil:
		return bodyError(err)
	}
	in.line.from, in.file = file, &in.line
	in.contentType = file.Header.Get(echo.HeaderContentType)
	in.rest = func() error {
		switch _, err := next(); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return bodyError(err)
		}
		return errRequest.because("The form has more than one file.")
	}
	return nil
}

func (in *incoming) readField(part *multipart.Part) error {
	text, err := io.ReadAll(io.LimitReader(part, maxFieldBytes+1))
	switch {
	case err != nil:
		return err //nolint:wrapcheck // said by the caller
	case len(text) > maxFieldBytes:
		return errRequest.because("A field of the form has more than %d bytes.", maxFieldBytes)
	}
	switch part.FormName() {
	case "cacheControl":
		in.cacheControl = cachingOf(string(text))
	case "metadata":
		return in.setMetadata(text)
	}
	return nil
}

func (in *incoming) setMetadata(text []byte) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return errRequest.because("metadata must be a JSON object.")
	}
	if object != nil {
		in.metadata = text
	}
	return nil
}

// check refuses a file whose first bytes are of no type that may be stored, or of another than its sender says.
func (in *incoming) check() error {
	head := make([]byte, headBytes)
	n, err := io.ReadFull(in.file, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return bodyError(err)
	}
	head = head[:n]
	in.file = io.MultiReader(bytes.NewReader(head), in.file)
	is := storage.UploadType(head)
	switch said := declared(in.contentType); {
	case is == "":
		return errType.because(allowedTypes)
	case said != "" && said != is && !alike(said, is):
		return errType.because("The file is declared as %.50q, and is %s.", said, is)
	}
	in.contentType = is
	return nil
}

// declared is what the sender says that his file is; "" where he says nothing: application/octet-stream, and what storage-js sends unless told otherwise.
func declared(contentType string) string {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return ""
	}
	switch mediaType {
	case "application/octet-stream", "text/plain", "binary/octet-stream", "application/x-www-form-urlencoded":
		return ""
	case "image/jpg", "image/pjpeg":
		return "image/jpeg"
	case "audio/mp3", "audio/x-mp3", "audio/mpeg3":
		return "audio/mpeg"
	case "audio/wave", "audio/x-wav", "audio/vnd.wave", "audio/x-pn-wav":
		return "audio/wav"
	}
	return mediaType
}

// alike says of containers whether they pass for each other: programs tell them by the ending of the name.
func alike(said, is string) bool {
	switch is {
	case "video/mp4", "video/quicktime":
		switch said {
		case "video/mp4", "video/quicktime", "video/x-m4v", "audio/mp4", "audio/x-m4a", "audio/m4a":
			return true
		}
	case "video/webm":
		return said == "audio/webm"
	}
	return false
}

var maxAgePattern = regexp.MustCompile(`^(?:(?:public|private)\s*,\s*)?(?:max-age=)?([0-9]{1,8})$`)

// cachingOf reads what a sender says of caching, and takes what it does not know for the default.
func cachingOf(said string) string {
	said = strings.ToLower(strings.TrimSpace(said))
	if said == "no-cache" || said == "no-store" {
		return said
	}
	if age := maxAgePattern.FindStringSubmatch(said); age != nil {
		if seconds, err := strconv.Atoi(age[1]); err == nil {
			return "max-age=" + strconv.Itoa(min(seconds, 365*24*3600))
		}
	}
	return cacheDefault
}

// bodyError is the answer to a body that could not be read.
func bodyError(err error) error {
	if _, known := errors.AsType[*refusal](err); known {
		return err
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return errTooLarge
	}
	return errRequest.because("The body did not arrive whole.")
}

// line reads a file from a client, and remembers what went wrong on the way: with the line the request's context ends too, and hides it.
type line struct {
	from   io.Reader
	broken error
}

// Read implements [io.Reader].
func (l *line) Read(into []byte) (int, error) {
	n, err := l.from.Read(into)
	if err != nil && !errors.Is(err, io.EOF) {
		l.broken = err
	}
	return n, err
}

// patientReader reads a body, and gives up when nothing more comes or the whole takes too long.
type patientReader struct {
	from      io.Reader
	deadlines *http.ResponseController
	idle      time.Duration
	end       time.Time
}

// Read implements [io.Reader].
func (p *patientReader) Read(into []byte) (int, error) {
	until := time.Now().Add(p.idle)
	if until.After(p.end) {
		until = p.end
	}
	_ = p.deadlines.SetReadDeadline(until) // not every connection has deadlines: a test's recorder has none
	return p.from.Read(into)
}
