package clients_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// suiteTimeout bounds the suite in a browser, its start included.
const suiteTimeout = 5 * time.Minute

// page is an app: the client as a browser bundle, and the suite, whose name is put in place of SUITE.
const page = `<!doctype html>
<meta charset="utf-8">
<title>app</title>
<script src="/supabase.js"></script>
<script type="module">
  import {run} from '/suites/SUITE';
  window.results = [];
  const env = await (await fetch('/env.json')).json();
  try {
    await run({createClient: supabase.createClient, env, report: (name, fault) => results.push({name, fault})});
    results.push({end: true});
  } catch (error) {
    results.push({name: 'the page', fault: String(error.stack)});
  }
  window.ended = true;
</script>
`

// chromium returns the path of a browser. Without one it skips the test, unless DARKROOM_REQUIRE_CHROMIUM is set.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	skip(t, "DARKROOM_REQUIRE_CHROMIUM", "no Chromium is installed")
	return ""
}

func TestUnmodifiedClientsInChromium(t *testing.T) { inChromium(t, "suite.mjs") }

// inChromium runs a suite of testdata with both clients, on a page whose origin is another than the gateway's, so that every request is cross-origin.
func inChromium(t *testing.T, suite string) {
	t.Helper()
	t.Parallel()
	program := chromium(t)
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			folder := packages(t, version)
			w := newWorld(t)
			env := mustJSON(w.environment(version == "new"))
			app := http.NewServeMux()
			app.HandleFunc("GET /{$}", func(rw http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(rw, strings.ReplaceAll(page, "SUITE", suite))
			})
			app.HandleFunc("GET /env.json", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(env) })
			app.HandleFunc("GET /suites/{name}", func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", "text/javascript")
				http.ServeFile(rw, r, filepath.Join("testdata", filepath.Base(r.PathValue("name"))))
			})
			// The old bundle fetches a part of itself from where it lies.
			app.Handle("GET /", http.FileServer(http.Dir(filepath.Join(folder, "node_modules/@supabase/supabase-js/dist/umd"))))
			site := httptest.NewServer(app)
			defer site.Close()

			for _, r := range browse(t, program, site.URL) {
				tell(t, r)
			}
			w.healthy()
		})
	}
}

// browse opens the page in a browser of its own and returns what the suite reported.
func browse(t *testing.T, program, address string) []result {
	t.Helper()
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(program)}
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it refuses to run as root in its sandbox
	}
	ctx, cancel := context.WithTimeout(t.Context(), suiteTimeout)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithAllocatorOptions(options...))
	defer cancel()
	must(t, chromedp.Do(ctx, chromedp.Navigate(address)))
	// By time, not by frames: a page in the background has none.
	_, err := chromedp.Run(ctx, chromedp.Poll[bool](`window.ended`, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(0)))
	must(t, err)
	said, err := chromedp.Run(ctx, chromedp.Evaluate[string](`JSON.stringify(window.results)`))
	must(t, err)
	var results []result
	must(t, json.Unmarshal([]byte(said), &results))
	if len(results) == 0 || !results[len(results)-1].End {
		t.Fatalf("the suite ended early: %s", said)
	}
	return results[:len(results)-1]
}
