package objects

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/storage"
)

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
		if !strings.Contains(got.text(t, "message"), try[0]+" /storage/v1"+try[1]) {
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

			`"prefix":"%s","search":"a"`:        "A.png",
			`"prefix":"%s/y"`:                   "z/",
			`"prefix":"%s/y/z"`:                 "2.png",
			`"prefix":"%s/none"`:                "",
			`"prefix":"` + b.ben.String() + `"`: "",
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
