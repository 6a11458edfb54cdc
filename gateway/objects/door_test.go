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
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

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

func TestUploadAndDownload(t *testing.T) {
	onBoth(t, func(b *testBundle) {
		t, data := b.t, picture(b.t, 5000, 1)
		key := b.ann.String() + "/uploads/a cat+dog.png"
		path := "/object/image_uploads/" + url.PathEscape(b.ann.String()) + "/uploads/a%20cat+dog.png"

		body, header := form(t, data, "image/png", "cacheControl", "60", "metadata", `{"from":"a test"}`)
		got := b.do("ann", http.MethodPost, path, body, "Content-Type", header)
		b.wantOK(got)
		if got.text(t, "Key") != "image_uploads/"+key || uuid.Validate(got.text(t, "Id")) != nil {
			t.Errorf("answer %s", got.body)
		}
		b.wantRefusal(b.do("ann", http.MethodPost, path, bytes.NewReader(data)), 400, "409", "KeyAlreadyExists")

		for _, who := range []string{"ann", "service"} {
			for _, route := range []string{"", "/authenticated"} {
				got := b.get(who, strings.Replace(path, "/object", "/object"+route, 1))
				if got.status != http.StatusOK || !bytes.Equal(got.body, data) || got.header.Get("Cache-Control") != "private, no-cache" ||
					got.header.Get("Content-Type") != "image/png" || got.header.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("%s%s: %d %v", who, route, got.status, got.header)
				}
			}
		}
		for _, who := range []string{"ben", "anon"} {
			b.wantRefusal(b.get(who, path), 400, "404", "NoSuchKey")
			b.wantRefusal(b.get(who, strings.Replace(path, "/object", "/object/info", 1)), 400, "404", "NoSuchKey")
		}
		if got := b.get("", path); got.status != http.StatusUnauthorized {
			t.Errorf("without a key: %d", got.status)
		}
		if got := b.do("ann", http.MethodHead, path, nil); got.status != http.StatusOK || len(got.body) > 0 {
			t.Errorf("HEAD: %d", got.status)
		}
		if got := b.do("ann", http.MethodHead, path+"x", nil); got.status != http.StatusBadRequest {
			t.Errorf("HEAD of nothing: %d", got.status)
		}

		public := strings.Replace(path, "/object", "/object/public", 1)
		got = b.get("", public)
		if got.status != http.StatusOK || !bytes.Equal(got.body, data) || got.header.Get("Cache-Control") != "public, max-age=60" || got.header.Get("Content-Disposition") != "" {
			t.Errorf("public: %d %v", got.status, got.header)
		}
		for ask, want := range map[string]string{
			"?download=": "attachment", "?download=my.png": "attachment; filename=my.png",
			"?download=" + url.QueryEscape("ä\"\r\nX: y"): `attachment; filename*=utf-8''%C3%A4%22%0D%0AX%3A%20y`,
		} {
			if got := b.get("", public+ask); got.header.Get("Content-Disposition") != want || got.header.Get("X") != "" {
				t.Errorf("%s: %q, want %q", ask, got.header.Get("Content-Disposition"), want)
			}
		}

		var info struct {
			Name        string            `json:"name"`
			BucketID    string            `json:"bucket_id"`
			Size        int64             `json:"size"`
			ContentType string            `json:"content_type"`
			Caching     string            `json:"cache_control"`
			Metadata    map[string]string `json:"metadata"`
		}
		b.get("ann", strings.Replace(path, "/object", "/object/info", 1)).into(t, &info)
		if info.Name != key || info.BucketID != bucketName || info.Size != 5000 || info.ContentType != "image/png" || info.Caching != "max-age=60" || info.Metadata["from"] != "a test" {
			t.Errorf("info %+v", info)
		}

		// Another takes its place by PUT, and by POST with x-upsert.
		for seed, send := range map[byte]func([]byte) answer{
			2: func(d []byte) answer { return b.do("ann", http.MethodPut, path, bytes.NewReader(d)) },
			3: func(d []byte) answer {
				return b.do("ann", http.MethodPost, path, bytes.NewReader(d), "X-Upsert", "true")
			},
		} {
			other := picture(t, 7000, seed)
			b.wantOK(send(other))
			if got := b.get("", public, "If-None-Match", got.header.Get("ETag")); got.status != http.StatusOK || !bytes.Equal(got.body, other) {
				t.Errorf("after %d: %d", seed, got.status)
			}
		}
		b.wantBalanced(b.ann)
		if bytes, rows, _ := b.counted(b.ann); bytes != 7000 || rows != 1 {
			t.Errorf("counted %d in %d", bytes, rows)
		}

		// A picture sent as bytes, with everything in headers.
		b.wantOK(b.upload("ann", b.ann.String()+"/raw.png", data, "Content-Type", "text/plain;charset=UTF-8", "Cache-Control", "max-age=7", "X-Metadata", "eyJhIjoiYiJ9"))
		b.get("ann", "/object/info/image_uploads/"+b.ann.String()+"/raw.png").into(t, &info)
		if info.Caching != "max-age=7" || info.Metadata["a"] != "b" || info.ContentType != "image/png" {
			t.Errorf("info %+v", info)
		}

		var removed []file
		answer := b.do("ann", http.MethodDelete, "/object/image_uploads", strings.NewReader(fmt.Sprintf(`{"prefixes":[%q,{"path":"%s/raw.png"},"%s/none.png","%s/x.png","../x"]}`, key, b.ann, b.ann, b.ben)))
		answer.into(t, &removed)
		if len(removed) != 2 || removed[0].Name != key || removed[0].BucketID != bucketName {
			t.Errorf("removed %s", answer.body)
		}
		b.wantRefusal(b.get("ann", path), 400, "404", "NoSuchKey")
		b.wantRefusal(b.get("", public), 404, "404", "GW005")
		b.wantRefusal(b.do("ann", http.MethodDelete, path, nil), 400, "404", "NoSuchKey")
		b.wantBalanced(b.ann)
		if _, rows, _ := b.counted(b.ann); rows != 0 {
			t.Errorf("%d rows are left", rows)
		}
	})
}

func TestUsersWriteTheirOwnOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	data := picture(t, 300, 1)
	task, attempt := b.runningTask()
	output := storage.OutputKey(b.ann, task, attempt, "a.png")
	_, err := b.bucket.Put(t.Context(), output, bytes.NewReader(data), 1<<20)
	must(t, err)
	own := b.ann.String() + "/a.png"
	b.wantOK(b.upload("ann", own, data))

	for _, who := range []string{"ben", "anon", "worker"} {
		for _, key := range []string{own, b.ann.String() + "/new.png", output, "new.png", b.ben.String(), "x/" + b.ben.String() + "/a.png"} {
			b.wantRefusal(b.upload(who, key, data), 400, "403", "AccessDenied")
			b.wantRefusal(b.upload(who, key, data, "X-Upsert", "true"), 400, "403", "AccessDenied")
			b.wantRefusal(b.do(who, http.MethodPut, "/object/image_uploads/"+key, bytes.NewReader(data)), 400, "403", "AccessDenied")
			b.wantRefusal(b.do(who, http.MethodDelete, "/object/image_uploads/"+key, nil), 400, "404", "NoSuchKey")
			b.wantRefusal(b.post(who, "/object/sign/image_uploads/"+key, `{"expiresIn":60}`), 400, "404", "NoSuchKey")
			if who != "worker" || key != output {
				b.wantRefusal(b.post(who, "/object/upload/sign/image_uploads/"+key, ""), 400, "403", "AccessDenied")
			}
			if got := b.do(who, http.MethodDelete, "/object/image_uploads", strings.NewReader(`{"prefixes":["`+key+`"]}`)); got.status != http.StatusOK || string(got.body) != "[]\n" {
				t.Errorf("%s removed %s: %d %s", who, key, got.status, got.body)
			}
			copied := `{"bucketId":"image_uploads","sourceKey":"` + key + `","destinationKey":"` + b.ben.String() + `/copy.png"}`
			b.wantRefusal(b.post(who, "/object/copy", copied), 400, "404", "NoSuchKey")
			b.wantRefusal(b.post(who, "/object/move", copied), 400, "404", "NoSuchKey")
		}
		if got := b.post(who, "/object/list/image_uploads", `{"prefix":"`+b.ann.String()+`"}`); got.status != http.StatusOK || string(got.body) != "[]\n" {
			t.Errorf("%s lists %s", who, got.body)
		}
	}

	// Below tasks nobody changes anything, and only the service adds.
	for _, key := range []string{output, b.ann.String() + "/tasks/mine.png", b.ann.String() + "/tasks", b.ann.String() + "/TASKS/x.png"} {
		b.wantRefusal(b.upload("ann", key, data), 400, "403", "AccessDenied")
		b.wantRefusal(b.upload("ann", key, data, "X-Upsert", "true"), 400, "403", "AccessDenied")
		b.wantRefusal(b.post("ann", "/object/upload/sign/image_uploads/"+key, ""), 400, "403", "AccessDenied")
		for _, who := range []string{"ann", "service"} {
			b.wantRefusal(b.do(who, http.MethodPut, "/object/image_uploads/"+key, bytes.NewReader(data)), 400, "403", "AccessDenied")
			b.wantRefusal(b.do(who, http.MethodDelete, "/object/image_uploads/"+key, nil), 400, "403", "AccessDenied")
			b.wantRefusal(b.do(who, http.MethodDelete, "/object/image_uploads", strings.NewReader(`{"prefixes":["`+key+`"]}`)), 400, "403", "AccessDenied")
			b.wantRefusal(b.post(who, "/object/move", `{"bucketId":"image_uploads","sourceKey":"`+key+`","destinationKey":"`+b.ann.String()+`/x.png"}`), 400, "403", "AccessDenied")
			b.wantRefusal(b.post(who, "/object/upload/sign/image_uploads/"+key, "", "X-Upsert", "true"), 400, "403", "AccessDenied")
		}
	}
	b.wantRefusal(b.upload("service", output, data), 400, "409", "KeyAlreadyExists")
	b.wantOK(b.upload("service", storage.OutputKey(b.ann, task, attempt, "b.png"), data))
	b.wantOK(b.upload("service", "shared/c.png", data))
	b.wantOK(b.do("service", http.MethodPut, "/object/image_uploads/shared/c.png", bytes.NewReader(picture(t, 400, 2))))
	if got := b.get("ann", "/object/image_uploads/"+output); !bytes.Equal(got.body, data) {
		t.Error("the output has changed")
	}
	if got := b.get("", "/object/public/image_uploads/"+output); got.header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
		t.Errorf("an output is kept for %q", got.header.Get("Cache-Control"))
	}
	// A copy of an output is an upload.
	b.wantOK(b.post("ann", "/object/copy", `{"bucketId":"image_uploads","sourceKey":"`+output+`","destinationKey":"`+b.ann.String()+`/copy.png"}`))
	b.wantBalanced(b.ann)
	if bytes, rows, _ := b.counted(b.ann); bytes != 600 || rows != 2 {
		t.Errorf("counted %d in %d: outputs do not count", bytes, rows)
	}
}

func TestMoveAndCopy(t *testing.T) {
	onBoth(t, func(b *testBundle) {
		t, data := b.t, picture(b.t, 300, 1)
		at := func(name string) string { return b.ann.String() + "/" + name }
		ask := func(from, to string) string {
			return fmt.Sprintf(`{"bucketId":"image_uploads","sourceKey":%q,"destinationKey":%q}`, at(from), at(to))
		}
		body, header := form(t, data, "image/png", "cacheControl", "60", "metadata", `{"a":1}`)
		b.wantOK(b.do("ann", http.MethodPost, "/object/image_uploads/"+at("a.png"), body, "Content-Type", header))
		got := b.post("ann", "/object/copy", ask("a.png", "b/c.png"))
		b.wantOK(got)
		if got.text(t, "Key") != "image_uploads/"+at("b/c.png") {
			t.Errorf("copied: %s", got.body)
		}
		got = b.get("", "/object/public/image_uploads/"+at("b/c.png"))
		if !bytes.Equal(got.body, data) || got.header.Get("Cache-Control") != "public, max-age=60" {
			t.Errorf("the copy: %v", got.header)
		}
		b.wantRefusal(b.post("ann", "/object/copy", ask("a.png", "b/c.png")), 400, "409", "KeyAlreadyExists")
		b.wantRefusal(b.post("ann", "/object/copy", ask("a.png", "a.png")), 400, "409", "KeyAlreadyExists")
		b.wantRefusal(b.post("ann", "/object/move", ask("a.png", "a.png"), "X-Upsert", "true"), 400, "409", "KeyAlreadyExists")
		b.wantRefusal(b.post("ann", "/object/copy", ask("none.png", "x.png")), 400, "404", "NoSuchKey")
		b.wantRefusal(b.post("ann", "/object/copy", strings.Replace(ask("a.png", "x.png"), "image_uploads", "other", 1)), 400, "404", "NoSuchBucket")
		b.wantRefusal(b.post("ann", "/object/copy", fmt.Sprintf(`{"bucketId":"image_uploads","sourceKey":%q,"destinationKey":%q}`, at("a.png"), b.ben.String()+"/x.png")), 400, "403", "AccessDenied")
		b.wantRefusal(b.post("ann", "/object/copy", ask("a.png", "../"+b.ben.String()+"/x.png")), 400, "400", "InvalidKey")
		got = b.post("ann", "/object/move", ask("a.png", "d.png"))
		b.wantOK(got)
		if got.text(t, "message") != "Successfully moved" {
			t.Errorf("moved: %s", got.body)
		}
		b.wantRefusal(b.get("ann", "/object/image_uploads/"+at("a.png")), 400, "404", "NoSuchKey")
		if got := b.get("ann", "/object/image_uploads/"+at("d.png")); !bytes.Equal(got.body, data) {
			t.Error("moved other bytes")
		}
		b.wantBalanced(b.ann)
		b.setQuota(b.ann, 700)
		b.wantRefusal(b.post("ann", "/object/copy", ask("d.png", "e.png")), 400, "413", "TD070")
		b.wantBalanced(b.ann)
	})
}

func TestWhatIsNotOfferedIsNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, try := range [][2]string{
		{http.MethodPost, "/upload/resumable"},
		{http.MethodGet, "/render/image/public/image_uploads/a.png"},
		{http.MethodPost, "/bucket"},
		{http.MethodPut, "/bucket/image_uploads"},
		{http.MethodDelete, "/bucket/image_uploads"},
		{http.MethodPost, "/vector/ListIndexes"},
		{http.MethodGet, ""},
		{http.MethodPost, "/object/list-v2/image_uploads"},
		{http.MethodDelete, "/cdn/image_uploads/a.png"},
		{http.MethodGet, "/iceberg/v1/config"},
		{http.MethodPost, "/bucket/image_uploads/empty"},
	} {
		got := b.do("service", try[0], try[1], strings.NewReader("{}"))
		b.wantRefusal(got, 501, "501", "GW030")
		if !strings.Contains(got.text(t, "details"), try[0]+" /storage/v1"+try[1]) {
			t.Errorf("%s does not name %v", got.body, try)
		}
	}
	b.wantRefusal(b.post("ann", "/object/sign/image_uploads/"+b.ann.String()+"/a.png", `{"expiresIn":1,"transform":{"width":5}}`), 501, "501", "GW030")
	for _, path := range []string{"/object/other/a.png", "/object/info/other/a.png", "/object/public/other/a.png", "/bucket/other", "/object/upload/sign/x"} {
		if got := b.get("ann", path); got.status != 400 && got.status != 404 {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	var buckets []struct {
		ID     string `json:"id"`
		Public bool   `json:"public"`
		Limit  int64  `json:"file_size_limit"`
	}
	b.get("ann", "/bucket").into(t, &buckets)
	if len(buckets) != 1 || buckets[0].ID != bucketName || !buckets[0].Public || buckets[0].Limit != maxUpload {
		t.Errorf("buckets %+v", buckets)
	}
	if got := b.get("ann", "/bucket/image_uploads"); got.text(t, "id") != bucketName {
		t.Errorf("bucket %s", got.body)
	}
	if got := b.get("", "/bucket"); got.status != http.StatusUnauthorized {
		t.Errorf("buckets for nobody: %d", got.status)
	}
}

func TestListing(t *testing.T) {
	onBoth(t, func(b *testBundle) {
		t, data := b.t, picture(b.t, 300, 1)
		for _, name := range []string{"b.png", "c.png", "A.png", "x/1.png", "y/z/2.png"} {
			b.wantOK(b.upload("ann", b.ann.String()+"/"+name, data))
			time.Sleep(20 * time.Millisecond) // their times differ
		}
		_, err := b.bucket.Put(t.Context(), storage.OutputKey(b.ann, uuid.New(), 1, "o.png"), bytes.NewReader(data), 1<<20)
		must(t, err)
		_, err = b.bucket.Put(t.Context(), b.ben.String()+"/secret.png", bytes.NewReader(data), 1<<20)
		must(t, err)
		for ask, want := range map[string]string{
			`"prefix":""`:                                    b.ann.String() + "/",
			`"prefix":"%s"`:                                  "tasks/ x/ y/ A.png b.png c.png",
			`"prefix":"%s/"`:                                 "tasks/ x/ y/ A.png b.png c.png",
			`"prefix":"%s","limit":2`:                        "tasks/ x/",
			`"prefix":"%s","limit":2,"offset":3`:             "A.png b.png",
			`"prefix":"%s","offset":100`:                     "",
			`"prefix":"%s","sortBy":{"order":"desc"}`:        "y/ x/ tasks/ c.png b.png A.png",
			`"prefix":"%s","sortBy":{"column":"created_at"}`: "tasks/ x/ y/ b.png c.png A.png",
			`"prefix":"%s","sortBy":{"column":"updated_at","order":"desc"}`: "y/ x/ tasks/ A.png c.png b.png",
			`"prefix":"%s","search":"a"`:                                    "A.png",
			`"prefix":"%s/y"`:                                               "z/",
			`"prefix":"%s/y/z"`:                                             "2.png",
			`"prefix":"%s/none"`:                                            "",
			`"prefix":"` + b.ben.String() + `"`:                             "",
		} {
			got := b.post("ann", "/object/list/image_uploads", "{"+strings.ReplaceAll(ask, "%s", b.ann.String())+"}")
			b.wantOK(got)
			var files []file
			got.into(t, &files)
			var names []string
			for _, f := range files {
				if f.ID == nil {
					f.Name += "/"
				} else if f.Metadata["size"] != 300.0 || f.Metadata["mimetype"] != "image/png" || f.CreatedAt == nil || f.UpdatedAt == nil {
					t.Errorf("%+v", f)
				}
				names = append(names, f.Name)
			}
			if strings.Join(names, " ") != want {
				t.Errorf("%s lists %q, want %q", ask, names, want)
			}
		}
		for _, bad := range []string{
			`"limit":0`, `"limit":1001`, `"limit":-1`, `"offset":-1`, `"limit":"x"`, `"prefix":"../x"`, `"prefix":"a//b"`, `"prefix":"a%2fb"`,
			`"sortBy":{"column":"owner; drop table users"}`, `"sortBy":{"order":"up"}`, `"prefix":7`,
		} {
			b.wantRefusal(b.post("ann", "/object/list/image_uploads", "{"+bad+"}"), 400, "400", "InvalidRequest")
		}
		b.wantRefusal(b.post("ann", "/object/list/image_uploads", "{"), 400, "400", "InvalidRequest")
		b.wantRefusal(b.post("ann", "/object/list/other", "{}"), 400, "404", "NoSuchBucket")
		var all []file
		b.post("service", "/object/list/image_uploads", `{"prefix":""}`).into(t, &all)
		if len(all) != 2 {
			t.Errorf("the service sees %+v", all)
		}
	})
}

func TestMain(m *testing.M) {
	if os.Getenv(crashPoint) != "" {
		crash()
	}
	os.Exit(m.Run())
}
