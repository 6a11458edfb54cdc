package server_test

import (
	"bytes"
	"net/http"
	"os"
	"strconv"
	"testing"

	"darkroom/gateway/storage"
)

// store puts a picture into the storage and returns its bytes and path.
func (b *testBundle) store(name string) (data []byte, path string) {
	b.t.Helper()
	data, err := os.ReadFile("../../testdata/pictures/cat.jpg")
	must(b.t, err)
	key := storage.UploadKey(b.user, name)
	_, err = b.bucket.Put(b.t.Context(), key, bytes.NewReader(data), int64(len(data)))
	must(b.t, err)
	return data, storage.URL("", key)
}

func TestFilesAreServedWholeAndInRanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	data, path := b.store("a cat+dog.jpg")
	size := strconv.Itoa(len(data))

	whole := do(t, http.MethodGet, b.web.URL+path, "")
	if whole.status != http.StatusOK || !bytes.Equal(whole.body, data) {
		t.Fatalf("%d, %d bytes", whole.status, len(whole.body))
	}
	for name, value := range map[string]string{
		"Content-Type": "image/jpeg", "Content-Length": size, "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff",
		"Cache-Control": "public, max-age=31536000, immutable", "Content-Disposition": "",
	} {
		if whole.header.Get(name) != value {
			t.Errorf("%s: %q", name, whole.header.Get(name))
		}
	}
	if head := do(t, http.MethodHead, b.web.URL+path, ""); head.status != http.StatusOK || head.header.Get("Content-Length") != size || len(head.body) > 0 {
		t.Errorf("HEAD: %d %v", head.status, head.header)
	}
	if same := do(t, http.MethodGet, b.web.URL+path, "", "If-None-Match", whole.header.Get("ETag")); same.status != http.StatusNotModified {
		t.Errorf("If-None-Match: %d", same.status)
	}
	for asked, want := range map[string]struct {
		part   []byte
		ranges string
	}{
		"bytes=0-99":      {data[:100], "bytes 0-99/" + size},
		"bytes=1000-":     {data[1000:], "bytes 1000-" + strconv.Itoa(len(data)-1) + "/" + size},
		"bytes=-5":        {data[len(data)-5:], "bytes " + strconv.Itoa(len(data)-5) + "-" + strconv.Itoa(len(data)-1) + "/" + size},
		"bytes=0-9999999": {data, "bytes 0-" + strconv.Itoa(len(data)-1) + "/" + size},
	} {
		got := do(t, http.MethodGet, b.web.URL+path, "", "Range", asked)
		if got.status != http.StatusPartialContent || !bytes.Equal(got.body, want.part) || got.header.Get("Content-Range") != want.ranges {
			t.Errorf("%s: %d %s, %d bytes", asked, got.status, got.header.Get("Content-Range"), len(got.body))
		}
	}
	for _, asked := range []string{"bytes=9999999-", "bytes=5-1", "pages=1"} {
		got := do(t, http.MethodGet, b.web.URL+path, "", "Range", asked)
		b.wantError(got, http.StatusRequestedRangeNotSatisfiable, "GW009")
		if got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be kept", asked)
		}
	}
}

func TestOnlyStoredFilesAreServed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, path := b.store("cat.jpg")
	const public = "/storage/v1/object/public/image_uploads/"
	for _, bad := range []string{
		path + "x", path + "/", path + "%00", public, public + b.user.String(), public + b.user.String() + "/uploads/", public + "..%2f..%2fetc%2fpasswd",
		public + "%2e%2e/%2e%2e/etc/passwd", public + "/etc/passwd", public + `..\..\etc\passwd`, public + b.user.String() + "%2fuploads%2fcat.jpg",
	} {
		b.wantError(do(t, http.MethodGet, b.web.URL+bad, ""), http.StatusNotFound, "GW005")
	}
	b.wantError(do(t, http.MethodPost, b.web.URL+path, "{}"), http.StatusMethodNotAllowed, "GW006")
	b.wantError(b.send(http.MethodDelete, path, ""), http.StatusMethodNotAllowed, "GW006")
	if head := do(t, http.MethodHead, b.web.URL+path+"x", ""); head.status != http.StatusNotFound || len(head.body) > 0 {
		t.Errorf("HEAD of nothing: %d", head.status)
	}
}
