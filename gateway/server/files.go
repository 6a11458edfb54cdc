package server

import (
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/problem"
	"darkroom/gateway/storage"
)

const (
	pathHealth = "/healthz"
	pathReady  = "/readyz"
	pathFiles  = "/storage/v1/object/public/image_uploads/*"
)

// file serves a stored object, whole or a range of it. An object never changes, so it may be kept for as long as one likes.
func (s *Server) file(c echo.Context) error {
	const self = "http://gateway"
	r := c.Request()
	key, ok := storage.KeyFromURL(self, self+r.URL.EscapedPath())
	if !ok {
		return problem.Refuse(problem.NoFile, "")
	}
	object, err := s.bucket.Get(r.Context(), key)
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrKey) {
		return problem.Refuse(problem.NoFile, "")
	}
	if err != nil {
		return err
	}
	defer object.Close()

	header := c.Response().Header()
	header.Set(echo.HeaderContentType, object.ContentType)
	header.Set(echo.HeaderCacheControl, "public, max-age=31536000, immutable")
	header.Set("ETag", object.ETag)
	header.Del("Content-Security-Policy") // a browser's own player is no part of the file
	// Not every writer has deadlines: a test's recorder has none.
	_ = http.NewResponseController(c.Response()).SetWriteDeadline(time.Now().Add(fileTimeout))
	http.ServeContent(&rangeWriter{ResponseWriter: c.Response(), c: c, s: s}, r, "", object.ModTime, object)
	return nil
}

// rangeWriter gives the answer to a range that can't be served our shape of errors.
type rangeWriter struct {
	http.ResponseWriter

	c       echo.Context
	s       *Server
	refused bool
}

// WriteHeader passes a status on, or answers the error.
func (w *rangeWriter) WriteHeader(status int) {
	if w.refused = status == http.StatusRequestedRangeNotSatisfiable; w.refused {
		w.Header().Set(echo.HeaderCacheControl, "no-store")
		w.s.answerError(problem.Refuse(problem.Range, ""), w.c)
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write passes the file on, and drops the words of an answer that was replaced.
func (w *rangeWriter) Write(data []byte) (int, error) {
	if w.refused {
		return len(data), nil
	}
	return w.ResponseWriter.Write(data) //nolint:wrapcheck // net/http reads it as it is
}
