package functions

import (
	"strings"
	"testing"
)

func TestCleanNames(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"output.mp4": "output.mp4", "/tmp/out puts/a b.mp4": "a-b.mp4", `C:\x\y.png`: "y.png", "..": "file", "": "file", ".hidden": "hidden",
		"ä.png": "png", "thumb_1.jpg": "thumb_1.jpg", "a__0x.png": "file", "x.attrs": "file", strings.Repeat("a", 300) + ".mp4": strings.Repeat("a", 96) + ".mp4",
	} {
		if got := cleanName(given); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
}

func TestKeysInPaths(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"o/tasks/t/1/a.mp4": "o/tasks/t/1/a.mp4", "o/a%20b.mp4": "o/a b.mp4", "o/a.mp4?token=1": "o/a.mp4",
		"https://h.test/storage/v1/object/public/image_uploads/o/a%20b.mp4?x#y": "o/a b.mp4",
		"": "", "/o/a": "", "o//a": "", "o/../a": "", "o/%2e%2e/a": "", "o/%2F/a": "", "o/%zz": "", "o/a%00": "", "o/%252e/a": "",
	} {
		if got, ok := keyOf(given); got != want && ok || ok != (want != "") {
			t.Errorf("%q: %q %v, want %q", given, got, ok, want)
		}
	}
}
