package server_test

import (
	"bytes"
	"net/http"
	"os"
	"strconv"
	"strings"
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

// Files have limits of their own: an upload may be larger than other bodies, and everybody reads what is public.
func TestFilesComeAndGo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	data, path := b.store("a cat+dog.jpg")
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		got := do(t, method, b.web.URL+path, "")
		if got.status != http.StatusOK || got.header.Get("Content-Length") != strconv.Itoa(len(data)) || got.header.Get("Content-Security-Policy") != "" {
			t.Errorf("%s: %d %v", method, got.status, got.header)
		}
	}
	large := string(data) + strings.Repeat("x", 3<<20)
	const key = "/image_uploads/shared/large.jpg"
	if got := b.send(http.MethodPost, "/storage/v1/object"+key, large, "Content-Type", "image/jpeg"); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := do(t, http.MethodGet, b.web.URL+"/storage/v1/object/public"+key, ""); string(got.body) != large {
		t.Errorf("%d, %d bytes", got.status, len(got.body))
	}
	signed := b.send(http.MethodPost, "/storage/v1/object/sign"+key, `{"expiresIn":60}`).json(t)["signedURL"].(string)
	if got := do(t, http.MethodGet, b.web.URL+"/storage/v1"+signed, ""); string(got.body) != large {
		t.Errorf("%d, %d bytes", got.status, len(got.body))
	}
	upload := b.send(http.MethodPost, "/storage/v1/object/upload/sign/image_uploads/shared/signed.jpg", "{}").json(t)["url"].(string)
	if got := do(t, http.MethodPut, b.web.URL+"/storage/v1"+upload, large, "Content-Type", "image/jpeg"); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := do(t, http.MethodGet, b.web.URL+"/storage/v1/object"+key, ""); got.status != http.StatusUnauthorized {
		t.Errorf("without a key: %d %s", got.status, got.body)
	}
	if strings.Contains(b.log.String(), "token=") {
		t.Error("the log has a token")
	}
}
