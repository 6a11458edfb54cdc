package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"darkroom/gateway/storage"
	"darkroom/gateway/storage/s3test"
)

const mebibyte = 1 << 20

// putterFolder, when set, makes the test binary a process that stores what it reads from its standard input.
const putterFolder = "DARKROOM_TEST_PUTTER_FOLDER"

func TestMain(m *testing.M) {
	folder, small := os.Getenv(putterFolder), os.Getenv(smallDisk)
	switch {
	case small != "":
		exitWith(putOnSmallDisk(small))
	case folder != "":
		exitWith(putStdin(folder))
	}
	os.Exit(m.Run())
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
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
	return open(t, fileURL(folder)), folder
}

func open(t *testing.T, bucketURL string) *storage.Bucket {
	t.Helper()
	bucket, err := storage.Open(t.Context(), bucketURL)
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

// store is an empty place to store in, which may be opened again and again.
type store struct {
	t      *testing.T
	url    string
	bucket *storage.Bucket
}

// TestConformance shows that all kinds of storage behave alike.
func TestConformance(t *testing.T) {
	t.Parallel()
	tests := map[string]func(store){
		"stores what it reads":       storesWhatItReads,
		"takes odd names":            takesOddNames,
		"serves ranges":              servesRanges,
		"never overwrites":           neverOverwrites,
		"one of many stores":         oneOfManyStores,
		"one of two large ones":      oneOfTwoLargeOnesStores,
		"takes the type from bytes":  takesTheTypeFromTheBytes,
		"a failure leaves nothing":   aFailureLeavesNothing,
		"refuses hostile keys":       refusesHostileKeys,
		"pages and deletes":          pagesAndDeletes,
		"replaces uploads":           replacesUploads,
		"lists a folder":             listsAFolder,
		"takes more types to upload": takesMoreTypesToUpload,
		"keeps prefixes apart":       keepsPrefixesApart,
		"removes unfinished objects": removesNothingThatIsWhole,
		"removes a folder":           removesAFolder,
	}
	kinds := map[string]func(t *testing.T) (newURL func(*testing.T) string){
		"file": func(*testing.T) func(*testing.T) string {
			return func(t *testing.T) string { t.Helper(); return fileURL(t.TempDir()) }
		},
		"s3": func(t *testing.T) func(*testing.T) string {
			t.Helper()
			server := s3test.Start(t)
			buckets := numbers()
			return func(t *testing.T) string {
				t.Helper()
				return server.MakeBucket(t, fmt.Sprintf("bucket-%d", <-buckets))
			}
		},
		"azblob": azureContainers,
	}
	for kind, start := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			newURL := start(t)
			for name, test := range tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					bucketURL := newURL(t)
					test(store{t, bucketURL, open(t, bucketURL)})
				})
			}
		})
	}
}

// numbers counts from 1, for names that parallel tests don't share.
func numbers() <-chan int {
	c := make(chan int)
	go func() {
		for n := 1; ; n++ {
			c <- n
		}
	}()
	return c
}

func pngBytes(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewRGBA(image.Rect(0, 0, 64, 64))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func put(t *testing.T, bucket *storage.Bucket, key string, content []byte) storage.Info {
	t.Helper()
	info, err := bucket.Put(t.Context(), key, bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	return info
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

// list returns all keys.
func list(t *testing.T, bucket *storage.Bucket) (keys []string) {
	t.Helper()
	for token := ""; ; {
		objects, next, err := bucket.Page(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects {
			keys = append(keys, object.Key)
		}
		if next == "" {
			return keys
		}
		token = next
	}
}
