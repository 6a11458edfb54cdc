package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob"

	"darkroom/gateway/storage"
	"darkroom/gateway/storage/s3test"
)

// envAzurite names the program azurite-blob of the npm package azurite (3.35.0), with which the conformance tests run on azblob:// too.
const envAzurite = "DARKROOM_TEST_AZURITE"

// azureContainers starts Azure's emulator.
func azureContainers(t *testing.T) func(*testing.T) string {
	t.Helper()
	program := os.Getenv(envAzurite)
	if program == "" {
		t.Skipf("%s does not name Azure's emulator, the program azurite-blob of the npm package azurite", envAzurite)
	}
	for name, value := range map[string]string{ // the account of every emulator
		"AZURE_STORAGE_ACCOUNT": "devstoreaccount1",
		"AZURE_STORAGE_KEY":     "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
	} {
		if err := os.Setenv(name, value); err != nil { //nolint:usetesting // t.Setenv is not for parallel tests
			t.Fatal(err)
		}
	}
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(t.Context(), program, "--inMemoryPersistence", "--blobPort", port, "--silent", "--disableTelemetry", "--skipApiVersionCheck")
	cmd.Dir = t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	containers := numbers()
	return func(t *testing.T) string {
		t.Helper()
		query := url.Values{"domain": {address}, "protocol": {"http"}, "localemu": {"true"}}
		containerURL := fmt.Sprintf("azblob://container-%d?%s", <-containers, query.Encode())
		bucket, err := blob.OpenBucket(t.Context(), containerURL)
		if err != nil {
			t.Fatal(err)
		}
		defer bucket.Close()
		var client *container.Client
		if !bucket.As(&client) {
			t.Fatal("no Azure client")
		}
		if _, err := client.Create(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		return containerURL
	}
}

// freeAddress is one on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	return free.Addr().String()
}

func wantOpenError(t *testing.T, bucketURL, want string) {
	t.Helper()
	bucket, err := storage.Open(t.Context(), bucketURL)
	if err == nil {
		_ = bucket.Close()
	}
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Open(%q): %v; want %q", bucketURL, err, want)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for bucketURL, want := range map[string]string{
		"":                                 "must begin with file:///, s3://",
		"media":                            "must begin with file:///, s3://",
		"/var/lib/media":                   "must begin with file:///, s3://",
		"ftp://bucket":                     "must begin with file:///, s3://",
		"mem://":                           "must begin with file:///, s3://",
		"s3://bucket:hush":                 "cannot be read",
		"file://media":                     "written as file:///absolute/path",
		"file:media":                       "written as file:///absolute/path",
		fileURL(file):                      "is not a directory",
		fileURL(t.TempDir()) + "?prefix=a": "a folder takes no prefix",
		fileURL(t.TempDir()) + "?nosuch=1": `invalid query parameter "nosuch"`,
		"s3://name:hush@bucket?region=x":   "credentials do not belong into the URL",
		"s3://?region=x":                   "must name a bucket",
		"s3:bucket":                        "must name a bucket",
		"s3://bucket:9000":                 "must name a bucket",
		"s3://bucket/part":                 "is written as s3://bucket?prefix=part/",
		"s3://bucket?prefix=../a":          "the prefix of s3://bucket",
		"s3://bucket?region=x&endpoint=host:9000":           "the endpoint of s3://bucket must be like https://host:9000",
		"s3://bucket?region=x&endpoint=https://a:hush@host": "the endpoint of s3://bucket must be like https://host:9000",
		"s3://bucket?region=x&secret=hush":                  `unknown query parameter "secret"`,
		"azblob://":                                         "must name a bucket",
		"azblob://container?storage_account=a&secret=hush":  `"secret"`,
	} {
		wantOpenError(t, bucketURL, want)
	}
}

// In a process without credentials each provider's absence of them is told in a sentence.
func TestOpenWithoutCredentials(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", t.TempDir()+"/nosuch.json")
	wantOpenError(t, "s3://bucket", "s3://bucket needs a region")
	wantOpenError(t, "s3://bucket?region=x", "there are no credentials for s3://bucket; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	wantOpenError(t, "gs://bucket", "there are no credentials for gs://bucket; set GOOGLE_APPLICATION_CREDENTIALS")
}

func TestS3SaysWhyItCannotBeUsed(t *testing.T) {
	t.Parallel()
	wantOpenError(t, s3test.Start(t).URL("nosuch"), "there is no bucket s3://nosuch")
	other := s3test.StartWith(t, "another secret")
	wantOpenError(t, other.MakeBucket(t, "media"), "s3://media refuses the credentials")
	other.Kill()
	wantOpenError(t, other.URL("media"), "s3://media does not answer")
}

func TestS3ServerKilledInMidUpload(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	bucket := open(t, server.MakeBucket(t, "media"))
	content := append(pngBytes(t), make([]byte, 40*mebibyte)...)
	// More than is held in memory: when its rest is asked for, parts have been sent.
	killed := io.MultiReader(bytes.NewReader(content), funcReader(func() { server.Kill() }), bytes.NewReader(content))
	if _, err := bucket.Put(t.Context(), "u/a.png", killed, 1024*mebibyte); err == nil || errors.Is(err, storage.ErrExists) {
		t.Errorf("Put: %v; want the error of the connection", err)
	}
	if err := bucket.Check(t.Context()); err == nil {
		t.Error("Check found a dead server well")
	}

	server.Restart(t)
	bucket = open(t, server.URL("media"))
	if _, err := bucket.Stat(t.Context(), "u/a.png"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Stat of the half object: %v; want ErrNotFound", err)
	}
	if keys := list(t, bucket); len(keys) != 0 {
		t.Errorf("listed %q; want nothing", keys)
	}
	if n, err := bucket.RemoveUnfinished(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("removed %d fresh uploads, %v", n, err)
	}
	if n, err := bucket.RemoveUnfinished(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("removed %d uploads, %v; want 1", n, err)
	}
	if n, err := bucket.RemoveUnfinished(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("removed %d uploads more, %v", n, err)
	}
	put(t, bucket, "u/a.png", content)
}

// funcReader is an empty part of a file, and calls a function when it is reached.
type funcReader func()

func (f funcReader) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

// What somebody else put into the bucket is not served as what he says it is; what we put there says how it may be kept.
func TestS3TypesAndCaching(t *testing.T) {
	t.Parallel()
	bucketURL := s3test.Start(t).MakeBucket(t, "media")
	bucket := open(t, bucketURL)
	direct, err := blob.OpenBucket(t.Context(), bucketURL)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	if err := direct.WriteAll(t.Context(), "u/page", []byte("<script>"), &blob.WriterOptions{ContentType: "text/html"}); err != nil {
		t.Fatal(err)
	}
	if info, err := bucket.Stat(t.Context(), "u/page"); err != nil || info.ContentType != "application/octet-stream" {
		t.Errorf("Stat = %+v, %v", info, err)
	}
	for key, caching := range map[string]string{"u/tasks/a.png": "public, max-age=31536000, immutable", "u/a.png": "public, max-age=3600"} {
		put(t, bucket, key, pngBytes(t))
		is, err := direct.Attributes(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if is.ContentType != "image/png" || is.CacheControl != caching || is.ContentDisposition != "inline" {
			t.Errorf("%s is stored as %q, %q, %q", key, is.ContentType, is.CacheControl, is.ContentDisposition)
		}
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	bucketURL := server.MakeBucket(t, "media")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if bucket, err := storage.Open(ctx, bucketURL); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v", err)
		if err == nil {
			_ = bucket.Close()
		}
	}
}
