package install

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// archive is an npm archive of the given members.
func archive(t *testing.T, members map[string]string) []byte {
	t.Helper()
	var data bytes.Buffer
	zipped := gzip.NewWriter(&data)
	packed := tar.NewWriter(zipped)
	for name, content := range members {
		if err := packed.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := packed.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(packed.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}

// client puts an npm command onto PATH that delivers data and counts its calls in the returned file.
func client(t *testing.T, data []byte) (Package, string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"data":  string(data),
		"calls": "",
		"npm":   fmt.Sprintf("#!/bin/sh\necho \"$@\" >> '%s/calls'\ncp '%s/data' package.tgz\n", dir, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	digest := sha512.Sum512(data)
	return Package{Name: "@scope/tool", Version: "1.2.3", Integrity: "sha512-" + base64.StdEncoding.EncodeToString(digest[:])}, filepath.Join(dir, "calls")
}

func TestFetchDownloadsOnce(t *testing.T) { //nolint:tparallel // the environment is changed
	pkg, calls := client(t, archive(t, map[string]string{"package/package.json": "{}", "package/bin/tool": "#!/bin/sh\necho hello\n"}))
	t.Setenv("DARKROOM_CACHE", filepath.Join(t.TempDir(), "a cache"))
	announced, running := 0, sync.WaitGroup{}
	var mu sync.Mutex
	for range 8 {
		running.Go(func() {
			dir, err := pkg.Fetch(t.Context(), func() { mu.Lock(); announced++; mu.Unlock() })
			if err != nil {
				t.Error(err)
				return
			}
			info, err := os.Stat(filepath.Join(dir, "bin", "tool"))
			if err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("the tool cannot be run: %v %v", info, err)
			}
		})
	}
	running.Wait()
	called, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	if want := "pack --silent --ignore-scripts @scope/tool@1.2.3\n"; string(called) != want || announced != 1 {
		t.Errorf("npm was called with %q, announced %d times", called, announced)
	}
	left, err := filepath.Glob(filepath.Join(os.Getenv("DARKROOM_CACHE"), "npm", "fetch-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFetchRefusesAnotherArchive(t *testing.T) { //nolint:tparallel // the environment is changed
	pkg, _ := client(t, archive(t, map[string]string{"package/tool": "x"}))
	root := t.TempDir()
	pkg.Integrity = "sha512-" + base64.StdEncoding.EncodeToString(make([]byte, sha512.Size))
	if _, err := pkg.fetchInto(t.Context(), root, nil); err == nil || !strings.Contains(err.Error(), "is not the pinned archive") {
		t.Errorf("got %v", err)
	}
	if isDir(filepath.Join(root, "@scope+tool@1.2.3")) {
		t.Error("it lies in the cache")
	}
}

func TestFetchKeepsMembersInside(t *testing.T) { //nolint:tparallel // the environment is changed
	pkg, _ := client(t, archive(t, map[string]string{"package/../../../escaped": "x"}))
	root := filepath.Join(t.TempDir(), "a", "b")
	if _, err := pkg.fetchInto(t.Context(), root, nil); err == nil {
		t.Error("an archive that climbs out of its folder was unpacked")
	}
}

func TestFetchWithoutNPM(t *testing.T) { //nolint:tparallel // the environment is changed
	t.Setenv("PATH", t.TempDir())
	if _, err := (Package{Name: "a", Version: "1"}).fetchInto(t.Context(), t.TempDir(), nil); !errors.Is(err, ErrNoClient) {
		t.Errorf("got %v", err)
	}
}
