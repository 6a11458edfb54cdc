package objects

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/storage"
	"darkroom/gateway/storage/s3test"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

const maxUpload = 1 << 20

// testBundle is a door over a database and a bucket, with two users.
type testBundle struct {
	t          *testing.T
	pg         *taskdbtest.DB
	bucket     *storage.Bucket
	bucketURL  string
	door       *Door
	web        *httptest.Server
	log        *syncBuffer
	ann, ben   uuid.UUID
	identities map[string]identity.Identity // by the key that a request carries
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	return setupOver(t, "file://"+t.TempDir())
}

// onBoth runs a test over a folder, and over an S3 server where there is one.
func onBoth(t *testing.T, test func(*testBundle)) {
	t.Helper()
	t.Parallel()
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		test(setup(t))
	})
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		test(setupOver(t, s3test.Start(t).MakeBucket(t, "media")))
	})
}

func setupOver(t *testing.T, bucketURL string) *testBundle {
	t.Helper()
	ctx := t.Context()
	b := &testBundle{t: t, pg: taskdbtest.New(t), bucketURL: bucketURL, log: &syncBuffer{}, ann: uuid.New(), ben: uuid.New()}
	b.bucket = b.open()
	b.identities = map[string]identity.Identity{
		"anon":    {Role: identity.Anon, Claims: json.RawMessage(`{"role":"anon"}`)},
		"service": {Role: identity.Service, Claims: json.RawMessage(`{"role":"service_role"}`)},
	}
	for name, id := range map[string]uuid.UUID{"ann": b.ann, "ben": b.ben} {
		b.identities[name] = identity.Identity{Role: identity.Authenticated, Subject: id, Claims: json.RawMessage(fmt.Sprintf(`{"role":"authenticated","sub":%q}`, id))}
	}
	db, err := identity.New(ctx, b.gatewayPool())
	must(t, err)
	b.door = New(Config{
		Bucket: b.bucket, DB: db, Signer: NewSigner([]byte("a secret of thirty-two bytes ....")), MaxUpload: maxUpload,
		Log: slog.New(slog.NewTextHandler(b.log, nil)),
	})
	b.web = b.serve(b.door)
	return b
}

func (b *testBundle) open() *storage.Bucket {
	b.t.Helper()
	bucket, err := storage.Open(b.t.Context(), b.bucketURL)
	must(b.t, err)
	b.t.Cleanup(func() { must(b.t, bucket.Close()) })
	return bucket
}

func (b *testBundle) serve(door *Door) *httptest.Server {
	e := echo.New()
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if who, found := b.identities[c.Request().Header.Get("Apikey")]; found {
				identity.Set(c, who)
			}
			return next(c)
		}
	})
	door.Routes(e)
	web := httptest.NewServer(e)
	b.t.Cleanup(web.Close)
	return web
}

// gatewayPool has the rights of the gateway's own login.
func (b *testBundle) gatewayPool() *pgxpool.Pool {
	b.t.Helper()
	ctx := b.t.Context()
	login := pgx.Identifier{"gateway_" + strings.ReplaceAll(uuid.NewString(), "-", "")}.Sanitize()
	_, err := b.pg.Pool.Exec(ctx, "create role "+login+" login in role authenticator")
	must(b.t, err)
	config, err := pgxpool.ParseConfig(b.pg.URL)
	must(b.t, err)
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "set session authorization "+login)
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(b.t, err)
	b.t.Cleanup(func() {
		pool.Close()
		_, _ = b.pg.Pool.Exec(context.WithoutCancel(ctx), "drop role "+login)
	})
	return pool
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) into(t *testing.T, target any) {
	t.Helper()
	if err := json.Unmarshal(a.body, target); err != nil {
		t.Fatalf("%d %q is not what was expected: %v", a.status, a.body, err)
	}
}

func (a answer) text(t *testing.T, name string) string {
	t.Helper()
	var object map[string]any
	a.into(t, &object)
	text, _ := object[name].(string)
	return text
}

// do sends a request as somebody; pairs are headers.
func (b *testBundle) do(who, method, path string, body io.Reader, pairs ...string) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.web.URL+"/storage/v1"+path, body)
	must(b.t, err)
	if who != "" {
		r.Header.Set("Apikey", who)
	}
	for i := 0; i < len(pairs); i += 2 {
		r.Header.Set(pairs[i], pairs[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	must(b.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	must(b.t, err)
	return answer{response.StatusCode, response.Header, data}
}

func (b *testBundle) get(who, path string, pairs ...string) answer {
	b.t.Helper()
	return b.do(who, http.MethodGet, path, nil, pairs...)
}

func (b *testBundle) post(who, path, body string, pairs ...string) answer {
	b.t.Helper()
	return b.do(who, http.MethodPost, path, strings.NewReader(body), append([]string{"Content-Type", "application/json"}, pairs...)...)
}

// upload stores raw bytes.
func (b *testBundle) upload(who, key string, data []byte, pairs ...string) answer {
	b.t.Helper()
	return b.do(who, http.MethodPost, "/object/image_uploads/"+key, bytes.NewReader(data), pairs...)
}

func (b *testBundle) wantOK(got answer) {
	b.t.Helper()
	if got.status != http.StatusOK {
		b.t.Fatalf("%d %s", got.status, got.body)
	}
}

// wantRefusal checks the shape of an error, its HTTP status, its true one, and its code.
func (b *testBundle) wantRefusal(got answer, status int, statusCode, code string) {
	b.t.Helper()
	var object map[string]any
	got.into(b.t, &object)
	if got.status != status || object["statusCode"] != statusCode || object["code"] != code {
		b.t.Errorf("%d %s, want %d with statusCode %s and code %s", got.status, got.body, status, statusCode, code)
	}
	for _, key := range []string{"error", "message"} {
		if text, _ := object[key].(string); text == "" {
			b.t.Errorf("%s has no %s", got.body, key)
		}
	}
	if got.header.Get("Cache-Control") != "no-store" {
		b.t.Errorf("an error may be kept: %q", got.header.Get("Cache-Control"))
	}
}

// counted is what the database counts for a user, and how many rows that are.
func (b *testBundle) counted(user uuid.UUID) (bytes, rows, reserved int64) {
	b.t.Helper()
	must(b.t, b.pg.Pool.QueryRow(b.t.Context(),
		"select coalesce(sum(bytes), 0), count(*), count(reservation) from darkroom.uploads where owner_id = $1", user).Scan(&bytes, &rows, &reserved))
	return bytes, rows, reserved
}

// stored is what the bucket holds of a user's uploads.
func (b *testBundle) stored(user uuid.UUID) (bytes, files int64) {
	b.t.Helper()
	for token := ""; ; {
		page, next, err := b.bucket.Page(b.t.Context(), token)
		must(b.t, err)
		for _, object := range page {
			if strings.HasPrefix(object.Key, user.String()+"/") && !storage.OfTask(object.Key) {
				bytes += object.Size
				files++
			}
		}
		if token = next; token == "" {
			return bytes, files
		}
	}
}

// wantBalanced shows that storage and rows say the same, and that nothing is reserved.
func (b *testBundle) wantBalanced(user uuid.UUID) {
	b.t.Helper()
	bytes, rows, reserved := b.counted(user)
	storedBytes, files := b.stored(user)
	if bytes != storedBytes || rows != files || reserved != 0 {
		b.t.Errorf("rows: %d bytes in %d, %d reserved; stored: %d bytes in %d", bytes, rows, reserved, storedBytes, files)
	}
}

func (b *testBundle) setQuota(user uuid.UUID, bytes int64) {
	b.t.Helper()
	_, err := b.pg.Pool.Exec(b.t.Context(), "insert into users (id, storage_quota) values ($1, $2) on conflict (id) do update set storage_quota = $2", user, bytes)
	must(b.t, err)
}

// picture is a PNG of any size from 200 bytes up; each seed makes another.
func picture(t testing.TB, size int, seed byte) []byte {
	t.Helper()
	var data bytes.Buffer
	must(t, png.Encode(&data, image.NewGray(image.Rect(0, 0, 8, 8))))
	return append(data.Bytes(), bytes.Repeat([]byte{seed}, max(size-data.Len(), 0))...)
}

// form is a body as storage-js makes it of a Blob; fields are names and values, and stand before the file.
func form(t testing.TB, file []byte, contentType string, fields ...string) (body *bytes.Buffer, header string) {
	t.Helper()
	body = &bytes.Buffer{}
	w := multipart.NewWriter(body)
	for i := 0; i < len(fields); i += 2 {
		must(t, w.WriteField(fields[i], fields[i+1]))
	}
	part, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name=""; filename="blob"`}, "Content-Type": {contentType}})
	must(t, err)
	_, err = part.Write(file)
	must(t, err)
	must(t, w.Close())
	return body, w.FormDataContentType()
}

// runningTask makes a task of ann that a worker with a token runs, whose identity is "worker".
func (b *testBundle) runningTask() (task uuid.UUID, attempt int) {
	b.t.Helper()
	ctx := b.t.Context()
	db := taskdb.New(b.pg.Pool)
	_, err := b.pg.Pool.Exec(ctx, "insert into users (id) values ($1) on conflict do nothing", b.ann)
	must(b.t, err)
	_, err = db.GrantCredits(ctx, b.ann, taskdb.WholeCredits(100), "", uuid.NewString())
	must(b.t, err)
	project, err := db.CreateProject(ctx, b.ann, "test")
	must(b.t, err)
	created, err := db.CreateTask(ctx, taskdb.NewTask{ProjectID: project.ID, ToolID: "image-generation", Input: json.RawMessage(`{"prompt":"a cat"}`)})
	must(b.t, err)
	token := uuid.New()
	_, err = b.pg.Pool.Exec(ctx, "insert into darkroom.access_tokens (id, owner_id, scope, prefix, hash) values ($1, $2, 'worker', 'x', $3)", token, b.ann, token[:])
	must(b.t, err)
	who := identity.Identity{Role: identity.Worker, Subject: b.ann, Token: token, Claims: json.RawMessage(fmt.Sprintf(`{"role":"worker","sub":%q,"token_id":%q}`, b.ann, token))}
	b.identities["worker"] = who
	must(b.t, b.door.db.As(ctx, who, pgx.ReadWrite, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select register_worker('gpu')"); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "select id, attempt from claim_next_task('gpu')").Scan(&task, &attempt)
	}))
	if task != created.ID {
		b.t.Fatalf("claimed %s, not %s", task, created.ID)
	}
	return task, attempt
}

var discardLog = slog.New(slog.DiscardHandler)

type syncBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.String()
}
