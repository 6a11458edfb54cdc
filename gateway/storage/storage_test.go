package storage_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/uuid"

	"darkroom/gateway/storage"
)

const mebibyte = 1 << 20

// putterFolder, when set, makes the test binary a process that stores what it reads from its standard input.
const putterFolder = "DARKROOM_TEST_PUTTER_FOLDER"

func TestMain(m *testing.M) {
	if folder := os.Getenv(putterFolder); folder != "" {
		if err := putStdin(folder); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func putStdin(folder string) error {
	ctx := context.Background()
	bucket, err := storage.Open(ctx, fileURL(folder))
	if err != nil {
		return err
	}
	_, err = bucket.Put(ctx, "u/a.png", os.Stdin, mebibyte)
	return errors.Join(err, bucket.Close())
}

func fileURL(folder string) string {
	return (&url.URL{Scheme: "file", Path: folder}).String()
}

// setup opens a bucket over a new folder whose name has a blank.
func setup(t *testing.T) (*storage.Bucket, string) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "my media")
	return open(t, folder), folder
}

func open(t *testing.T, folder string) *storage.Bucket {
	t.Helper()
	bucket, err := storage.Open(t.Context(), fileURL(folder))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bucket.Close(); err != nil {
			t.Error(err)
		}
	})
	return bucket
}

func pngBytes(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewRGBA(image.Rect(0, 0, 64, 64))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(t *testing.T, bucket *storage.Bucket, key string) []byte {
	t.Helper()
	object, err := bucket.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(object)
	if err := errors.Join(err, object.Close()); err != nil {
		t.Fatal(err)
	}
	return content
}

func list(t *testing.T, bucket *storage.Bucket, prefix string) []string {
	t.Helper()
	var keys []string
	for info, err := range bucket.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func TestPutStoresWhatGetReads(t *testing.T) {
	t.Parallel()
	bucket, _ := setup(t)
	content := pngBytes(t)
	key := storage.OutputKey(uuid.New(), uuid.New(), 1, "a picture.png")

	info, err := bucket.Put(t.Context(), key, iotest.OneByteReader(bytes.NewReader(content)), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	if info.Key != key || info.Size != int64(len(content)) || info.ContentType != "image/png" || info.ModTime.IsZero() || info.ETag == "" {
		t.Errorf("Put = %+v", info)
	}
	if stat, err := bucket.Stat(t.Context(), key); err != nil || stat != info {
		t.Errorf("Stat = %+v, %v; want %+v", stat, err, info)
	}
	if !bytes.Equal(read(t, bucket, key), content) {
		t.Error("Get read other bytes than Put stored")
	}
}

func TestGetServesRanges(t *testing.T) {
	t.Parallel()
	bucket, _ := setup(t)
	content := pngBytes(t)
	if _, err := bucket.Put(t.Context(), "u/a.png", bytes.NewReader(content), mebibyte); err != nil {
		t.Fatal(err)
	}
	object, err := bucket.Get(t.Context(), "u/a.png")
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()

	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	request.Header.Set("Range", "bytes=10-19")
	answer := httptest.NewRecorder()
	answer.Header().Set("Content-Type", object.ContentType)
	answer.Header().Set("ETag", object.ETag)
	http.ServeContent(answer, request, "", object.ModTime, object)
	if answer.Code != http.StatusPartialContent || !bytes.Equal(answer.Body.Bytes(), content[10:20]) {
		t.Errorf("status %d, body %q; want 206 and %q", answer.Code, answer.Body, content[10:20])
	}

	request.Header.Del("Range")
	request.Header.Set("If-None-Match", object.ETag)
	answer = httptest.NewRecorder()
	answer.Header().Set("ETag", object.ETag)
	http.ServeContent(answer, request, "", object.ModTime, object)
	if answer.Code != http.StatusNotModified {
		t.Errorf("status %d for a known ETag; want 304", answer.Code)
	}
}

func TestPutNeverOverwrites(t *testing.T) {
	t.Parallel()
	bucket, _ := setup(t)
	first := pngBytes(t)
	if _, err := bucket.Put(t.Context(), "u/a.png", bytes.NewReader(first), mebibyte); err != nil {
		t.Fatal(err)
	}
	second := append(bytes.Clone(first), "late"...)
	if _, err := bucket.Put(t.Context(), "u/a.png", bytes.NewReader(second), mebibyte); !errors.Is(err, storage.ErrExists) {
		t.Errorf("second Put: %v; want ErrExists", err)
	}
	if !bytes.Equal(read(t, bucket, "u/a.png"), first) {
		t.Error("the second Put changed the object")
	}
}

func TestOfManyPutsAtOnceOneStores(t *testing.T) {
	t.Parallel()
	_, folder := setup(t)
	content := pngBytes(t)
	const writers, rounds = 8, 25
	for round := range rounds {
		key := fmt.Sprintf("u/%d.png", round)
		var (
			group  sync.WaitGroup
			stored sync.Map
			ready  sync.WaitGroup
		)
		ready.Add(writers)
		for writer := range writers {
			bucket := open(t, folder) // as in a process of its own
			group.Go(func() {
				mine := append(bytes.Clone(content), byte(writer))
				all := io.MultiReader(bytes.NewReader(mine), endWhenDone{&ready})
				switch _, err := bucket.Put(t.Context(), key, all, mebibyte); {
				case err == nil:
					stored.Store(writer, mine)
				case !errors.Is(err, storage.ErrExists):
					t.Errorf("writer %d: %v", writer, err)
				}
			})
		}
		group.Wait()
		winners := 0
		for _, mine := range stored.Range {
			winners++
			if got := read(t, open(t, folder), key); !bytes.Equal(got, mine.([]byte)) {
				t.Errorf("%s holds what another writer stored", key)
			}
		}
		if winners != 1 {
			t.Fatalf("%d writers stored %s; want 1", winners, key)
		}
	}
}

// endWhenDone is the end of a file that comes once every writer has got that far, so that all store at the same time.
type endWhenDone struct{ ready *sync.WaitGroup }

func (e endWhenDone) Read([]byte) (int, error) {
	e.ready.Done()
	e.ready.Wait()
	return 0, io.EOF
}

func TestKilledWriterLeavesNothingVisible(t *testing.T) {
	t.Parallel()
	bucket, folder := setup(t)
	content := pngBytes(t)

	writer := exec.CommandContext(t.Context(), os.Args[0])
	writer.Env = append(os.Environ(), putterFolder+"="+folder)
	stdin, err := writer.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	// More than a pipe holds: when this returns, the writer has its file open and a part of it written.
	if _, err := stdin.Write(append(bytes.Clone(content), make([]byte, mebibyte/2)...)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := writer.Wait(); err == nil {
		t.Fatal("the writer ended well before it was killed")
	}

	left, err := filepath.Glob(filepath.Join(folder, "u", "*.tmp"))
	if err != nil || len(left) != 1 {
		t.Fatalf("temporary files %q, %v; want one, or the writer was not in mid-write", left, err)
	}
	if _, err := bucket.Stat(t.Context(), "u/a.png"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Stat of the half object: %v; want ErrNotFound", err)
	}
	if _, err := bucket.Get(t.Context(), "u/"+filepath.Base(left[0])); !errors.Is(err, storage.ErrKey) {
		t.Errorf("Get of the temporary file: %v; want ErrKey", err)
	}
	if keys := list(t, bucket, ""); len(keys) != 0 {
		t.Errorf("List = %q; want nothing", keys)
	}
	if _, err := bucket.Put(t.Context(), "u/a.png", bytes.NewReader(content), mebibyte); err != nil {
		t.Errorf("Put after the killed writer: %v", err)
	}
}

func TestPutDecidesTheTypeFromTheBytes(t *testing.T) {
	t.Parallel()
	var picture bytes.Buffer
	if err := jpeg.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	ftyp := func(brands ...string) string {
		box := "ftyp" + brands[0] + "\x00\x00\x02\x00" + strings.Join(brands[1:], "")
		return string(binary.BigEndian.AppendUint32(nil, uint32(len(box)+4))) + box
	}
	stored := map[string]string{
		"image/jpeg": picture.String(),
		"image/png":  string(pngBytes(t)),
		"image/webp": "RIFF\x1a\x00\x00\x00WEBPVP8L",
		"video/mp4":  ftyp("isom", "isom", "iso2", "avc1", "mp41"),
		"video/webm": "\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm",
	}
	refused := map[string]string{
		"empty":         "",
		"text":          "a picture, honestly",
		"HTML":          "<!DOCTYPE html><script>alert(1)</script>",
		"SVG":           `<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`,
		"GIF":           "GIF89a\x01\x00\x01\x00",
		"PDF":           "%PDF-1.7",
		"zip":           "PK\x03\x04",
		"Matroska":      "\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska",
		"QuickTime":     ftyp("qt  ", "qt  "),
		"HEIC":          ftyp("heic", "mif1", "heic"),
		"playlist":      "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
		"half of a PNG": "\x89PNG",
	}
	bucket, _ := setup(t)
	for mediaType, content := range stored {
		info, err := bucket.Put(t.Context(), "u/"+strings.ReplaceAll(mediaType, "/", "."), strings.NewReader(content), mebibyte)
		if err != nil || info.ContentType != mediaType {
			t.Errorf("Put of %s = %q, %v", mediaType, info.ContentType, err)
		}
	}
	for name, content := range refused {
		if _, err := bucket.Put(t.Context(), "u/x.png", strings.NewReader(content), mebibyte); !errors.Is(err, storage.ErrMediaType) {
			t.Errorf("Put of %s: %v; want ErrMediaType", name, err)
		}
	}
	if keys := list(t, bucket, ""); len(keys) != len(stored) {
		t.Errorf("List = %q; want the %d stored", keys, len(stored))
	}
}

func TestPutThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	bucket, folder := setup(t)
	content := pngBytes(t)
	endless := io.MultiReader(bytes.NewReader(content), endlessReader{})
	if _, err := bucket.Put(t.Context(), "u/a.png", endless, mebibyte); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("endless Put: %v; want ErrTooLarge", err)
	}
	errLine := errors.New("line cut")
	if _, err := bucket.Put(t.Context(), "u/a.png", io.MultiReader(bytes.NewReader(content), iotest.ErrReader(errLine)), mebibyte); !errors.Is(err, errLine) {
		t.Errorf("Put from a broken reader: %v; want its error", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := bucket.Put(cancelled, "u/a.png", bytes.NewReader(content), mebibyte); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Put: %v; want context.Canceled", err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "u", "*"))
	if err != nil || len(files) != 0 {
		t.Errorf("files left: %q, %v", files, err)
	}
}

type endlessReader struct{}

func (endlessReader) Read(p []byte) (int, error) { return len(p), nil }

func TestHostileKeysReachNothing(t *testing.T) {
	t.Parallel()
	bucket, folder := setup(t)
	secret := filepath.Join(filepath.Dir(folder), "b")
	if err := os.WriteFile(secret, pngBytes(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, key := range hostileKeys() {
		_, errPut := bucket.Put(t.Context(), key, bytes.NewReader(pngBytes(t)), mebibyte)
		_, errGet := bucket.Get(t.Context(), key)
		errDelete := bucket.Delete(t.Context(), key)
		for _, err := range []error{errPut, errGet, errDelete} {
			if !errors.Is(err, storage.ErrKey) {
				t.Errorf("%s: %v; want ErrKey", name, err)
			}
		}
	}
	for _, prefix := range []string{"../", "/", "a", "a/../", "%2e%2e/"} {
		for _, err := range bucket.List(t.Context(), prefix) {
			if !errors.Is(err, storage.ErrKey) {
				t.Errorf("List of %q: %v; want ErrKey", prefix, err)
			}
		}
	}
	if _, err := os.Stat(secret); err != nil {
		t.Error(err)
	}
}

func TestLinksDoNotLeadOutside(t *testing.T) {
	t.Parallel()
	bucket, folder := setup(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret.png"), pngBytes(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"file.png": filepath.Join(outside, "secret.png"), "folder": outside} {
		if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"file.png", "folder/secret.png"} {
		if object, err := bucket.Get(t.Context(), key); err == nil {
			t.Errorf("Get read %s through a link, %d bytes", key, object.Size)
		}
		if err := bucket.Delete(t.Context(), key); err == nil {
			t.Errorf("Delete followed a link at %s", key)
		}
	}
	if _, err := bucket.Put(t.Context(), "folder/new.png", bytes.NewReader(pngBytes(t)), mebibyte); err == nil {
		t.Error("Put followed a link")
	}
	if keys := list(t, bucket, ""); len(keys) != 0 {
		t.Errorf("List = %q; want nothing", keys)
	}
	for info, err := range bucket.List(t.Context(), "folder/") {
		if err == nil {
			t.Errorf("List followed a link to %q", info.Key)
		}
	}
	files, err := filepath.Glob(filepath.Join(outside, "*"))
	if err != nil || len(files) != 1 {
		t.Errorf("outside are %q, %v; want the secret alone", files, err)
	}
}

func TestListAndDelete(t *testing.T) {
	t.Parallel()
	bucket, _ := setup(t)
	for _, key := range []string{"u/tasks/1.png", "u/uploads/b.png", "u/uploads/a.png", "uu/uploads/c.png"} {
		if _, err := bucket.Put(t.Context(), key, bytes.NewReader(pngBytes(t)), mebibyte); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(list(t, bucket, "u/uploads/")); got != "[u/uploads/a.png u/uploads/b.png]" {
		t.Errorf("List of u/uploads/ = %s", got)
	}
	if got := list(t, bucket, "nobody/"); len(got) != 0 {
		t.Errorf("List of nobody/ = %q", got)
	}
	if err := bucket.Delete(t.Context(), "u/uploads/a.png"); err != nil {
		t.Fatal(err)
	}
	if err := bucket.Delete(t.Context(), "u/uploads/a.png"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("second Delete: %v; want ErrNotFound", err)
	}
	if _, err := bucket.Get(t.Context(), "u/uploads/a.png"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of a deleted object: %v; want ErrNotFound", err)
	}
	if _, err := bucket.Get(t.Context(), "u/uploads"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of a folder: %v; want ErrNotFound", err)
	}
	if got := fmt.Sprint(list(t, bucket, "")); got != "[u/tasks/1.png u/uploads/b.png uu/uploads/c.png]" {
		t.Errorf("List of everything = %s", got)
	}
}

func TestOpenRefusesWhatIsNoFolder(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bucketURL := range []string{"file://media", "media", "file:media", fileURL(file), "nosuch://bucket"} {
		if bucket, err := storage.Open(t.Context(), bucketURL); err == nil {
			t.Errorf("Open(%q) worked", bucketURL)
			_ = bucket.Close()
		}
	}
}
