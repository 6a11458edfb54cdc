package openaiserver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/params"
	"darkroom/workerd/openaiserver"
)

// patience bounds everything that is waited for.
const patience = time.Minute

// serve starts a server on a loopback address, whose files lie in a folder of the test, and returns its address.
func serve(t testing.TB, c openaiserver.Config) string {
	t.Helper()
	c.Listen, c.Folder = "127.0.0.1:0", t.TempDir()
	s, err := openaiserver.New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		server.CloseClientConnections()
		server.Close()
		if left, err := os.ReadDir(c.Folder); err != nil || len(left) != 0 {
			t.Errorf("files stay: %v, %v", left, err)
		}
	})
	return server.URL
}

// reply is an answer of the server.
type reply struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

// send sends a request whose body is a text of JSON, or a form.
func send(t *testing.T, method, address string, header http.Header, body string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	maps.Copy(request.Header, header)
	if host := header.Get("Host"); host != "" {
		request.Host = host
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{t: t, status: response.StatusCode, header: response.Header, body: data}
}

// refused checks an error's status and code, and that it is written as OpenAI's API does.
func (r reply) refused(name string, status int, code string) {
	r.t.Helper()
	var got struct {
		Error struct {
			Message, Type, Code string
			Param               *string
		}
	}
	if err := json.Unmarshal(r.body, &got); err != nil || r.status != status || got.Error.Code != code || got.Error.Message == "" || got.Error.Type == "" {
		r.t.Errorf("%s: got %d %s, want %d with %s", name, r.status, r.body, status, code)
	}
}

// video reads a video.
func (r reply) video() video {
	r.t.Helper()
	var v video
	if err := json.Unmarshal(r.body, &v); err != nil || r.status != http.StatusOK || v.ID == "" {
		r.t.Fatalf("got %d %s, want a video", r.status, r.body)
	}
	return v
}

type video struct {
	ID, Status, Seconds, Size, Prompt string
	Progress                          int
	Error                             *struct{ Code, Message string }
}

// await waits until a video has the status, and returns it.
func await(t *testing.T, address, id, status string) video {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		v := send(t, http.MethodGet, address+"/v1/videos/"+id, nil, "").video()
		if v.Status == status {
			return v
		}
		if v.Status == "failed" || v.Status == "completed" || time.Now().After(end) {
			t.Fatalf("the video is %+v, want it %s", v, status)
		}
	}
}

func TestNewWantsAKeyBeyondThisMachine(t *testing.T) {
	t.Parallel()
	for listen, ok := range map[string]bool{
		"127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "127.9.9.9:0": true,
		"0.0.0.0:1": false, ":1": false, "10.0.0.1:1": false, "example.com:1": false, "": false, "[::]:1": false,
	} {
		for _, key := range []string{"", "k"} {
			s, err := openaiserver.New(openaiserver.Config{Listen: listen, Key: key, Engine: newPainter(), Folder: t.TempDir()})
			if (err == nil) != (ok || key != "") {
				t.Errorf("%q with key %q: %v", listen, key, err)
			}
			if err == nil {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	address := serve(t, openaiserver.Config{Engine: newPainter()})
	form := func(fields ...string) (string, http.Header) { return newForm(t, fields...) }
	twice, twiceHeader := form("prompt", "a", "prompt", "b")
	many, manyHeader := form(strings.Split(strings.Repeat("f,v,", 70), ",")[:140]...)
	noPicture, noPictureHeader := form("prompt", "a", "input_reference=x.png", "GIF89a")
	for _, test := range []struct {
		name, method, path, body string
		header                   http.Header
		status                   int
		code                     string
	}{
		{"unknown path", "POST", "/v1/chat/completions", "{}", nil, 404, "unknown_url"},
		{"wrong method", "PUT", "/v1/videos", "{}", nil, 404, "unknown_url"},
		{"unclean path", "POST", "/v1//videos", "{}", nil, 404, "unknown_url"},
		{"path that leads up", "GET", "/v1/videos/../../etc/passwd", "", nil, 404, "unknown_url"},
		{"no JSON", "POST", "/v1/images/generations", "{", nil, 400, "invalid_json"},
		{"no object", "POST", "/v1/images/generations", "[]", nil, 400, "invalid_json"},
		{"null", "POST", "/v1/images/generations", "null", nil, 400, "invalid_json"},
		{"no media type", "POST", "/v1/images/generations", "{}", http.Header{"Content-Type": {"text/plain"}}, 415, "unsupported_media_type"},
		{"too large", "POST", "/v1/images/generations", `{"prompt":"` + strings.Repeat("a", 33<<20) + `"}`, nil, 413, "request_too_large"},
		{"no prompt", "POST", "/v1/images/generations", `{}`, nil, 400, "missing_required_parameter"},
		{"blank prompt", "POST", "/v1/images/generations", `{"prompt":" \n"}`, nil, 400, "missing_required_parameter"},
		{"long prompt", "POST", "/v1/images/generations", `{"prompt":"` + strings.Repeat("a", 32001) + `"}`, nil, 400, "invalid_value"},
		{"prompt is a number", "POST", "/v1/images/generations", `{"prompt":1}`, nil, 400, "invalid_type"},
		{"size", "POST", "/v1/images/generations", `{"prompt":"a","size":"64"}`, nil, 400, "invalid_value"},
		{"size of zero", "POST", "/v1/images/generations", `{"prompt":"a","size":"0x64"}`, nil, 400, "invalid_value"},
		{"seed", "POST", "/v1/images/generations", `{"prompt":"a","seed":-1}`, nil, 400, "invalid_value"},
		{"seed is a fraction", "POST", "/v1/images/generations", `{"prompt":"a","seed":1.5}`, nil, 400, "invalid_value"},
		{"background", "POST", "/v1/images/generations", `{"prompt":"a","background":"transparent"}`, nil, 400, "unsupported_value"},
		{"format", "POST", "/v1/images/generations", `{"prompt":"a","output_format":"webp"}`, nil, 400, "unsupported_value"},
		{"quality", "POST", "/v1/images/generations", `{"prompt":"a","quality":"high"}`, nil, 400, "unsupported_value"},
		{"unknown field", "POST", "/v1/images/generations", `{"prompt":"a","guidance":1}`, nil, 400, "unknown_parameter"},
		{"model", "POST", "/v1/images/generations", `{"prompt":"a","model":"dall-e-3"}`, nil, 404, "model_not_found"},
		{"edits", "POST", "/v1/images/edits", "", nil, 400, "unsupported"},
		{"out of memory", "POST", "/v1/images/generations", `{"prompt":"oom"}`, nil, 500, "oom"},
		{"bad task", "POST", "/v1/images/generations", `{"prompt":"bad"}`, nil, 400, "bad_input"},

		{"video without anything", "POST", "/v1/videos", `{}`, nil, 400, "missing_required_parameter"},
		{"seconds", "POST", "/v1/videos", `{"prompt":"a","seconds":"61"}`, nil, 400, "invalid_value"},
		{"seconds in words", "POST", "/v1/videos", `{"prompt":"a","seconds":"four"}`, nil, 400, "invalid_value"},
		{"frames", "POST", "/v1/videos", `{"prompt":"a","num_frames":1}`, nil, 400, "invalid_value"},
		{"file id", "POST", "/v1/videos", `{"prompt":"a","input_reference":{"file_id":"f"}}`, nil, 400, "invalid_value"},
		{"an address", "POST", "/v1/videos", `{"prompt":"a","input_reference":{"image_url":"http://127.0.0.1/x.png"}}`, nil, 400, "invalid_value"},
		{"a local path", "POST", "/v1/videos", `{"prompt":"a","start_image":"/etc/passwd"}`, nil, 400, "invalid_value"},
		{"broken base64", "POST", "/v1/videos", `{"prompt":"a","start_image":"data:image/png;base64,&"}`, nil, 400, "invalid_value"},
		{"text as a picture", "POST", "/v1/videos", `{"prompt":"a","start_image":"data:image/png;base64,aGFsbG8="}`, nil, 400, "invalid_value"},
		{"two starts", "POST", "/v1/videos", `{"prompt":"a","start_image":"` + dataURL(t) + `","input_reference":"` + dataURL(t) + `"}`, nil, 400, "invalid_value"},
		{"two ends", "POST", "/v1/videos", `{"prompt":"a","end_image":"` + dataURL(t) + `","end_prompt":"b"}`, nil, 400, "invalid_value"},
		{"unknown field of a video", "POST", "/v1/videos", `{"prompt":"a","characters":[]}`, nil, 400, "unknown_parameter"},
		{"a field twice", "POST", "/v1/videos", twice, twiceHeader, 400, "invalid_form"},
		{"too many fields", "POST", "/v1/videos", many, manyHeader, 400, "invalid_form"},
		{"half a form", "POST", "/v1/videos", twice[:40], twiceHeader, 400, "broken_request"},
		{"no boundary", "POST", "/v1/videos", twice, http.Header{"Content-Type": {"multipart/form-data"}}, 400, "invalid_form"},
		{"a GIF", "POST", "/v1/videos", noPicture, noPictureHeader, 400, "invalid_value"},
		{"no such video", "GET", "/v1/videos/video_x", "", nil, 404, "not_found"},
		{"no such content", "GET", "/v1/videos/video_x/content", "", nil, 404, "not_found"},
		{"nothing to delete", "DELETE", "/v1/videos/video_x", "", nil, 404, "not_found"},
		{"remix", "POST", "/v1/videos/video_x/remix", "{}", nil, 400, "unsupported"},
		{"limit", "GET", "/v1/videos?limit=0", "", nil, 400, "invalid_value"},
		{"order", "GET", "/v1/videos?order=up", "", nil, 400, "invalid_value"},
		{"after what is not there", "GET", "/v1/videos?after=x", "", nil, 404, "not_found"},
		{"no such model", "GET", "/v1/models/a/b", "", nil, 404, "model_not_found"},

		{"a page of another site", "POST", "/v1/images/generations", `{"prompt":"a"}`, http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403, "forbidden_origin"},
		{"a foreign name for this host", "GET", "/v1/models", "", http.Header{"Host": {"evil.example:80"}}, 403, "forbidden_host"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			send(t, test.method, address+test.path, test.header, test.body).refused(test.name, test.status, test.code)
		})
	}
}

func dataURL(t *testing.T) string {
	t.Helper()
	data, err := picture("a", 1, params.Size{Width: 8, Height: 8})
	if err != nil {
		t.Fatal(err)
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(data)
}

// newForm writes a form of names and values; a name like "a=x.png" is that of a file.
func newForm(t *testing.T, fields ...string) (string, http.Header) {
	t.Helper()
	var body bytes.Buffer
	writer := multipart.NewWriter(&body)
	for i := 0; i+1 < len(fields); i += 2 {
		name, file, isFile := strings.Cut(fields[i], "=")
		var part io.Writer
		var err error
		if isFile {
			part, err = writer.CreateFormFile(name, file)
		} else {
			part, err = writer.CreateFormField(name)
		}
		if err == nil {
			_, err = io.WriteString(part, fields[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return body.String(), http.Header{"Content-Type": {writer.FormDataContentType()}}
}

func TestTheKey(t *testing.T) {
	t.Parallel()
	address := serve(t, openaiserver.Config{Engine: newPainter(), Key: "right"})
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic right", "Bearer right2", "bearer right"} {
		send(t, "GET", address+"/v1/models", http.Header{"Authorization": {header}}, "").refused(header, 401, "invalid_api_key")
	}
	if got := send(t, "GET", address+"/v1/models", http.Header{"Authorization": {"Bearer right"}}, ""); got.status != 200 {
		t.Errorf("the right key: %d %s", got.status, got.body)
	}
	if got := send(t, "GET", address+"/health", nil, ""); got.status != 200 || strings.TrimSpace(string(got.body)) != `{"status":"ok"}` {
		t.Errorf("health needs no key: %d %s", got.status, got.body)
	}
}

// TestWhatTheEngineIsAsked checks the tasks that come of requests.
func TestWhatTheEngineIsAsked(t *testing.T) {
	t.Parallel()
	p := newPainter()
	address := serve(t, openaiserver.Config{Engine: p})
	for name, test := range map[string]struct {
		body string
		want []string // the tasks' types and params, then the number of inputs
	}{
		"a prompt": {
			`{"prompt":"a","seed":2147483647,"seconds":2}`,
			[]string{
				`single_image {"prompt":"a","seed":2147483647,"size":"512x512"} 0`, `single_image {"prompt":"a","seed":0,"size":"512x512"} 0`,
				`travel_segment {"fps":16,"parsed_resolution_wh":"512x512","prompt":"a","seed":2147483647,"segment_frames_target":32} 2`,
			},
		},
		"two prompts": {
			`{"prompt":"a","end_prompt":"b","seed":1,"size":"64x32","fps":"8","num_frames":9}`,
			[]string{
				`single_image {"prompt":"a","seed":1,"size":"64x32"} 0`, `single_image {"prompt":"b","seed":2,"size":"64x32"} 0`,
				`travel_segment {"fps":8,"parsed_resolution_wh":"64x32","prompt":"a","seed":1,"segment_frames_target":9} 2`,
			},
		},
		"two pictures": {
			`{"start_image":"` + dataURL(t) + `","end_image":"` + dataURL(t) + `","seed":1,"size":"auto","model":"painter-1","input_reference":null}`,
			[]string{`travel_segment {"fps":16,"parsed_resolution_wh":"512x512","prompt":"","seed":1,"segment_frames_target":64} 2`},
		},
	} {
		v := send(t, "POST", address+"/v1/videos", nil, test.body).video()
		await(t, address, v.ID, "completed")
		for _, want := range test.want {
			task := <-p.ran
			if got := fmt.Sprintf("%s %s %d", task.Type, task.Params, len(task.Inputs)); got != want {
				t.Errorf("%s: the engine was asked\n%s, want\n%s", name, got, want)
			}
		}
	}
}

func TestAVideoThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	address := serve(t, openaiserver.Config{Engine: newPainter()})
	for prompt, code := range map[string]string{"bad": "bad_input", "down": "engine_down", "oom": "oom"} {
		v := send(t, "POST", address+"/v1/videos", nil, `{"prompt":"`+prompt+`"}`).video()
		v = await(t, address, v.ID, "failed")
		if v.Error == nil || v.Error.Code != code || v.Error.Message == "" {
			t.Errorf("%s: got %+v", prompt, v.Error)
		}
		send(t, "GET", address+"/v1/videos/"+v.ID+"/content", nil, "").refused(prompt, 400, "video_not_ready")
	}
}

func TestARequestSentTwiceIsOneVideo(t *testing.T) {
	t.Parallel()
	p := newPainter()
	address := serve(t, openaiserver.Config{Engine: p})
	key := http.Header{"Idempotency-Key": {"k1"}}
	first := send(t, "POST", address+"/v1/videos", key, `{"prompt":"a"}`).video()
	if again := send(t, "POST", address+"/v1/videos", key, `{"prompt":"a"}`).video(); again.ID != first.ID {
		t.Errorf("got another video: %s and %s", first.ID, again.ID)
	}
	if other := send(t, "POST", address+"/v1/videos", http.Header{"Idempotency-Key": {"k2"}}, `{"prompt":"a"}`).video(); other.ID == first.ID {
		t.Error("another key gives the same video")
	}
	bad := http.Header{"Idempotency-Key": {"k3"}}
	failed := send(t, "POST", address+"/v1/videos", bad, `{"prompt":"bad"}`).video()
	await(t, address, failed.ID, "failed")
	if again := send(t, "POST", address+"/v1/videos", bad, `{"prompt":"a"}`).video(); again.ID == failed.ID {
		t.Error("a failed video is not tried again")
	}
}

// TestDeletingFreesTheSlot deletes a running video; the next one must not wait for its end.
func TestDeletingFreesTheSlot(t *testing.T) {
	t.Parallel()
	p := newPainter()
	address := serve(t, openaiserver.Config{Engine: p})
	slow := send(t, "POST", address+"/v1/videos", nil, `{"prompt":"slow"}`).video()
	await(t, address, slow.ID, "in_progress")
	next := send(t, "POST", address+"/v1/videos", nil, `{"prompt":"a"}`).video()
	if v := await(t, address, next.ID, "queued"); v.Progress != 0 {
		t.Errorf("got %+v", v)
	}
	began := time.Now()
	if got := send(t, "DELETE", address+"/v1/videos/"+slow.ID, nil, ""); got.status != 200 {
		t.Errorf("got %d %s", got.status, got.body)
	}
	await(t, address, next.ID, "completed")
	if took := time.Since(began); took > 3*time.Second { // the slow one takes 30
		t.Errorf("the next video took %v", took)
	}
}

func TestACallerWhoGoesEndsItsPicture(t *testing.T) {
	t.Parallel()
	form, header := newForm(t, "prompt", "slow")
	t.Run("JSON", func(t *testing.T) { goAway(t, `{"prompt":"slow"}`, "application/json") })
	t.Run("form", func(t *testing.T) { goAway(t, form, header.Get("Content-Type")) })
}

// goAway asks for a picture and goes while it is made.
func goAway(t *testing.T, body, contentType string) {
	t.Helper()
	p := newPainter()
	ended := make(chan error, 1)
	address := serve(t, openaiserver.Config{Engine: p, Run: func(ctx context.Context, task engine.Task, sink engine.Sink) (engine.Result, error) {
		result, err := p.Run(ctx, task, sink)
		ended <- err
		return result, err
	}})
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/v1/images/generations", io.MultiReader(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	go func() {
		<-p.ran
		cancel()
	}()
	if response, err := http.DefaultClient.Do(request); err == nil {
		response.Body.Close()
		t.Error("it was answered")
	}
	select {
	case err := <-ended:
		if engine.ClassOf(err) != engine.Cancelled {
			t.Errorf("the work ended with %v", err)
		}
	case <-time.After(2 * time.Second):
		t.Error("the work goes on")
	}
}

func TestVideosExpire(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s, err := openaiserver.New(openaiserver.Config{Engine: newPainter(), Listen: "127.0.0.1:0", Folder: folder, Keep: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server := httptest.NewServer(s)
	defer server.Close()
	v := send(t, "POST", server.URL+"/v1/videos", nil, `{"prompt":"a"}`).video()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(folder, "*", "video-*"))
		if err != nil {
			t.Fatal(err)
		}
		if got := send(t, "GET", server.URL+"/v1/videos/"+v.ID, nil, ""); got.status == 404 && len(files) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the video stays, with %v", files)
		}
	}
}

func TestOnlySoManyVideosAreKept(t *testing.T) {
	t.Parallel()
	address := serve(t, openaiserver.Config{Engine: newPainter()})
	body := `{"start_image":"` + dataURL(t) + `","end_image":"` + dataURL(t) + `"}`
	var ids []string
	for range 102 {
		v := send(t, "POST", address+"/v1/videos", nil, body).video()
		await(t, address, v.ID, "completed")
		ids = append(ids, v.ID)
	}
	for i, id := range ids {
		want := 200
		if i < 2 {
			want = 404
		}
		if got := send(t, "GET", address+"/v1/videos/"+id+"/content", nil, ""); got.status != want {
			t.Errorf("video %d: got %d, want %d", i, got.status, want)
		}
	}
	var page struct {
		Data    []video
		HasMore bool   `json:"has_more"`
		LastID  string `json:"last_id"`
	}
	got := send(t, "GET", address+"/v1/videos?order=asc&limit=3&after="+ids[2], nil, "")
	if err := json.Unmarshal(got.body, &page); err != nil || len(page.Data) != 3 || page.Data[0].ID != ids[3] || page.LastID != ids[5] || !page.HasMore {
		t.Errorf("the page after the third: %s, %v", got.body, err)
	}
}

func TestAnEngineOfPicturesOnly(t *testing.T) {
	t.Parallel()
	pictures, travels := newPainter(), newPainter()
	pictures.types, travels.types = []string{"single_image"}, []string{"travel_segment"}
	address := serve(t, openaiserver.Config{Engine: pictures})
	send(t, "POST", address+"/v1/videos", nil, `{"prompt":"a"}`).refused("video", 400, "unsupported")
	address = serve(t, openaiserver.Config{Engine: travels})
	send(t, "POST", address+"/v1/images/generations", nil, `{"prompt":"a"}`).refused("picture", 400, "unsupported")
	send(t, "POST", address+"/v1/videos", nil, `{"prompt":"a","start_image":"`+dataURL(t)+`"}`).refused("half a travel", 400, "missing_required_parameter")
}

// TestServeEndsWithItsContext ends a server in the middle of a video and of a picture.
func TestServeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil { // for Serve to take it
		t.Fatal(err)
	}
	p, folder := newPainter(), t.TempDir()
	p.slots = 2
	s, err := openaiserver.New(openaiserver.Config{Engine: p, Listen: address, Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not listen")
		}
	}
	send(t, "POST", "http://"+address+"/v1/videos", nil, `{"prompt":"slow"}`).video()
	answered := make(chan reply, 1)
	go func() {
		answered <- send(t, "POST", "http://"+address+"/v1/images/generations", nil, `{"prompt":"slow"}`)
	}()
	<-p.ran
	<-p.ran
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	(<-answered).refused("picture", 503, "cancelled")
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("files stay: %v, %v", left, err)
	}
}

func TestServeSaysWhatIsWrongWithItsAddress(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s, err := openaiserver.New(openaiserver.Config{Engine: newPainter(), Listen: listener.Addr().String(), Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context()); err == nil || !strings.Contains(err.Error(), "listen for OpenAI requests") {
		t.Errorf("got %v", err)
	}
}
