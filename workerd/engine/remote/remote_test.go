package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/remote"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "sk-very-secret-0123"
	png    = "\x89PNG\r\n\x1a\n the rest does not matter here"
)

// serve starts a server and returns a client for it, which sends a key.
func serve(t *testing.T, handler http.HandlerFunc) *remote.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return client(t, server.URL+"/base/")
}

func client(t *testing.T, address string) *remote.Client {
	t.Helper()
	c, err := remote.New(address, http.Header{"Authorization": {"Bearer " + secret}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answer makes a handler that always answers the same.
func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// check checks the class of an error, words of its message, and that no secret is in it.
func check(t *testing.T, err error, class engine.Class, words string) {
	t.Helper()
	var failure *engine.Error
	if !errors.As(err, &failure) {
		t.Fatalf("got the error %v, which is no *engine.Error", err)
	}
	if failure.Class != class || !strings.Contains(failure.Message, words) {
		t.Errorf("got %s %q, want %s with %q", failure.Class, failure.Message, class, words)
	}
	if !strings.HasSuffix(failure.Message, ".") || strings.Contains(failure.Message, "\n") {
		t.Errorf("not one sentence: %q", failure.Message)
	}
	if text := fmt.Sprintf("%v %+v", err, failure.Err); strings.Contains(text, secret) {
		t.Errorf("the key is in the error: %s", text)
	}
}

func TestNewRefusesWhatIsNoServer(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "127.0.0.1:8188", "ftp://a", "http://", "http:///x", "http://me:" + secret + "@a", "http://a?k=" + secret, "http://a#b", "http://a\x7f"} {
		if _, err := remote.New(address, nil); err == nil {
			t.Errorf("%q is taken", address)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the secret is in the error: %v", err)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if got := r.Method + " " + r.URL.String() + " " + r.Header.Get("Authorization") + " " + string(body); got != "POST /base/jobs?a=b Bearer "+secret+` {"n":1}` {
			t.Errorf("the request is %s", got)
		}
		_, _ = io.WriteString(w, `{"id":"x"}`)
	})
	var got struct{ ID string }
	if err := c.JSON(t.Context(), http.MethodPost, "/jobs?a=b", map[string]int{"n": 1}, &got); err != nil || got.ID != "x" {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := c.JSON(t.Context(), http.MethodPost, "/jobs?a=b", map[string]int{"n": 1}, nil); err != nil {
		t.Error(err)
	}
	check(t, c.JSON(t.Context(), http.MethodPost, "/jobs", make(chan int), nil), engine.BadInput, "cannot be sent")
}

func TestDoPrefersTheHeaderOfTheCall(t *testing.T) {
	t.Parallel()
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if got := r.Header["Authorization"]; len(got) != 1 || got[0] != "other" {
			t.Errorf("got %q", got)
		}
	})
	response, err := c.Do(t.Context(), http.MethodGet, "/", http.Header{"Authorization": {"other"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1000)
	for name, test := range map[string]struct {
		status int
		body   string
		class  engine.Class
		words  string
	}{
		"OpenAI":                 {400, `{"error":{"message":"bad size","type":"x","code":null}}`, engine.BadInput, "refused the task: bad size."},
		"ComfyUI":                {400, `{"error":{"type":"t","message":"Cannot execute","details":"no KSampler"},"node_errors":{}}`, engine.BadInput, "Cannot execute: no KSampler."},
		"FastAPI":                {422, `{"detail":[{"loc":["body","seed"],"msg":"must be a number","type":"t"},{"msg":"b"}]}`, engine.BadInput, "seed: must be a number; b."},
		"FastAPI in one":         {400, `{"detail":"no\nsuch\tmodel"}`, engine.BadInput, "no such model."},
		"a message":              {415, `{"message":"no"}`, engine.BadInput, "no."},
		"text":                   {400, "bad prompt.\n", engine.BadInput, "bad prompt."},
		"long":                   {400, long, engine.BadInput, strings.Repeat("é", 299) + "…."},
		"no reason":              {400, `{}`, engine.BadInput, "no reason"},
		"a page":                 {400, "<html>", engine.BadInput, "no reason"},
		"too large":              {413, "<html>", engine.BadInput, "larger than"},
		"key":                    {401, "wrong key " + secret, engine.EngineDown, "key"},
		"rights":                 {403, "", engine.EngineDown, "key"},
		"unknown":                {404, "", engine.EngineDown, "does not know"},
		"busy":                   {429, "", engine.EngineDown, "no more work"},
		"broken":                 {500, "KeyError " + secret, engine.EngineDown, "HTTP 500"},
		"conflict":               {409, "", engine.EngineDown, "HTTP 409"},
		"CUDA out of memory":     {500, `{"detail":"CUDA out of memory. Tried to allocate 2.00 GiB"}`, engine.OutOfMem, "out of memory"},
		"MPS out of memory":      {500, `MPS backend out of memory`, engine.OutOfMem, "out of memory"},
		"torch.OutOfMemoryError": {400, `torch.OutOfMemoryError: Allocation on device`, engine.OutOfMem, "out of memory"},
		"a prompt about it":      {422, `{"detail":[{"msg":"too short","input":"out of memory"}]}`, engine.BadInput, "too short"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := serve(t, answer(test.status, test.body)).JSON(t.Context(), http.MethodGet, "/", nil, nil)
			check(t, err, test.class, test.words)
			var status *remote.StatusError
			if !errors.As(err, &status) || status.Code != test.status || status.Body != strings.ReplaceAll(test.body, secret, "[hidden]") {
				t.Errorf("the status is lost: %+v", status)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][2]time.Duration{
		"7": {7 * time.Second, 7 * time.Second}, "": {}, "-1": {}, "soon": {}, "99999999999": {}, "Mon, 02 Jan 2006 15:04:05 GMT": {},
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat): {50 * time.Minute, time.Hour},
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", value)
			w.WriteHeader(http.StatusTooManyRequests)
		})
		var status *remote.StatusError
		if err := c.JSON(t.Context(), http.MethodGet, "/", nil, nil); !errors.As(err, &status) || status.RetryAfter < want[0] || status.RetryAfter > want[1] {
			t.Errorf("%q: got %v, want %v", value, status, want)
		}
	}
}

func TestServersThatFail(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		words   string
	}{
		"not JSON":  {answer(200, "<html>hello"), "not the expected JSON"},
		"no answer": {answer(200, ""), "not the expected JSON"},
		"endless body": {func(w http.ResponseWriter, _ *http.Request) {
			for chunk := make([]byte, 1<<16); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, "more than 1 MB"},
		"endless headers": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", strings.Repeat("a", 1<<18)) }, "broke off"},
		"a cut":           {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "broke off"},
		"a cut body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		}, "broke off"},
		"endless redirects": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/base/again", http.StatusFound) }, "more than 5 times"},
		"another host": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://localhost:1/?"+secret, http.StatusFound)
		}, "another host"},
		"another port": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}, "another host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got map[string]any
			check(t, serve(t, test.handler).JSON(t.Context(), http.MethodGet, "/", nil, &got), engine.EngineDown, test.words)
		})
	}
}

func TestARedirectDoesNotTurnAPostIntoAGet(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/base/x", http.StatusFound) })
	check(t, c.JSON(t.Context(), http.MethodPost, "/", 1, nil), engine.EngineDown, "must be changed")
	c = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/base/x" {
			http.Redirect(w, r, "/base/x/", http.StatusTemporaryRedirect)
			return
		}
		if body, _ := io.ReadAll(r.Body); r.Method != http.MethodPost || string(body) != "1" || r.Header.Get("Authorization") == "" {
			t.Errorf("got %s %s", r.Method, body)
		}
	})
	if err := c.JSON(t.Context(), http.MethodPost, "/x", 1, nil); err != nil {
		t.Error(err)
	}
}

func TestServersThatAreNotThere(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, client(t, "http://"+address).JSON(t.Context(), http.MethodGet, "/", nil, nil), engine.EngineDown, "cannot be reached")
	check(t, client(t, "http://no-such-host.invalid").JSON(t.Context(), http.MethodGet, "/", nil, nil), engine.EngineDown, "cannot be reached")
}

// TestTheEndOfItsContextEndsACall has servers hang in every place where a call can wait.
func TestTheEndOfItsContextEndsACall(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // its kernel accepts, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for name, handler := range map[string]func(reached func()) http.HandlerFunc{
		"no answer at all": nil,
		"no header": func(reached func()) http.HandlerFunc {
			return func(_ http.ResponseWriter, r *http.Request) {
				reached()
				<-r.Context().Done()
			}
		},
		"half a header": func(reached func()) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				conn, buffer, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				_, _ = buffer.WriteString("HTTP/1.1 200 OK\r\nContent-")
				_ = buffer.Flush()
				reached()
				_, _ = conn.Read(make([]byte, 1)) // ends when the client has gone
			}
		},
		"half a body":             func(reached func()) http.HandlerFunc { return hang(200, reached) },
		"half a body of an error": func(reached func()) http.HandlerFunc { return hang(500, reached) },
	} {
		for class, end := range map[engine.Class]func(context.Context) (context.Context, context.CancelFunc){
			engine.Cancelled: context.WithCancel,
			engine.Timeout: func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
				return ctx, func() { <-ctx.Done(); cancel() }
			},
		} {
			t.Run(name+" "+string(class), func(t *testing.T) {
				t.Parallel()
				ctx, stop := end(t.Context())
				ended := make(chan time.Time, 1)
				reached := func() {
					stop()
					ended <- time.Now()
				}
				var c *remote.Client
				if handler != nil {
					c = serve(t, handler(reached))
				} else {
					c = client(t, "http://"+silent.Addr().String())
					go reached()
				}
				var got any
				check(t, c.JSON(ctx, http.MethodGet, "/", nil, &got), class, "task")
				if took := time.Since(<-ended); took > 5*time.Second {
					t.Errorf("it took %v to stop", took)
				}
			})
		}
	}
}

func hang(status int, reached func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"a":`)
		_ = http.NewResponseController(w).Flush()
		reached()
		<-r.Context().Done()
	}
}

func TestAnEndedContextSendsNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request came") })
	check(t, c.JSON(ctx, http.MethodGet, "/", nil, nil), engine.Cancelled, "cancelled")
}

func TestSave(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		switch r.URL.Path {
		case "/base/png", "/elsewhere/png":
			_, _ = io.WriteString(w, png)
		case "/base/page":
			_, _ = io.WriteString(w, "<html>")
		case "/base/cut":
			w.Header().Set("Content-Length", "100000")
			_, _ = io.WriteString(w, png)
		case "/base/self":
			http.Redirect(w, r, "/elsewhere/png", http.StatusFound)
		}
	})
	var own string
	{ // the address of the server itself, as it would name its files
		other := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprintf(w, `"http://%s"`, r.Host) })
		if err := other.JSON(t.Context(), http.MethodGet, "/", nil, &own); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		path  string
		limit int64
		class engine.Class
		words string
	}{
		"a picture":              {"/png", int64(len(png)), "", ""},
		"redirected on the host": {"/self", 100, "", ""},
		"too large":              {"/png", int64(len(png)) - 1, engine.BadInput, "larger than"},
		"a page":                 {"/page", 100, engine.EngineDown, "neither a PNG"},
		"nothing":                {"/empty", 100, engine.EngineDown, "empty file"},
		"cut":                    {"/cut", 100_000, engine.EngineDown, "broke off"},
		"another server":         {own + "/png", 100, engine.EngineDown, "another host"},
		"another scheme":         {"file:///etc/passwd", 100, engine.EngineDown, "another host"},
		"no address":             {"http://%zz", 100, engine.EngineDown, "another host"},
		"relative":               {"png", 100, engine.EngineDown, "another host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "out")
			mediaType, err := c.Save(t.Context(), test.path, file, test.limit)
			data, missing := os.ReadFile(file)
			if test.class == "" {
				if err != nil || mediaType != "image/png" || string(data) != png {
					t.Errorf("got %q, %q, %v", mediaType, data, err)
				}
				return
			}
			check(t, err, test.class, test.words)
			if !errors.Is(missing, os.ErrNotExist) {
				t.Errorf("a file stays, of %d bytes", len(data))
			}
		})
	}
}

func TestSaveTakesAnAbsoluteAddressOnTheHost(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/files/1.png" {
			_, _ = io.WriteString(w, png)
			return
		}
		_, _ = fmt.Fprintf(w, `"http://%s/files/1.png"`, r.Host)
	})
	var address string
	if err := c.JSON(t.Context(), http.MethodGet, "/", nil, &address); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Save(t.Context(), address, filepath.Join(t.TempDir(), "out"), 100); err != nil || got != "image/png" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestSaveOverwritesNothing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := serve(t, answer(200, png)).Save(t.Context(), "/", file, 100)
	check(t, err, engine.EngineDown, "cannot write")
	if data, err := os.ReadFile(file); err != nil || string(data) != "mine" {
		t.Errorf("the file is now %q, %v", data, err)
	}
}

func TestAFullDiskIsSaid(t *testing.T) {
	t.Parallel()
	full := &os.PathError{Op: "write", Path: "/secret/path", Err: syscall.ENOSPC}
	file := filepath.Join(t.TempDir(), "out")
	_, err := remote.Store(io.MultiReader(strings.NewReader(png), iotest.ErrReader(full)), file, 1000)
	check(t, err, engine.EngineDown, "The worker's disk is full.")
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a file stays: %v", err)
	}
}
