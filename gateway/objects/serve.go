package objects

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
	"darkroom/gateway/storage"
)

const (
	cacheForEver = "max-age=31536000, immutable" // of a task's output, which never changes
	cacheDefault = "max-age=3600"                // of an upload, which may be replaced
)

// public serves a file to everybody.
func (d *Door) public(c echo.Context) error {
	key, err := keyOf(c, "/object/public")
	if err != nil {
		return problem.Refuse(problem.NoFile, "")
	}
	row := known{}
	if ctx := c.Request().Context(); !storage.OfTask(key) {
		rows, err := d.describe(ctx, key)
		if row = rows[key]; err != nil { // files are served all the same
			d.log.WarnContext(ctx, "caching of an upload", "error", err)
			row.cacheControl = "no-cache"
		}
	}
	return d.serve(c, key, "public, "+cachingFor(key, row))
}

// cachingFor is what the one who uploaded a file asked for.
func cachingFor(key string, row known) string {
	switch {
	case storage.OfTask(key):
		return cacheForEver
	case row.cacheControl != "":
		return row.cacheControl
	}
	return cacheDefault
}

// signed serves a file to whoever has its token.
func (d *Door) signed(c echo.Context) error {
	key, err := keyOf(c, "/object/sign")
	if err != nil {
		return problem.Refuse(problem.NoFile, "")
	}
	g, err := d.signer.check(c.QueryParam("token"), http.MethodGet, key)
	if err != nil {
		return err
	}
	left := min(g.Expires-time.Now().Unix(), 3600)
	return d.serve(c, key, fmt.Sprintf("private, max-age=%d", max(left, 0)))
}

// download serves a file to its owner and to the service.
func (d *Door) download(c echo.Context) error {
	key, err := d.readable(c, "/object/authenticated", "/object")
	if err != nil {
		return err
	}
	return d.serve(c, key, "private, no-cache")
}

// readable returns the key of the address if the caller may read what is there. What he may not read does not exist for him.
func (d *Door) readable(c echo.Context, routes ...string) (key string, err error) {
	for _, route := range routes {
		if key, err = keyOf(c, route); !errors.Is(err, errNoBucket) {
			break
		}
	}
	switch {
	case errors.Is(err, storage.ErrKey), err == nil && !mayRead(identity.Of(c), key):
		return "", errNoObject
	}
	return key, err
}

// serve sends a stored object, whole or a range of it.
func (d *Door) serve(c echo.Context, key, caching string) error {
	r := c.Request()
	object, err := d.bucket.Get(r.Context(), key)
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrKey) {
		if strings.HasPrefix(caching, "public") {
			return problem.Refuse(problem.NoFile, "")
		}
		return errNoObject
	}
	if err != nil {
		return err
	}
	defer object.Close()

	header := c.Response().Header()
	header.Set(echo.HeaderContentType, object.ContentType)
	header.Set(echo.HeaderCacheControl, caching)
	header.Set(echo.HeaderXContentTypeOptions, "nosniff")
	header.Set("ETag", object.ETag)
	header.Del("Content-Security-Policy") // a browser's own player is no part of the file
	if disposition := disposition(c, object.ContentType); disposition != "" {
		header.Set(echo.HeaderContentDisposition, disposition)
	}
	// Not every writer has deadlines: a test's recorder has none.
	_ = http.NewResponseController(c.Response()).SetWriteDeadline(time.Now().Add(fileTimeout))
	http.ServeContent(&rangeWriter{ResponseWriter: c.Response(), c: c, d: d}, r, "", object.ModTime, object)
	return nil
}

// disposition has browsers save what they were asked to save (?download=name), and what is neither picture, video nor sound.
func disposition(c echo.Context, contentType string) string {
	query := c.QueryParams()
	kind, _, _ := strings.Cut(contentType, "/")
	if !query.Has("download") && (kind == "image" || kind == "video" || kind == "audio") {
		return ""
	}
	if name := query.Get("download"); name != "" && len(name) <= 255 {
		if named := mime.FormatMediaType("attachment", map[string]string{"filename": name}); named != "" {
			return named
		}
	}
	return "attachment"
}

// rangeWriter gives the answer to a range that can't be served our shape of errors.
type rangeWriter struct {
	http.ResponseWriter

	c       echo.Context
	d       *Door
	refused bool
}

// WriteHeader passes a status on, or answers the error.
func (w *rangeWriter) WriteHeader(status int) {
	if w.refused = status == http.StatusRequestedRangeNotSatisfiable; w.refused {
		w.Header().Del(echo.HeaderContentDisposition)
		w.d.answerError(w.c, problem.Refuse(problem.Range, ""), true)
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

// info describes an object.
func (d *Door) info(c echo.Context) error {
	key, err := d.readable(c, "/object/info")
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	info, err := d.bucket.Stat(ctx, key)
	if err != nil {
		return err
	}
	rows, err := d.describe(ctx, key)
	if err != nil {
		return err
	}
	row, found := rows[key]
	if !found {
		row.created = info.ModTime
	}
	return c.JSON(http.StatusOK, map[string]any{
		"id": idOf(key), "version": strings.Trim(info.ETag, `"`), "name": key, "bucket_id": bucketName, "created_at": row.created,
		"size": info.Size, "cache_control": cachingFor(key, row), "content_type": info.ContentType, "etag": info.ETag, "last_modified": info.ModTime,
		"metadata": row.metadata,
	})
}

// idOf is an object's id: always the same for the same key.
func idOf(key string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte(bucketName+"/"+key)) }

// sign makes the address of one object, relative to /storage/v1.
func (d *Door) sign(c echo.Context) error {
	key, err := d.readable(c, "/object/sign")
	if err != nil {
		return err
	}
	ask, err := decode[struct {
		ExpiresIn float64        `json:"expiresIn"` //nolint:tagliatelle // Supabase's
		Transform map[string]any `json:"transform"`
	}](c)
	if err != nil {
		return err
	}
	if len(ask.Transform) > 0 {
		return problem.Refuse(problem.NotOffered, "Pictures are not transformed.")
	}
	expires, err := signedFor(ask.ExpiresIn)
	if err != nil {
		return err
	}
	if _, err := d.bucket.Stat(c.Request().Context(), key); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]string{"signedURL": d.signedPath(key, expires)})
}

// signMany makes addresses of up to 1,000 objects.
func (d *Door) signMany(c echo.Context) error {
	if err := inBucket(c.Param("bucket")); err != nil {
		return err
	}
	ask, err := decode[struct {
		ExpiresIn float64  `json:"expiresIn"` //nolint:tagliatelle // Supabase's
		Paths     []string `json:"paths"`
	}](c)
	if err != nil {
		return err
	}
	expires, err := signedFor(ask.ExpiresIn)
	if err != nil {
		return err
	}
	if len(ask.Paths) > maxMany {
		return errRequest.because("At most %d paths at once.", maxMany)
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), callTimeout)
	defer cancel()
	type signed struct {
		Error     *string `json:"error"`
		Path      string  `json:"path"`
		SignedURL *string `json:"signedURL"` //nolint:tagliatelle // Supabase's
	}
	answer := []signed{}
	for _, key := range ask.Paths {
		one := signed{Path: key}
		err := error(errNoObject)
		if mayRead(identity.Of(c), key) {
			_, err = d.bucket.Stat(ctx, key)
		}
		switch {
		case errors.Is(err, errNoObject), errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrKey):
			text := "Either the object does not exist or you do not have access to it"
			one.Error = &text
		case err != nil:
			return err
		default:
			path := d.signedPath(key, expires)
			one.SignedURL = &path
		}
		answer = append(answer, one)
	}
	return c.JSON(http.StatusOK, answer)
}

// signedFor reads how long an address is to work.
func signedFor(seconds float64) (time.Duration, error) {
	const year = 366 * 24 * 3600
	if !(seconds >= 1 && seconds <= year) {
		return 0, errRequest.because("expiresIn must be a number of seconds, from 1 to %s.", strconv.Itoa(year))
	}
	return time.Duration(seconds) * time.Second, nil
}

// signedPath is not escaped: storage-js does that.
func (d *Door) signedPath(key string, expires time.Duration) string {
	return pathSigned + key + "?token=" + d.signer.sign(grant{Method: http.MethodGet, Key: key, Expires: time.Now().Add(expires).Unix()})
}
