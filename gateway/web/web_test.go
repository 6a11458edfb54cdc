package web

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
)

// setup is a server of the console alone.
func setup(t *testing.T, config Config) *echo.Echo {
	t.Helper()
	door, err := New(config)
	must(t, err)
	e := echo.New()
	door.Routes(e)
	return e
}

// get asks for an address; pairs are headers.
func get(e *echo.Echo, path string, pairs ...string) *httptest.ResponseRecorder {
	return do(e, http.MethodGet, path, pairs...)
}

func do(e *echo.Echo, method, path string, pairs ...string) *httptest.ResponseRecorder {
	r, w := httptest.NewRequest(method, path, http.NoBody), httptest.NewRecorder()
	for i := 0; i < len(pairs); i += 2 {
		r.Header.Set(pairs[i], pairs[i+1])
	}
	e.ServeHTTP(w, r)
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// assets are the addresses of the built files.
func assets(t *testing.T) []string {
	t.Helper()
	files, err := fs.Glob(dist, "console/dist/assets/*")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("nothing was built: run `make web`")
	}
	for i, file := range files {
		files[i] = strings.TrimPrefix(file, "console/dist")
	}
	return files
}

func TestThePageNamesFilesThatAreThere(t *testing.T) {
	t.Parallel()
	e := setup(t, Config{})
	for _, path := range []string{"/", "/p/", "/p/some-project/shots/some-shot"} {
		got := get(e, path)
		if got.Code != http.StatusOK || got.Header().Get("Content-Type") != "text/html; charset=utf-8" || got.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %d %v", path, got.Code, got.Header())
		}
		named := regexp.MustCompile(`(?:src|href)="(/[^"]*)"`).FindAllStringSubmatch(got.Body.String(), -1)
		if len(named) == 0 {
			t.Errorf("%s names no file:\n%s", path, got.Body)
		}
		for _, name := range named {
			if got := get(e, name[1]); got.Code != http.StatusOK {
				t.Errorf("%s names %s: %d", path, name[1], got.Code)
			}
		}
	}
}

func TestAssetsAreKeptForGood(t *testing.T) {
	t.Parallel()
	e := setup(t, Config{})
	hashed := regexp.MustCompile(`^/assets/[\w.-]+-[\w-]{8}\.\w+$`)
	for _, path := range assets(t) {
		got := get(e, path)
		if got.Code != http.StatusOK || got.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" || got.Header().Get("Content-Type") == "" {
			t.Errorf("%s: %d %v", path, got.Code, got.Header())
		}
		if !hashed.MatchString(path) {
			t.Errorf("the name of %s has no hash in it, and it is kept for good", path)
		}
	}
}

func TestAnswersAreNotSentTwice(t *testing.T) {
	t.Parallel()
	e := setup(t, Config{})
	for _, path := range append(assets(t), "/") {
		for _, coding := range []string{"", "gzip"} {
			tag := get(e, path, "Accept-Encoding", coding).Header().Get("ETag")
			got := get(e, path, "Accept-Encoding", coding, "If-None-Match", tag)
			if tag == "" || got.Code != http.StatusNotModified || got.Body.Len() > 0 {
				t.Errorf("%s: ETag %q, then %d with %d bytes", path, tag, got.Code, got.Body.Len())
			}
		}
		if got := get(e, path, "If-None-Match", `"another"`); got.Code != http.StatusOK {
			t.Errorf("%s with another ETag: %d", path, got.Code)
		}
		if got := do(e, http.MethodHead, path); got.Code != http.StatusOK || got.Body.Len() > 0 {
			t.Errorf("HEAD %s: %d with %d bytes", path, got.Code, got.Body.Len())
		}
	}
}

func TestTextIsSentByGzipToWhoTakesIt(t *testing.T) {
	t.Parallel()
	e := setup(t, Config{})
	script := assets(t)[0]
	for _, path := range assets(t) {
		if strings.HasSuffix(path, ".js") {
			script = path
		}
	}
	plain := get(e, script)
	for accepted, packed := range map[string]bool{"gzip, deflate, br": true, "br;q=1, GZIP;q=0.5": true, "gzip;q=0": false, "br": false, "": false, "gzip;": true, "x-gzip": false} {
		got := get(e, script, "Accept-Encoding", accepted)
		if (got.Header().Get("Content-Encoding") == "gzip") != packed || got.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: %v", accepted, got.Header())
			continue
		}
		if !packed {
			continue
		}
		if got.Header().Get("ETag") == plain.Header().Get("ETag") || got.Body.Len() >= plain.Body.Len()/2 {
			t.Errorf("%q: %d of %d bytes, ETag %s", accepted, got.Body.Len(), plain.Body.Len(), got.Header().Get("ETag"))
		}
		unpack, err := gzip.NewReader(got.Body)
		must(t, err)
		text, err := io.ReadAll(unpack)
		must(t, err)
		if string(text) != plain.Body.String() {
			t.Error("the packed script is another")
		}
	}
}

func TestNothingElseIsServed(t *testing.T) {
	t.Parallel()
	e := setup(t, Config{})
	for _, path := range []string{
		"/assets", "/assets/", "/assets/nothing.js", "/assets/../index.html", "/assets/..%2findex.html", "/assets/%2e%2e%2findex.html", "/index.html", "/console/dist/index.html",
		"/q/page", "/pp", "/assets/x/y", "/web.go",
	} {
		if got := get(e, path); got.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.Code)
		}
	}
	if got := do(e, http.MethodPost, "/"); got.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /: %d", got.Code)
	}
}

func TestThePageIsToldItsKey(t *testing.T) {
	t.Parallel()
	for _, config := range []Config{{Key: "public", Dev: true}, {}} {
		got := get(setup(t, config), "/config.json")
		var told struct {
			Key *string
			Dev *bool
		}
		must(t, json.Unmarshal(got.Body.Bytes(), &told))
		if told.Key == nil || *told.Key != config.Key || told.Dev == nil || *told.Dev != config.Dev {
			t.Errorf("%+v: %s", config, got.Body)
		}
	}
}

func TestThePolicyOfThePage(t *testing.T) {
	t.Parallel()
	for publicURL, media := range map[string]string{
		"": "'self' https: data: blob:", "https://tasks.example.com/base": "'self' https: data: blob:", "http://127.0.0.1:8484": "'self' https: data: blob: http://127.0.0.1:8484",
		"http://x;script-src *": "'self' https: data: blob:",
	} {
		policy := get(setup(t, Config{PublicURL: publicURL}), "/").Header().Get("Content-Security-Policy")
		want := "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; img-src " + media + "; media-src " + media +
			"; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
		if policy != want {
			t.Errorf("%q:\n got %s\nwant %s", publicURL, policy, want)
		}
	}
}

// The page's policy allows no inline scripts and styles, so the page has none.
func TestThePageHasNothingInline(t *testing.T) {
	t.Parallel()
	page := get(setup(t, Config{}), "/").Body.String()
	for _, inline := range []string{`<script(?:\s[^>]*)?>[^<]`, `<style`, `\sstyle=`, `\son\w+=`, `javascript:`} {
		if found := regexp.MustCompile("(?i)" + inline).FindString(page); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
}
