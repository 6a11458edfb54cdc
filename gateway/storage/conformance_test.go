package storage_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing/iotest"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/storage"
)

func storesWhatItReads(s store) {
	t := s.t
	small := pngBytes(t)
	large := append(bytes.Clone(small), make([]byte, 20*mebibyte)...) // in parts, where the service takes parts
	for i := range large[len(small):] {
		large[len(small)+i] = byte(i % 251)
	}
	for name, content := range map[string][]byte{"a picture.png": small, "large.png": large} {
		key := storage.OutputKey(uuid.New(), uuid.New(), 1, name)
		before := time.Now().Add(-time.Minute)
		info, err := s.bucket.Put(t.Context(), key, iotest.HalfReader(bytes.NewReader(content)), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		if info.Key != key || info.Size != int64(len(content)) || info.ContentType != "image/png" || info.ModTime.Before(before) ||
			len(info.ETag) < 3 || info.ETag[0] != '"' {
			t.Errorf("Put = %+v", info)
		}
		if stat, err := s.bucket.Stat(t.Context(), key); err != nil || stat != info {
			t.Errorf("Stat = %+v, %v; want %+v", stat, err, info)
		}
		if !bytes.Equal(read(t, s.bucket, key), content) {
			t.Errorf("Get read other bytes than Put stored as %q", name)
		}
	}
}

func takesOddNames(s store) {
	t := s.t
	content := pngBytes(t)
	keys := []string{"u/uploads/Holiday (1) at 10:30, you & me = 5$ + @ 'x'!.png", "u/a..b/c..png", "u/_-.*;.png", "u/" + strings.Repeat("b", 200)}
	for _, key := range keys {
		put(t, s.bucket, key, content)
		if !bytes.Equal(read(t, s.bucket, key), content) {
			t.Errorf("Get read other bytes than Put stored as %q", key)
		}
	}
	slices.Sort(keys)
	if got := list(t, s.bucket); !slices.Equal(got, keys) {
		t.Errorf("listed %q", got)
	}
}

func servesRanges(s store) {
	t := s.t
	content := append(pngBytes(t), bytes.Repeat([]byte("0123456789"), 20_000)...)
	put(t, s.bucket, "u/a.png", content)
	object, err := s.bucket.Get(t.Context(), "u/a.png")
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()

	serve := func(name, value string) *httptest.ResponseRecorder {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		request.Header.Set(name, value)
		answer := httptest.NewRecorder()
		answer.Header().Set("Content-Type", object.ContentType)
		answer.Header().Set("ETag", object.ETag)
		http.ServeContent(answer, request, "", object.ModTime, object)
		return answer
	}
	size := len(content)
	for asked, want := range map[string][]byte{
		"bytes=10-19": content[10:20], "bytes=0-": content, "bytes=-7": content[size-7:], "bytes=100000-100000": content[100_000:100_001],
	} {
		if answer := serve("Range", asked); answer.Code != http.StatusPartialContent || !bytes.Equal(answer.Body.Bytes(), want) {
			t.Errorf("%s: status %d, %d bytes; want 206 and %d", asked, answer.Code, answer.Body.Len(), len(want))
		}
	}
	if answer := serve("If-None-Match", object.ETag); answer.Code != http.StatusNotModified {
		t.Errorf("status %d for a known ETag; want 304", answer.Code)
	}
	if answer := serve("Accept", "*/*"); !bytes.Equal(answer.Body.Bytes(), content) {
		t.Errorf("the whole has %d bytes; want %d", answer.Body.Len(), size)
	}
}

func neverOverwrites(s store) {
	t := s.t
	first := pngBytes(t)
	put(t, s.bucket, "u/a.png", first)
	for name, late := range map[string][]byte{"small": append(bytes.Clone(first), "late"...), "large": append(bytes.Clone(first), make([]byte, 20*mebibyte)...)} {
		if _, err := s.bucket.Put(t.Context(), "u/a.png", bytes.NewReader(late), 64*mebibyte); !errors.Is(err, storage.ErrExists) {
			t.Errorf("second Put, %s: %v; want ErrExists", name, err)
		}
	}
	if !bytes.Equal(read(t, s.bucket, "u/a.png"), first) {
		t.Error("the second Put changed the object")
	}
}

func oneOfManyStores(s store) {
	race(s, 8, 10, pngBytes(s.t))
}

func oneOfTwoLargeOnesStores(s store) {
	race(s, 2, 2, append(pngBytes(s.t), make([]byte, 20*mebibyte)...))
}

// race has writers store under one key at the same moment, and wants one of them to win.
func race(s store, writers, rounds int, content []byte) {
	t := s.t
	for round := range rounds {
		key := fmt.Sprintf("u/%d.png", round)
		var (
			group  sync.WaitGroup
			stored sync.Map
			ready  sync.WaitGroup
		)
		ready.Add(writers)
		for writer := range writers {
			bucket := open(t, s.url) // as in a process of its own
			group.Go(func() {
				mine := append(bytes.Clone(content), byte(writer))
				all := io.MultiReader(bytes.NewReader(mine), &endWhenDone{ready: &ready})
				switch _, err := bucket.Put(t.Context(), key, all, 64*mebibyte); {
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
			if got := read(t, s.bucket, key); !bytes.Equal(got, mine.([]byte)) {
				t.Errorf("%s holds what another writer stored", key)
			}
		}
		if winners != 1 {
			t.Fatalf("%d writers stored %s; want 1", winners, key)
		}
	}
}

// endWhenDone is the end of a file that comes once every writer has got that far, so that all store at the same time.
type endWhenDone struct {
	ready *sync.WaitGroup
	once  sync.Once
}

func (e *endWhenDone) Read([]byte) (int, error) {
	e.once.Do(e.ready.Done)
	e.ready.Wait()
	return 0, io.EOF
}

func takesTheTypeFromTheBytes(s store) {
	t := s.t
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
	for mediaType, content := range stored {
		key := "u/" + strings.ReplaceAll(mediaType, "/", ".") + ".html" // the name plays no part
		info, err := s.bucket.Put(t.Context(), key, strings.NewReader(content), mebibyte)
		if err != nil || info.ContentType != mediaType {
			t.Errorf("Put of %s = %q, %v", mediaType, info.ContentType, err)
		}
	}
	for name, content := range refused {
		if _, err := s.bucket.Put(t.Context(), "u/x.png", strings.NewReader(content), mebibyte); !errors.Is(err, storage.ErrMediaType) {
			t.Errorf("Put of %s: %v; want ErrMediaType", name, err)
		}
	}
	if keys := list(t, s.bucket); len(keys) != len(stored) {
		t.Errorf("listed %q; want the %d stored", keys, len(stored))
	}
}

func aFailureLeavesNothing(s store) {
	t := s.t
	content := pngBytes(t)
	errLine := errors.New("line cut")
	for _, size := range []int{mebibyte, 20 * mebibyte} {
		part := append(bytes.Clone(content), make([]byte, size)...)
		if _, err := s.bucket.Put(t.Context(), "u/a.png", io.MultiReader(bytes.NewReader(content), endlessReader{}), int64(size)); !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("endless Put: %v; want ErrTooLarge", err)
		}
		if _, err := s.bucket.Put(t.Context(), "u/a.png", bytes.NewReader(part), int64(len(part))-1); !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("Put of a byte too many: %v; want ErrTooLarge", err)
		}
		broken := io.MultiReader(bytes.NewReader(part), iotest.ErrReader(errLine))
		if _, err := s.bucket.Put(t.Context(), "u/a.png", broken, 64*mebibyte); !errors.Is(err, errLine) {
			t.Errorf("Put from a broken reader: %v; want its error", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := s.bucket.Put(ctx, "u/a.png", io.MultiReader(bytes.NewReader(part), cancelReader(cancel)), 64*mebibyte); !errors.Is(err, context.Canceled) {
			t.Errorf("Put cancelled at its end: %v; want context.Canceled", err)
		}
	}
	if keys := list(t, s.bucket); len(keys) != 0 {
		t.Errorf("listed %q; want nothing", keys)
	}
	// All that was begun was also taken back, before the errors came.
	if n, err := s.bucket.RemoveUnfinished(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("%d unfinished objects were left, %v", n, err)
	}
	put(t, s.bucket, "u/a.png", append(bytes.Clone(content), make([]byte, 20*mebibyte)...))
}

type endlessReader struct{}

func (endlessReader) Read(p []byte) (int, error) { return len(p), nil }

// cancelReader ends a context where the file ends.
type cancelReader context.CancelFunc

func (c cancelReader) Read([]byte) (int, error) {
	c()
	return 0, io.EOF
}

func refusesHostileKeys(s store) {
	t := s.t
	for name, key := range hostileKeys() {
		_, errPut := s.bucket.Put(t.Context(), key, bytes.NewReader(pngBytes(t)), mebibyte)
		_, errGet := s.bucket.Get(t.Context(), key)
		_, errStat := s.bucket.Stat(t.Context(), key)
		errDelete := s.bucket.Delete(t.Context(), key)
		for _, err := range []error{errPut, errGet, errStat, errDelete} {
			if !errors.Is(err, storage.ErrKey) {
				t.Errorf("%s: %v; want ErrKey", name, err)
			}
		}
	}
}

func pagesAndDeletes(s store) {
	t := s.t
	content := pngBytes(t)
	// Keys are in the order of their bytes, in which "-" and "." come before "/".
	keys := []string{"u/tasks/1.png", "u/tasks/1/2.png", "u/tasks/10/2.png", "u/tasks/2/2.png", "u/uploads-2/x.png", "u/uploads/a.png", "u/uploads/b.png", "uu/c.png"}
	for _, key := range keys {
		put(t, s.bucket, key, content)
	}
	if got := list(t, s.bucket); !slices.Equal(got, keys) {
		t.Errorf("listed %q", got)
	}
	page, next, err := s.bucket.Page(t.Context(), "")
	if err != nil || next != "" || page[0].Size != int64(len(content)) || time.Since(page[0].ModTime) > time.Minute {
		t.Errorf("Page = %+v, %q, %v", page, next, err)
	}
	if err := s.bucket.Delete(t.Context(), "u/uploads/a.png"); err != nil {
		t.Fatal(err)
	}
	if err := s.bucket.Delete(t.Context(), "u/uploads/a.png"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("second Delete: %v; want ErrNotFound", err)
	}
	if _, err := s.bucket.Get(t.Context(), "u/uploads/a.png"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of a deleted object: %v; want ErrNotFound", err)
	}
	if _, err := s.bucket.Get(t.Context(), "u/uploads"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of a folder: %v; want ErrNotFound", err)
	}
	if got := list(t, s.bucket); slices.Contains(got, "u/uploads/a.png") || len(got) != len(keys)-1 {
		t.Errorf("listed %q", got)
	}
	if err := s.bucket.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
}

func keepsPrefixesApart(s store) {
	t := s.t
	if strings.HasPrefix(s.url, "file:") {
		if _, err := storage.Open(t.Context(), s.url+"?prefix=a"); err == nil {
			t.Error("a folder took a prefix")
		}
		return
	}
	with := func(prefix string) *storage.Bucket {
		mark := "?"
		if strings.Contains(s.url, "?") {
			mark = "&"
		}
		return open(t, s.url+mark+"prefix="+prefix)
	}
	content := pngBytes(t)
	one, alike := with("part/one/"), with("part/on")
	put(t, one, "u/a.png", content)
	put(t, alike, "u/b.png", content)
	if got := list(t, one); !slices.Equal(got, []string{"u/a.png"}) {
		t.Errorf("listed %q", got)
	}
	if got := list(t, s.bucket); !slices.Equal(got, []string{"part/on/u/b.png", "part/one/u/a.png"}) {
		t.Errorf("listed %q", got)
	}
	if !bytes.Equal(read(t, one, "u/a.png"), content) {
		t.Error("read other bytes")
	}
	if _, err := one.Get(t.Context(), "u/b.png"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of another part's object: %v; want ErrNotFound", err)
	}
	if _, err := one.Put(t.Context(), "u/a.png", bytes.NewReader(content), mebibyte); !errors.Is(err, storage.ErrExists) {
		t.Errorf("second Put: %v; want ErrExists", err)
	}
	if err := one.Delete(t.Context(), "u/a.png"); err != nil {
		t.Error(err)
	}
	if _, err := one.RemoveUnfinished(t.Context(), time.Now()); err != nil {
		t.Error(err)
	}
}

func removesNothingThatIsWhole(s store) {
	t := s.t
	put(t, s.bucket, "u/a.png", pngBytes(t))
	if n, err := s.bucket.RemoveUnfinished(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	if got := list(t, s.bucket); len(got) != 1 {
		t.Errorf("listed %q", got)
	}
}

func removesAFolder(s store) {
	t := s.t
	content := pngBytes(t)
	for i := range 3 {
		put(t, s.bucket, fmt.Sprintf("u/tasks/%d/1/a.png", i), content)
	}
	put(t, s.bucket, "u/uploads/a.png", content)
	kept := []string{"a/u/a.png", "u.png", "ub/a.png"}
	for _, key := range kept {
		put(t, s.bucket, key, content)
	}
	for _, want := range []int{4, 0} {
		if n, err := s.bucket.RemoveFolder(t.Context(), "u"); n != want || err != nil {
			t.Errorf("removed %d, %v; want %d", n, err, want)
		}
	}
	if got := list(t, s.bucket); !slices.Equal(got, kept) {
		t.Errorf("left are %q, want %q", got, kept)
	}
	for _, folder := range []string{"", ".", "..", "u/..", "/"} {
		if _, err := s.bucket.RemoveFolder(t.Context(), folder); !errors.Is(err, storage.ErrKey) {
			t.Errorf("%q: %v", folder, err)
		}
	}
}
