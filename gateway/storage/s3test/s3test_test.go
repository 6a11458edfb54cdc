package s3test_test

import (
	"net/http"
	"testing"

	"darkroom/gateway/storage/s3test"
)

// The server answers, knows its buckets, and lets nobody in without credentials. Run alone with DARKROOM_TEST_S3=1 this compiles the server.
func TestServer(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	server.MakeBucket(t, "media")
	for path, want := range map[string]int{"/health": http.StatusOK, "/media/a.png": http.StatusForbidden} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.Endpoint()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, response.StatusCode, want)
		}
	}
}
