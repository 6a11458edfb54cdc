package storage_test

import (
	"errors"
	"io/fs"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"darkroom/gateway/storage"
)

const base = "https://media.example.com/darkroom"

// hostileKeys must never be taken for keys.
func hostileKeys() map[string]string {
	return map[string]string{
		"empty":                  "",
		"slash":                  "/",
		"absolute":               "/etc/passwd",
		"dot":                    "a/./b",
		"parent":                 "a/../b",
		"parent first":           "../a",
		"parent last":            "a/..",
		"three dots":             "a/.../b",
		"hidden":                 "a/.ssh",
		"empty segment":          "a//b",
		"slash last":             "a/b/",
		"NUL":                    "a/b\x00.png",
		"line feed":              "a/b\n.png",
		"backslash":              `a\..\b`,
		"encoded dots":           "a/%2e%2e/b",
		"encoded slash":          "a%2fb",
		"encoded twice":          "a/%252e%252e/b",
		"full-width dots":        "a/\uff0e\uff0e/b",
		"overlong UTF-8":         "a/\xc0\xae\xc0\xae/b",
		"invalid UTF-8":          "a/\xff",
		"file store's escape":    "a__0x2f__..__0x2f__b",
		"side file":              "a/b.png.attrs",
		"side file, upper case":  "a/b.png.ATTRS",
		"temporary file":         "a/b.png.17f.tmp",
		"question mark":          "a/b?c",
		"fragment":               "a/b#c",
		"long segment":           "a/" + strings.Repeat("b", 201),
		"long key":               strings.Repeat("abcdefg/", 128) + "b",
		"drive of another world": `C:\Windows`,
	}
}

func TestCleanKeyRefusesHostileForms(t *testing.T) {
	t.Parallel()
	for name, key := range hostileKeys() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := storage.CleanKey(key); !errors.Is(err, storage.ErrKey) {
				t.Errorf("CleanKey(%q) = %q, %v; want ErrKey", key, got, err)
			}
		})
	}
}

func TestCleanKeyTakesOrdinaryNames(t *testing.T) {
	t.Parallel()
	owner, task := uuid.New(), uuid.New()
	for _, key := range []string{
		storage.OutputKey(owner, task, 3, "video.mp4"),
		storage.OutputKey(owner, task, 3, "thumbnails/1.jpg"),
		storage.UploadKey(owner, "Holiday (1) at 10:30, you & me.jpeg"),
		"a..b/c..png",
		strings.Repeat("abcdefg/", 127) + "b",
	} {
		if got, err := storage.CleanKey(key); err != nil || got != key {
			t.Errorf("CleanKey(%q) = %q, %v; want it unchanged", key, got, err)
		}
	}
}

func TestKeysOfOutputsAndUploads(t *testing.T) {
	t.Parallel()
	owner := uuid.MustParse("5f0c9a52-6a5e-4d0e-9d62-0f6e7d1f7a10")
	task := uuid.MustParse("0b0e4fd5-3b8e-44f7-a1a7-36a0f3a0c0de")
	if got, want := storage.OutputKey(owner, task, 2, "a.png"), owner.String()+"/tasks/"+task.String()+"/2/a.png"; got != want {
		t.Errorf("OutputKey = %q, want %q", got, want)
	}
	if got, want := storage.UploadKey(owner, "a.png"), owner.String()+"/uploads/a.png"; got != want {
		t.Errorf("UploadKey = %q, want %q", got, want)
	}
}

func TestOutputFolderTakesOutputsOnly(t *testing.T) {
	t.Parallel()
	owner, task := uuid.New(), uuid.New()
	want := owner.String() + "/tasks/" + task.String() + "/12"
	for _, name := range []string{"a.png", "thumbnails/1.jpg", "previews.jpg", "previews"} {
		if folder, ok := storage.OutputFolder(storage.OutputKey(owner, task, 12, name)); !ok || folder != want {
			t.Errorf("folder of %s = %q, %v; want %q", name, folder, ok, want)
		}
	}
	for _, name := range []string{"previews/1.jpg", "previews/a/b.jpg"} {
		if folder, ok := storage.OutputFolder(storage.OutputKey(owner, task, 12, name)); !ok || folder != want+"/previews" {
			t.Errorf("folder of %s = %q, %v; want %q", name, folder, ok, want+"/previews")
		}
	}
	if key := storage.PreviewKey(owner, task, 12, 3); key != want+"/previews/3.jpg" {
		t.Errorf("a preview is at %q", key)
	}
	for _, key := range []string{
		"", want, want + "/", storage.UploadKey(owner, "tasks/a/1/b.png"), "x/" + want + "/a.png", strings.ToUpper(owner.String()) + want[36:] + "/a.png",
		owner.String() + "/tasks/" + task.String() + "/012/a.png", owner.String() + "/tasks/" + task.String() + "/+1/a.png",
		owner.String() + "/tasks/{" + task.String() + "}/1/a.png", owner.String() + "/task/" + task.String() + "/1/a.png",
	} {
		if folder, ok := storage.OutputFolder(key); ok {
			t.Errorf("folder of %q = %q; want none", key, folder)
		}
	}
}

func TestKeyFromURLTakesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	const public = base + "/storage/v1/object/public/image_uploads/"
	taken := map[string]string{
		public + "u/uploads/a.png":         "u/uploads/a.png",
		public + "u/uploads/a.png?t=1#now": "u/uploads/a.png",
		public + "u/uploads/a%20b.png":     "u/uploads/a b.png",
		"HTTPS://MEDIA.example.com/darkroom/storage/v1/object/public/image_uploads/u/a.png": "u/a.png",
	}
	for address, want := range taken {
		if got, ok := storage.KeyFromURL(base, address); !ok || got != want {
			t.Errorf("KeyFromURL(%q) = %q, %v; want %q", address, got, ok, want)
		}
	}
	for _, address := range []string{
		"http://media.example.com/darkroom/storage/v1/object/public/image_uploads/u/a.png",
		"https://media.example.com:8443/darkroom/storage/v1/object/public/image_uploads/u/a.png",
		"https://media.example.com.evil.test/darkroom/storage/v1/object/public/image_uploads/u/a.png",
		"https://media.example.com@evil.test/darkroom/storage/v1/object/public/image_uploads/u/a.png",
		"https://user@media.example.com/darkroom/storage/v1/object/public/image_uploads/u/a.png",
		"https://media.example.com/storage/v1/object/public/image_uploads/u/a.png",
		"https://media.example.com/darkroom/storage/v1/object/public/other/u/a.png",
		"/darkroom/storage/v1/object/public/image_uploads/u/a.png",
		public,
		public + "u/../v/a.png",
		public + "u/%2e%2e/v/a.png",
		public + "u/%2E%2E%2fv/a.png",
		public + "u/%252e%252e/v/a.png",
		public + "u%2fa.png",
		public + "u/a%00.png",
		public + `u/..%5cv/a.png`,
		public + "u//a.png",
	} {
		if got, ok := storage.KeyFromURL(base, address); ok {
			t.Errorf("KeyFromURL(%q) = %q; want it refused", address, got)
		}
	}
	if got, ok := storage.KeyFromURL("", "/storage/v1/object/public/image_uploads/u/a.png"); ok {
		t.Errorf("KeyFromURL without a base = %q; want it refused", got)
	}
}

// FuzzCleanKey shows that whatever text is taken for a key names a path inside its first segment, in each way in which
// a reader may decode it, and comes back from its URL.
func FuzzCleanKey(f *testing.F) {
	for _, key := range hostileKeys() {
		f.Add(key)
	}
	f.Add("5f0c9a52-6a5e-4d0e-9d62-0f6e7d1f7a10/uploads/a b.png")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := storage.CleanKey(text)
		if err != nil {
			return
		}
		if key != text {
			t.Fatalf("CleanKey(%q) changed it to %q", text, key)
		}
		if decoded, err := url.PathUnescape(key); err != nil || decoded != key {
			t.Fatalf("%q decodes to %q, %v", key, decoded, err)
		}
		if !fs.ValidPath(key) || strings.ContainsAny(key, "\\\x00") || key == "." {
			t.Fatalf("%q is no plain relative path", key)
		}
		if got, ok := storage.KeyFromURL(base, storage.URL(base+"/", key)); !ok || got != key {
			t.Fatalf("%q came back from its URL as %q, %v", key, got, ok)
		}
	})
}

// FuzzKeyFromURL shows that no address yields a key that isn't clean.
func FuzzKeyFromURL(f *testing.F) {
	for _, key := range hostileKeys() {
		f.Add(base + "/storage/v1/object/public/image_uploads/" + key)
		f.Add(base + "/storage/v1/object/public/image_uploads/" + url.PathEscape(key))
	}
	f.Fuzz(func(t *testing.T, address string) {
		key, ok := storage.KeyFromURL(base, address)
		if !ok {
			return
		}
		if _, err := storage.CleanKey(key); err != nil {
			t.Fatalf("KeyFromURL(%q) = %q: %v", address, key, err)
		}
	})
}
