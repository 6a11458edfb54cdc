package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"darkroom/gateway/storage"
)

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
	if keys := list(t, bucket); len(keys) != 0 {
		t.Errorf("listed %q; want nothing", keys)
	}
	put(t, bucket, "u/a.png", content)

	day := 24 * time.Hour
	if n, err := bucket.RemoveUnfinished(t.Context(), time.Now().Add(-day)); n != 0 || err != nil {
		t.Errorf("removed %d fresh temporary files, %v", n, err)
	}
	age(t, left[0], day+time.Minute)
	if n, err := bucket.RemoveUnfinished(t.Context(), time.Now().Add(-day)); n != 1 || err != nil {
		t.Errorf("removed %d temporary files, %v; want 1", n, err)
	}
	if files, err := filepath.Glob(filepath.Join(folder, "u", "*")); err != nil || len(files) != 1 {
		t.Errorf("left are %q, %v; want the object alone", files, err)
	}
}

// age makes a file look as if it was last written so long ago.
func age(t *testing.T, path string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestEmptyFoldersAreRemovedWhenTheyAreOld(t *testing.T) {
	t.Parallel()
	bucket, folder := setup(t)
	put(t, bucket, "u/tasks/1/1/a.png", pngBytes(t))
	put(t, bucket, "u/tasks/2/1/a.png", pngBytes(t))
	for _, key := range []string{"u/tasks/1/1/a.png", "u/tasks/2/1/a.png"} {
		if err := bucket.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"u/tasks/1/1", "u/tasks/1", "u/tasks"} {
		age(t, filepath.Join(folder, name), 2*time.Hour)
	}
	if _, err := bucket.RemoveUnfinished(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"u/tasks/1/1": false, "u/tasks/1": false, "u/tasks/2/1": true} {
		if _, err := os.Stat(filepath.Join(folder, name)); (err == nil) != want {
			t.Errorf("%s is there: %v; want %v", name, err == nil, want)
		}
	}
}

func TestPutThatFailsLeavesNoFile(t *testing.T) {
	t.Parallel()
	bucket, folder := setup(t)
	aFailureLeavesNothing(store{t, fileURL(folder), bucket})
	files, err := filepath.Glob(filepath.Join(folder, "u", "*"))
	if err != nil || len(files) != 1 {
		t.Errorf("files left: %q, %v; want the one that was stored at last", files, err)
	}
}

func TestHostileKeysReachNothingOutside(t *testing.T) {
	t.Parallel()
	bucket, folder := setup(t)
	secret := filepath.Join(filepath.Dir(folder), "b")
	if err := os.WriteFile(secret, pngBytes(t), 0o600); err != nil {
		t.Fatal(err)
	}
	refusesHostileKeys(store{t, fileURL(folder), bucket})
	if _, err := os.Stat(secret); err != nil {
		t.Error(err)
	}
}

func TestLinksDoNotLeadOutside(t *testing.T) {
	t.Parallel()
	bucket, folder := setup(t)
	outside := t.TempDir()
	for _, name := range []string{"secret.png", "old.png.1f.tmp"} {
		if err := os.WriteFile(filepath.Join(outside, name), pngBytes(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"file.png": filepath.Join(outside, "secret.png"), "folder": outside, "link.1f.tmp": filepath.Join(outside, "secret.png"),
	} {
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
	if keys := list(t, bucket); len(keys) != 0 {
		t.Errorf("listed %q; want nothing", keys)
	}
	if n, err := bucket.RemoveUnfinished(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("removed %d files, %v", n, err)
	}
	files, err := filepath.Glob(filepath.Join(outside, "*"))
	if err != nil || len(files) != 2 {
		t.Errorf("outside are %q, %v; want the two files", files, err)
	}
}

// More than a page, with names whose order differs from that of a plain walk, and with deletions between two pages.
func TestPagesOfAFolderGoOnWhereTheyEnded(t *testing.T) {
	t.Parallel()
	bucket, folder := setup(t)
	var want []string
	for i := range 2500 {
		want = append(want, fmt.Sprintf("u%d/tasks/t/%d%s/x.png", i%3, i/3, []string{"", "-b", "b"}[i%3]))
	}
	slices.Sort(want)
	for _, key := range want {
		path := filepath.Join(folder, key)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	pages := 0
	for token := ""; ; pages++ {
		objects, next, err := bucket.Page(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects {
			got = append(got, object.Key)
		}
		if next == "" {
			break
		}
		if err := os.Remove(filepath.Join(folder, next)); err != nil { // the next page does not need it
			t.Fatal(err)
		}
		token = next
	}
	if pages != 2 || !slices.Equal(got, want) {
		t.Errorf("%d objects and %d more pages; want %d and 2, in order", len(got), pages, len(want))
	}
}

func TestAFileAndAFolderCannotHaveOneName(t *testing.T) {
	t.Parallel()
	bucket, folder := setup(t)
	content := pngBytes(t)
	put(t, bucket, "u/a/b.png", content)
	for _, key := range []string{"u/a", "u/a/b.png/c.png"} {
		_, errPut := bucket.Put(t.Context(), key, bytes.NewReader(content), mebibyte)
		_, errReplace := bucket.Replace(t.Context(), key, bytes.NewReader(content), mebibyte)
		if !errors.Is(errPut, storage.ErrInTheWay) || !errors.Is(errReplace, storage.ErrInTheWay) {
			t.Errorf("%s: %v, %v; want ErrInTheWay", key, errPut, errReplace)
		}
	}
	outside := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(outside, []byte("secret"), 0o600), os.Symlink(outside, filepath.Join(folder, "u", "link"))); err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Replace(t.Context(), "u/link", bytes.NewReader(content), mebibyte); err == nil {
		t.Error("Replace took the place of a link")
	}
	if got, err := os.ReadFile(outside); err != nil || string(got) != "secret" {
		t.Errorf("what the link names was changed: %q, %v", got, err)
	}
	if entries, more, err := bucket.List(t.Context(), "u", 10); err != nil || more || len(entries) != 1 || entries[0].Name != "a" {
		t.Errorf("List = %+v, %v, %v; want the folder a alone", entries, more, err)
	}
}
