package objects

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/storage"
	"darkroom/sql/taskdbtest"
)

// FuzzObjectPath sends a user's requests for any address, as it may stand in a request line, and shows that nothing changes but below the user's own
// id, and that nothing of others is read.
func FuzzObjectPath(f *testing.F) {
	ann, ben := uuid.MustParse("11111111-1111-4111-8111-111111111111"), uuid.MustParse("22222222-2222-4222-8222-222222222222")
	for _, path := range []string{
		"/a.png", "/%2e%2e/" + ben.String() + "/secret.png", "/..%2f" + ben.String() + "%2fsecret.png", "/../" + ben.String() + "/secret.png",
		"/..%5c..%5csecret", "/%252e%252e/%252e%252e/outside.png", "//" + ben.String() + "/secret.png", "/a%00.png", "/tasks/x.png", "/%74asks/x.png", "/Tasks/x",
		"/a;b=c/../../x", "/.%2e/outside.png", "/a.png?token=../..", "/link/outside.png", "/link", "/a#/../../b",
	} {
		f.Add("image_uploads/" + ann.String() + path)
		f.Add("image_uploads" + path)
		f.Add("public/image_uploads/" + ann.String() + path)
	}
	f.Add("image_uploads/" + ben.String() + "/secret.png")
	f.Add("sign/image_uploads/" + ben.String() + "/secret.png?token=a.b")

	parent := f.TempDir()
	root := filepath.Join(parent, "media")
	secret := picture(f, 300, 's')
	for _, name := range []string{"outside.png", "media/" + ben.String() + "/secret.png", "media/" + ann.String() + "/tasks/x.png", "media/top.png"} {
		must(f, os.MkdirAll(filepath.Dir(filepath.Join(parent, name)), 0o700))
		must(f, os.WriteFile(filepath.Join(parent, name), secret, 0o600))
	}
	must(f, os.Symlink(parent, filepath.Join(root, ann.String(), "link")))
	bucket, err := storage.Open(f.Context(), "file://"+root)
	must(f, err)
	f.Cleanup(func() { must(f, bucket.Close()) })
	pool := taskdbtest.New(f).Pool
	db, err := identity.New(f.Context(), pool)
	must(f, err)
	door := New(Config{Bucket: bucket, DB: db, Signer: NewSigner(secret), MaxUpload: maxUpload, Log: discardLog})
	e := echo.New()
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			identity.Set(c, identity.Identity{Role: identity.Authenticated, Subject: ann, Claims: json.RawMessage(`{}`)})
			return next(c)
		}
	})
	door.Routes(e)

	f.Fuzz(func(t *testing.T, path string) {
		for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodGet, http.MethodDelete} {
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " /storage/v1/object/" + path + " HTTP/1.1\r\nHost: x\r\n\r\n")))
			if err != nil {
				return
			}
			if method == http.MethodPut || method == http.MethodPost {
				mine := picture(t, 400, 'm')
				r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(mine)), int64(len(mine))
			}
			answer := httptest.NewRecorder()
			e.ServeHTTP(answer, r.WithContext(t.Context()))
			if answer.Code >= http.StatusInternalServerError && answer.Code != http.StatusNotImplemented {
				t.Fatalf("%s %q: %d %s", method, path, answer.Code, answer.Body)
			}
			if method == http.MethodGet && bytes.Contains(answer.Body.Bytes(), secret) && !strings.HasPrefix(path, "public/") &&
				!strings.Contains(path, "image_uploads/"+ann.String()+"/") {
				t.Fatalf("%q shows what is another's", path)
			}
			wantNothingElse(t, parent, filepath.Join(root, ann.String()), secret)
		}
	})
}

// wantNothingElse shows that what lies outside a user's folder, and below its tasks, is as it was.
func wantNothingElse(t *testing.T, parent, own string, secret []byte) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(parent, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.HasPrefix(path, own+"/") && !strings.HasPrefix(path, own+"/tasks/") {
			return err
		}
		seen++
		if content, err := os.ReadFile(path); err != nil || !bytes.Equal(content, secret) {
			t.Errorf("%s was changed: %v", path, err)
		}
		return nil
	})
	if err != nil || seen != 4 {
		t.Fatalf("%d files are outside, %v; want 4", seen, err)
	}
}

var cachingPattern = regexp.MustCompile(`^(no-cache|no-store|max-age=[0-9]{1,8})$`)

// FuzzMultipart shows that whatever comes as a form is read within the limits, and that what is taken out of it is what the door may keep and send on.
func FuzzMultipart(f *testing.F) {
	whole, header := form(f, picture(f, 300, 1), "image/png", "cacheControl", "3600", "metadata", `{"a":1}`)
	f.Add(header, whole.Bytes(), true)
	f.Add(header, whole.Bytes(), false)
	f.Add(header, whole.Bytes()[:200], true)
	f.Add("multipart/form-data", whole.Bytes(), true)
	f.Add("multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n[]\r\n--x--"), false)
	f.Add("multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"\"\r\n\r\nGIF89a\r\n--x\r\nContent-Disposition: form-data; name=\"cacheControl\"\r\n\r\nmax-age=5, x\r\n--x--"), true)
	f.Add("image/png", picture(f, 300, 1), true)
	f.Add("", []byte("GIF89a"), false)
	const most = 4096
	door := &Door{patience: patience{idle: time.Second, start: time.Second, bytesPerSecond: 1}}
	e := echo.New()
	f.Fuzz(func(t *testing.T, contentType string, body []byte, tellLength bool) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		if !tellLength {
			r.ContentLength = -1
		}
		r.Header.Set("Content-Type", contentType)
		in, err := door.receive(e.NewContext(r, httptest.NewRecorder()), most)
		if err == nil {
			err = in.check()
		}
		if err == nil {
			var n int64
			n, err = io.Copy(io.Discard, in.file)
			if n > most+maxFraming || n > int64(len(body)) {
				t.Fatalf("read %d bytes of %d", n, len(body))
			}
			if err == nil && tellLength && (n > in.most && in.most < most || n < in.least) {
				t.Fatalf("%d bytes, promised were %d to %d", n, in.least, in.most)
			}
			if storage.UploadType([]byte("x")) == in.contentType || err == nil && in.contentType == "" {
				t.Fatal("no type")
			}
			_ = in.rest()
		}
		if in == nil {
			return
		}
		var object map[string]any
		if err := json.Unmarshal(in.metadata, &object); err != nil || object == nil || len(in.metadata) > maxFieldBytes {
			t.Fatalf("metadata %q: %v", in.metadata, err)
		}
		if !cachingPattern.MatchString(in.cacheControl) {
			t.Fatalf("caching %q", in.cacheControl)
		}
		if err != nil {
			if _, status := explain(bodyError(err)); status >= http.StatusInternalServerError {
				t.Fatalf("%v answers %d", err, status)
			}
		}
	})
}
