package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// kinds are the media types of what a build makes, so that no table of the machine decides.
var kinds = map[string]string{
	".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".json": "application/json",
	".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".avif": "image/avif", ".ico": "image/x-icon",
	".woff2": "font/woff2", ".webmanifest": "application/manifest+json",
}

// file is one of the embedded files, ready to be sent.
type file struct {
	name, kind string
	tag        string // names the content
	plain      []byte
	packed     []byte // by gzip; nil where that gains nothing
}

func readFile(files fs.FS, name string) (*file, error) {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, fmt.Errorf("reading the console: %w", err)
	}
	hash := sha256.Sum256(content)
	f := &file{name: name, kind: kinds[path.Ext(name)], tag: hex.EncodeToString(hash[:12]), plain: content}
	if f.kind == "" {
		return nil, fmt.Errorf("the console has a file %s, whose media type is not known here", name)
	}
	if packed := pack(content); len(packed) < len(content)*9/10 {
		f.packed = packed
	}
	return f, nil
}

func pack(content []byte) []byte {
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is one that there is
	_, _ = w.Write(content)                                    // a buffer takes everything
	_ = w.Close()
	return packed.Bytes()
}

// serve sends the file, or 304 to who has it. The caller sets how long it is kept.
func (f *file) serve(c echo.Context) {
	header, content, tag := c.Response().Header(), f.plain, f.tag
	header.Set("Content-Type", f.kind)
	if f.packed != nil {
		header.Add("Vary", "Accept-Encoding")
		if takesGzip(c.Request()) {
			header.Set("Content-Encoding", "gzip")
			content, tag = f.packed, f.tag+"-gzip"
		}
	}
	header.Set("ETag", strconv.Quote(tag))
	http.ServeContent(c.Response(), c.Request(), f.name, time.Time{}, bytes.NewReader(content))
}

// takesGzip reports whether the client reads gzip.
func takesGzip(r *http.Request) bool {
	for accepted := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		coding, params, err := mime.ParseMediaType(strings.TrimSpace(accepted))
		if err == nil && coding == "gzip" {
			quality, err := strconv.ParseFloat(params["q"], 64)
			return params["q"] == "" || err == nil && quality > 0
		}
	}
	return false
}
