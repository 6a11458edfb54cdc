package functions_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/functions"
	"darkroom/gateway/identity"
	"darkroom/gateway/objects"
	"darkroom/gateway/problem"
	"darkroom/gateway/rest"
	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

const (
	serviceKey = "the service key of these tests"
	anonKey    = "the public key of these tests"
)

// stage is all of the HTTP surface that a worker meets, over a database with one user, who has credits, a project and a shot.
type stage struct {
	t       testing.TB
	pg      *taskdbtest.DB
	db      *taskdb.DB // as the superuser
	web     *httptest.Server
	user    uuid.UUID
	project uuid.UUID
	shot    uuid.UUID

	mu     sync.Mutex
	faults map[string][]string // of a path: what happens to its next requests
}

// Faults of the way between worker and gateway.
const (
	unavailable = "503 before anything is done"
	lostAnswer  = "everything is done and the answer is lost"
)

func setup(t testing.TB) *stage {
	t.Helper()
	ctx := t.Context()
	s := &stage{t: t, pg: taskdbtest.New(t), faults: map[string][]string{}}
	s.db = taskdb.New(s.pg.Pool)
	pool, err := taskdb.OpenPool(ctx, s.pg.Login(t, "authenticator"))
	must(t, err)
	as, err := identity.New(ctx, pool)
	must(t, err)
	verifier, err := identity.NewVerifier(pool, identity.Settings{ServiceKey: serviceKey, AnonKey: anonKey})
	must(t, err)
	bucket, err := storage.Open(ctx, "file://"+t.TempDir())
	must(t, err)
	signer, quiet := objects.NewSigner([]byte(rand.Text()+rand.Text())), slog.New(slog.DiscardHandler)
	tables, err := rest.New(ctx, as, quiet)
	must(t, err)

	e := echo.New()
	e.Use(s.fail, verifier.Middleware(func(c echo.Context) bool { return objects.NeedsNoKey(c.Request().Method, c.Request().URL.Path) }))
	functions.New(functions.Config{DB: as, Bucket: bucket, Signer: signer, Log: quiet}).Routes(e)
	objects.New(objects.Config{Bucket: bucket, DB: as, Signer: signer, MaxUpload: objects.DefaultMaxUpload, Log: quiet}).Routes(e)
	tables.Routes(e)
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		if p, ok := errors.AsType[*problem.Error](err); ok { // of the verifier
			problem.Write(c, quiet, err, problem.Status(p.Code), p)
		} else if !c.Response().Committed {
			_ = c.String(http.StatusTeapot, err.Error()) // doors answer their errors themselves
		}
	}
	s.web = httptest.NewServer(e)
	t.Cleanup(func() {
		s.web.Close()
		pool.Close()
		must(t, bucket.Close())
	})

	s.user = uuid.New()
	_, err = s.db.CreateUser(ctx, s.user, "")
	must(t, err)
	_, err = s.db.GrantCredits(ctx, s.user, taskdb.WholeCredits(100), "", "")
	must(t, err)
	project, err := s.db.CreateProject(ctx, s.user, "test")
	must(t, err)
	s.project = project.ID
	shot, err := s.db.CreateShot(ctx, s.project, "test")
	must(t, err)
	s.shot = shot.ID
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// failNext makes something happen to the next requests of a path.
func (s *stage) failNext(path string, faults ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[path] = append(s.faults[path], faults...)
}

func (s *stage) fail(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		path := c.Request().URL.Path
		s.mu.Lock()
		var fault string
		if waiting := s.faults[path]; len(waiting) > 0 {
			fault, s.faults[path] = waiting[0], waiting[1:]
		}
		s.mu.Unlock()
		switch fault {
		case unavailable:
			return c.String(http.StatusServiceUnavailable, "down")
		case lostAnswer:
			c.SetResponse(echo.NewResponse(httptest.NewRecorder(), c.Echo()))
			_ = next(c)
			panic(http.ErrAbortHandler)
		}
		return next(c)
	}
}

// token makes a worker's token: of a user, or with uuid.Nil of all.
func (s *stage) token(owner uuid.UUID) string {
	s.t.Helper()
	token, err := s.db.CreateAccessToken(s.t.Context(), "worker", "test", 0, owner)
	must(s.t, err)
	return token.Token
}

func (s *stage) create(task taskdb.NewTask) uuid.UUID {
	s.t.Helper()
	task.ProjectID = s.project
	made, err := s.db.CreateTask(s.t.Context(), task)
	must(s.t, err)
	return made.ID
}

// image creates a single_image on the shot.
func (s *stage) image() uuid.UUID {
	s.t.Helper()
	return s.create(taskdb.NewTask{ToolID: "image-generation", Input: object("prompt", "a lighthouse", "shot_id", s.shot)})
}

// travel creates a travel_orchestrator of two segments, as apps do.
func (s *stage) travel() uuid.UUID {
	s.t.Helper()
	return s.create(taskdb.NewTask{ToolID: "travel-between-images", Input: object("orchestrator_details", map[string]any{
		"run_id": "r1", "shot_id": s.shot, "num_new_segments_to_generate": 2, "model_type": "vace",
		"input_image_paths_resolved": []string{"u0", "u1", "u2"}, "base_prompts_expanded": []string{"a", "b"},
	})})
}

func (s *stage) wantStatus(id uuid.UUID, status string) taskdb.Task {
	s.t.Helper()
	task, err := s.db.GetTask(s.t.Context(), id)
	must(s.t, err)
	if task.Status != status {
		s.t.Fatalf("%s is %s (%v), want %s", task.TaskType, task.Status, deref(task.ErrorMessage), status)
	}
	return task
}

// wantGenerations compares how many generations there are, and how many on the shot.
func (s *stage) wantGenerations(all, onShot int) []taskdb.Generation {
	s.t.Helper()
	list, err := s.db.ListGenerations(s.t.Context(), taskdb.Gallery{ProjectID: s.project, MaxRows: 100})
	must(s.t, err)
	linked, err := s.db.ListGenerations(s.t.Context(), taskdb.Gallery{ProjectID: s.project, ShotID: s.shot, MaxRows: 100})
	must(s.t, err)
	if len(list) != all || len(linked) != onShot {
		s.t.Fatalf("%d generations, %d on the shot; want %d and %d", len(list), len(linked), all, onShot)
	}
	return list
}

func (s *stage) wantCredits(available int64) {
	s.t.Helper()
	account, err := s.db.GetCredits(s.t.Context(), s.user)
	must(s.t, err)
	if account.Available != taskdb.WholeCredits(available) {
		s.t.Fatalf("%s credits, want %d", account.Available, available)
	}
}

func (s *stage) healthy() {
	s.t.Helper()
	faults, err := s.db.InvariantViolations(s.t.Context())
	must(s.t, err)
	for _, fault := range faults {
		s.t.Errorf("invariant %d: task %v: %s", fault.Rule, fault.TaskID, fault.Violation)
	}
}

// expire lets the leases of all running tasks run out and requeues them.
func (s *stage) expire() {
	s.t.Helper()
	for _, sql := range []string{
		"update tasks set claimed_at = claimed_at - interval '1 day' where status = 'In Progress'",
		"update workers set last_heartbeat = last_heartbeat - interval '1 day'",
		"update darkroom.lease_watch set last_run = clock_timestamp(), resumed_at = '-infinity'",
	} {
		_, err := s.pg.Pool.Exec(s.t.Context(), sql)
		must(s.t, err)
	}
	_, err := s.db.RequeueExpiredTasks(s.t.Context(), 100)
	must(s.t, err)
}

// answer is what a request gave.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) object(t testing.TB) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(a.body, &object); err != nil {
		t.Fatalf("answer %d %q is no JSON object", a.status, a.body)
	}
	return object
}

// want ends the test when the status is another one.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("answer %d %s, want %d", a.status, a.body, status)
	}
	return a
}

// wantError demands the shape of our errors.
func (a answer) wantError(t testing.TB, status int, code string) {
	t.Helper()
	got := a.want(t, status).object(t)
	if message, ok := got["message"].(string); got["code"] != code || !ok || message == "" || len(got) != 4 {
		t.Fatalf("error %s, want code %s", a.body, code)
	}
	if _, ok := got["details"]; !ok {
		t.Fatalf("error without details: %s", a.body)
	}
}

// send makes one request; pairs are headers.
func (s *stage) send(method, address string, body []byte, pairs ...string) (answer, error) {
	s.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = s.web.URL + address
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, address, bytes.NewReader(body))
	must(s.t, err)
	r.GetBody = nil // or Go's client would send it again by itself
	for i := 0; i < len(pairs); i += 2 {
		r.Header.Set(pairs[i], pairs[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, data}, err
}

// post calls a function with a key.
func (s *stage) post(key, function, body string) answer {
	s.t.Helper()
	got, err := s.send(http.MethodPost, "/functions/v1/"+function, []byte(body), "Content-Type", "application/json", "Authorization", "Bearer "+key)
	must(s.t, err)
	return got
}

func object(pairs ...any) json.RawMessage {
	fields := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		fields[pairs[i].(string)] = pairs[i+1]
	}
	data, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return data
}

func deref(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// Files as workers make them.

func pngOf(shade uint8) []byte {
	var file bytes.Buffer
	if err := png.Encode(&file, flat(shade)); err != nil {
		panic(err)
	}
	return file.Bytes()
}

func jpegOf(shade uint8) []byte {
	var file bytes.Buffer
	if err := jpeg.Encode(&file, flat(shade), nil); err != nil {
		panic(err)
	}
	return file.Bytes()
}

func flat(shade uint8) image.Image {
	picture := image.NewGray(image.Rect(0, 0, 16, 16))
	for i := range picture.Pix {
		picture.Pix[i] = color.Gray{Y: shade}.Y
	}
	return picture
}

// mp4Of begins as an MP4 does and is that large.
func mp4Of(size int, fill byte) []byte {
	return append([]byte("\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42"), bytes.Repeat([]byte{fill}, size-24)...)
}

// pathOf is what follows the bucket in an address of a stored file, as workers cut it out.
func pathOf(t testing.TB, address string) string {
	t.Helper()
	_, path, found := strings.Cut(address, "/storage/v1/object/public/image_uploads/")
	if !found {
		t.Fatalf("%q is no address of a stored file", address)
	}
	return path
}

// get fetches a public file without a key.
func (s *stage) get(address string) []byte {
	s.t.Helper()
	if _, err := url.Parse(address); err != nil {
		s.t.Fatal(err)
	}
	got, err := s.send(http.MethodGet, address, nil)
	must(s.t, err)
	return got.want(s.t, http.StatusOK).body
}
