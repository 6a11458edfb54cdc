package storage_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing/iotest"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/storage"
)

func replacesUploads(s store) {
	t := s.t
	first := pngBytes(t)
	put(t, s.bucket, "u/a.png", first)
	before, err := s.bucket.Stat(t.Context(), "u/a.png")
	if err != nil {
		t.Fatal(err)
	}
	second := append(bytes.Clone(first), make([]byte, 20*mebibyte)...)
	info, err := s.bucket.Replace(t.Context(), "u/a.png", bytes.NewReader(second), int64(len(second)))
	if err != nil || info.Size != int64(len(second)) || info.ETag == before.ETag {
		t.Fatalf("Replace = %+v, %v", info, err)
	}
	if !bytes.Equal(read(t, s.bucket, "u/a.png"), second) {
		t.Error("Get read other bytes than Replace stored")
	}
	errLine := errors.New("line cut")
	for name, try := range map[string]struct {
		from io.Reader
		want error
	}{
		"broken":    {io.MultiReader(bytes.NewReader(first), iotest.ErrReader(errLine)), errLine},
		"too large": {io.MultiReader(bytes.NewReader(first), endlessReader{}), storage.ErrTooLarge},
		"a script":  {strings.NewReader("<script>"), storage.ErrMediaType},
	} {
		if _, err := s.bucket.Replace(t.Context(), "u/a.png", try.from, mebibyte); !errors.Is(err, try.want) {
			t.Errorf("Replace by what is %s: %v", name, err)
		}
	}
	if !bytes.Equal(read(t, s.bucket, "u/a.png"), second) {
		t.Error("a Replace that failed changed the object")
	}
	if n, err := s.bucket.RemoveUnfinished(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("%d unfinished objects were left, %v", n, err)
	}
	if _, err := s.bucket.Replace(t.Context(), "u/new.png", bytes.NewReader(first), mebibyte); err != nil {
		t.Errorf("Replace of nothing: %v", err)
	}
	output := storage.OutputKey(uuid.New(), uuid.New(), 1, "a.png")
	for _, key := range []string{output, strings.Replace(output, "tasks", "Tasks", 1), "u/tasks"} {
		if _, err := s.bucket.Replace(t.Context(), key, bytes.NewReader(first), mebibyte); !errors.Is(err, storage.ErrExists) {
			t.Errorf("Replace of %s: %v; want ErrExists", key, err)
		}
	}
}

func listsAFolder(s store) {
	t := s.t
	content := pngBytes(t)
	for _, key := range []string{"u/b.png", "u/a/1.png", "u/a/b/2.png", "u/a-.png", "u/c/d/3.png", "uu/4.png", "5.png"} {
		put(t, s.bucket, key, content)
	}
	for _, try := range []struct {
		folder, want string
		most         int
		more         bool
	}{
		{"", "5.png u/ uu/", 10, false},
		{"u", "a-.png a/ b.png c/", 10, false},
		{"u", "a-.png a/", 2, true},
		{"u", "a-.png a/ b.png c/", 4, false},
		{"u/a", "1.png b/", 10, false},
		{"u/b.png", "", 10, false},
		{"none", "", 10, false},
	} {
		entries, more, err := s.bucket.List(t.Context(), try.folder, try.most)
		var got []string
		for _, entry := range entries {
			name := entry.Name
			if entry.Folder {
				name += "/"
			} else if entry.Size != int64(len(content)) || time.Since(entry.ModTime) > time.Minute || entry.Key != strings.TrimPrefix(try.folder+"/"+name, "/") {
				t.Errorf("List(%q) has %+v", try.folder, entry)
			}
			got = append(got, name)
		}
		if err != nil || strings.Join(got, " ") != try.want || more != try.more {
			t.Errorf("List(%q, %d) = %q, %v, %v; want %q, %v", try.folder, try.most, got, more, err, try.want, try.more)
		}
	}
	if err := s.bucket.Delete(t.Context(), "u/c/d/3.png"); err != nil {
		t.Fatal(err)
	}
	if entries, _, err := s.bucket.List(t.Context(), "u", 10); err != nil || len(entries) != 3 {
		t.Errorf("a folder without objects is listed: %+v, %v", entries, err)
	}
	if _, _, err := s.bucket.List(t.Context(), "u/../uu", 10); !errors.Is(err, storage.ErrKey) {
		t.Errorf("List of what is no key: %v", err)
	}
}

func takesMoreTypesToUpload(s store) {
	t := s.t
	box := func(brand string) string { return "\x00\x00\x00\x18ftyp" + brand + "\x00\x00\x00\x00" + brand + "mif1" }
	for mediaType, content := range map[string]string{
		"image/png": string(pngBytes(t)), "image/gif": "GIF89a\x01\x00\x01\x00", "image/avif": box("avif"), "video/quicktime": box("qt  "),
		"video/mp4": box("isom"), "audio/wav": "RIFF\x24\x00\x00\x00WAVEfmt ", "audio/mpeg": "ID3\x04\x00\x00\x00\x00\x00\x00",
	} {
		key := "u/" + strings.ReplaceAll(mediaType, "/", ".")
		info, err := s.bucket.PutUpload(t.Context(), key, strings.NewReader(content), mebibyte)
		if err != nil || info.ContentType != mediaType {
			t.Errorf("PutUpload of %s = %q, %v", mediaType, info.ContentType, err)
		}
	}
	for _, content := range []string{"", "{}", "<svg xmlns='http://www.w3.org/2000/svg'/>", "<html>", "%PDF-1.7", box("heic"), "#!/bin/sh"} {
		if _, err := s.bucket.PutUpload(t.Context(), "u/x", strings.NewReader(content), mebibyte); !errors.Is(err, storage.ErrMediaType) {
			t.Errorf("PutUpload of %q: %v; want ErrMediaType", content, err)
		}
	}
}
