package objects

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/gateway/storage"
)

// crashPoint is set in a process that is to die at that point of an upload.
const crashPoint = "DARKROOM_TEST_CRASH"

func TestTypesAreToldByTheBytes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	at := b.ann.String() + "/"
	mp4 := "\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp41"
	for name, try := range map[string]struct{ content, declared, is string }{
		"gif":           {"GIF89a\x01\x00\x01\x00", "image/gif", "image/gif"},
		"mp3":           {"ID3\x04\x00\x00\x00\x00", "audio/mp3", "audio/mpeg"},
		"wav":           {"RIFF\x24\x00\x00\x00WAVEfmt ", "audio/x-wav", "audio/wav"},
		"mov":           {"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00", "video/mp4", "video/quicktime"},
		"m4a":           {mp4, "audio/x-m4a", "video/mp4"},
		"jpg":           {"\xff\xd8\xff\xe0", "image/jpg", "image/jpeg"},
		"undeclared":    {mp4, "application/octet-stream", "video/mp4"},
		"with charset":  {mp4, "text/plain;charset=UTF-8", "video/mp4"},
		"no such thing": {mp4, ";;;", "video/mp4"},
	} {
		b.wantOK(b.upload("ann", at+name, []byte(try.content), "Content-Type", try.declared))
		if got := b.get("ann", "/object/image_uploads/"+at+name); got.header.Get("Content-Type") != try.is || got.header.Get("Content-Disposition") != "" {
			t.Errorf("%s: %v", name, got.header)
		}
	}
	for name, try := range map[string]struct{ content, declared string }{
		"HTML": {"<html><script>", "image/png"}, "SVG": {`<svg xmlns="http://www.w3.org/2000/svg"/>`, "image/svg+xml"}, "text": {"hello", "text/plain"},
		"JSON": {"{}", "application/json"}, "nothing": {"", "image/png"}, "PDF": {"%PDF-1.7", "application/pdf"},
		"another": {mp4, "image/png"}, "a page": {mp4, "text/html"}, "SVG in name": {"GIF89a", "image/svg+xml"},
	} {
		b.wantRefusal(b.upload("ann", at+"bad.png", []byte(try.content), "Content-Type", try.declared), 400, "415", "InvalidMimeType")
		body, header := form(t, []byte(try.content), try.declared)
		got := b.do("ann", http.MethodPost, "/object/image_uploads/"+at+"bad.png", body, "Content-Type", header)
		b.wantRefusal(got, 400, "415", "InvalidMimeType")
		_ = name
	}
	// What came into the storage by other ways is saved, not shown.
	b.wantBalanced(b.ann)
}

func TestKeysStayInside(t *testing.T) {
	t.Parallel()
	b := setup(t)
	data := picture(t, 300, 1)
	for _, key := range []string{
		b.ann.String() + "/%2e%2e/" + b.ben.String() + "/a.png", b.ann.String() + "/..%2f" + b.ben.String() + "/a.png", b.ann.String() + "%2fa.png",
		b.ann.String() + "/a%00.png", b.ann.String() + "/a%5cb.png", b.ann.String() + "//a.png", b.ann.String() + "/a%0a.png", b.ann.String() + "/%252e%252e/a.png",
		b.ann.String() + "/.hidden", b.ann.String() + "/a.tmp", b.ann.String() + "/" + strings.Repeat("a", 300), b.ann.String() + strings.Repeat("/aaaaaaaaaa", 200),
		b.ann.String() + "/%c3%a4.png", b.ann.String() + "/", "",
	} {
		for _, who := range []string{"ann", "service"} {
			for _, pairs := range [][]string{nil, {"X-Upsert", "true"}} {
				b.wantRefusal(b.upload(who, key, data, pairs...), 400, "400", "InvalidKey")
			}
			b.wantRefusal(b.get(who, "/object/image_uploads/"+key), 400, "404", "NoSuchKey")
			b.wantRefusal(b.get("", "/object/public/image_uploads/"+key), 404, "404", "GW005")
			b.wantRefusal(b.post(who, "/object/upload/sign/image_uploads/"+key, ""), 400, "400", "InvalidKey")
		}
	}
	b.wantOK(b.upload("ann", b.ann.String()+"/a.png", data))
	b.wantRefusal(b.upload("ann", b.ann.String()+"/a.png/b.png", data), 400, "409", "KeyAlreadyExists")
	b.wantOK(b.upload("ann", b.ann.String()+"/f/a.png", data))
	b.wantRefusal(b.upload("ann", b.ann.String()+"/f", data, "X-Upsert", "true"), 400, "409", "KeyAlreadyExists")
	b.wantBalanced(b.ann)
	if _, files := b.stored(b.ben); files != 0 {
		t.Errorf("%d files came below another user", files)
	}
}

func TestSizesAreLimitedBeforeReading(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := b.ann.String() + "/a.png"
	path := "/object/image_uploads/" + key
	large := picture(t, maxUpload+1, 1)
	b.wantRefusal(b.upload("ann", key, large), 400, "413", "EntityTooLarge")
	b.wantRefusal(b.do("ann", http.MethodPost, path, io.MultiReader(bytes.NewReader(large))), 400, "413", "EntityTooLarge") // its length is not told
	body, header := form(t, large, "image/png")
	b.wantRefusal(b.do("ann", http.MethodPost, path, body, "Content-Type", header), 400, "413", "EntityTooLarge")
	body, header = form(t, large, "image/png")
	b.wantRefusal(b.do("ann", http.MethodPost, path, io.MultiReader(body), "Content-Type", header), 400, "413", "EntityTooLarge")
	b.wantBalanced(b.ann)

	// The length alone is refused: nothing was sent yet.
	conn, answer := b.raw("POST /storage/v1" + path + " HTTP/1.1\r\nHost: x\r\nApikey: ann\r\nContent-Length: 99999999999\r\n\r\n")
	defer conn.Close()
	if !strings.Contains(answer(), `"EntityTooLarge"`) {
		t.Error("the length was not refused")
	}

	b.wantOK(b.upload("ann", key, picture(t, maxUpload, 1)))
	body, header = form(t, picture(t, maxUpload, 2), "image/png")
	b.wantOK(b.do("ann", http.MethodPut, path, body, "Content-Type", header))
	body, header = form(t, picture(t, maxUpload, 3), "image/png")
	b.wantOK(b.do("ann", http.MethodPut, path, io.MultiReader(body), "Content-Type", header))
	b.wantBalanced(b.ann)
	b.wantRefusal(b.post("ann", "/object/list/image_uploads", `{"prefix":"`+strings.Repeat("a", maxJSONBytes)+`"}`), 400, "413", "EntityTooLarge")
}

// raw sends text over a connection; answer reads what comes back until the other end is done.
func (b *testBundle) raw(text string) (conn net.Conn, answer func() string) {
	b.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(b.t.Context(), "tcp", b.web.Listener.Addr().String())
	must(b.t, err)
	_, err = io.WriteString(conn, text)
	must(b.t, err)
	return conn, func() string {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			b.t.Fatal(err)
		}
		defer response.Body.Close()
		data, _ := io.ReadAll(response.Body)
		return string(data)
	}
}

func TestABodyThatStopsIsCutOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.door.patience.idle = 200 * time.Millisecond
	data := picture(t, 5000, 1)
	for _, header := range []string{"Content-Length: 5001\r\n", "Transfer-Encoding: chunked\r\n"} {
		sent := string(data)
		if strings.HasPrefix(header, "T") {
			sent = fmt.Sprintf("%x\r\n%s\r\n", len(data), data)
		}
		conn, answer := b.raw("POST /storage/v1/object/image_uploads/" + b.ann.String() + "/a.png HTTP/1.1\r\nHost: x\r\nApikey: ann\r\n" + header + "\r\n" + sent)
		began := time.Now()
		if got := answer(); !strings.Contains(got, `"statusCode":"400"`) || !strings.Contains(got, "did not arrive whole") || time.Since(began) > 5*time.Second {
			t.Errorf("%s after %s", got, time.Since(began))
		}
		conn.Close()
	}
	// A sender that goes away.
	conn, _ := b.raw("POST /storage/v1/object/image_uploads/" + b.ann.String() + "/a.png HTTP/1.1\r\nHost: x\r\nApikey: ann\r\nContent-Length: 9000\r\n\r\n" + string(data))
	time.Sleep(50 * time.Millisecond)
	conn.Close()
	// A form that ends in its file.
	body, header := form(t, data, "image/png")
	b.wantRefusal(b.do("ann", http.MethodPost, "/object/image_uploads/"+b.ann.String()+"/a.png", bytes.NewReader(body.Bytes()[:4000]), "Content-Type", header), 400, "400", "InvalidRequest")

	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, rows, _ := b.counted(b.ann); rows == 0 || time.Now().After(deadline) {
			break
		}
	}
	b.wantBalanced(b.ann)
	if _, files := b.stored(b.ann); files != 0 {
		t.Errorf("%d files are stored", files)
	}
	b.wantOK(b.upload("ann", b.ann.String()+"/a.png", data))
}

func TestASlowBodyHasAnEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.door.patience.start, b.door.patience.bytesPerSecond = 300*time.Millisecond, 1<<20
	reader, writer := io.Pipe()
	go func() {
		for _, err := writer.Write(picture(t, 1000, 1)); err == nil; _, err = writer.Write([]byte{0}) {
			time.Sleep(10 * time.Millisecond) // never idle, and never done
		}
	}()
	began := time.Now()
	b.wantRefusal(b.do("ann", http.MethodPost, "/object/image_uploads/"+b.ann.String()+"/a.png", reader), 400, "400", "InvalidRequest")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it was served for %s", took)
	}
	_ = writer.Close()
	b.wantBalanced(b.ann)
}

func TestQuota(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.setQuota(b.ann, 10_000)
	at := b.ann.String() + "/"
	b.wantOK(b.upload("ann", at+"a.png", picture(t, 6000, 1)))
	b.wantRefusal(b.upload("ann", at+"b.png", picture(t, 4001, 1)), 400, "413", "TD070")
	b.wantRefusal(b.do("ann", http.MethodPost, "/object/image_uploads/"+at+"b.png", io.MultiReader(bytes.NewReader(picture(t, 4001, 1)))), 400, "413", "TD070")
	b.wantOK(b.upload("ann", at+"b.png", picture(t, 4000, 1)))
	b.wantRefusal(b.upload("ann", at+"c.png", picture(t, 300, 1)), 400, "413", "TD070")
	b.wantOK(b.upload("ann", at+"a.png", picture(t, 6000, 2), "X-Upsert", "true")) // in its own place there is room
	b.wantRefusal(b.upload("ann", at+"a.png", picture(t, 6001, 2), "X-Upsert", "true"), 400, "413", "TD070")
	b.wantOK(b.upload("ben", b.ben.String()+"/a.png", picture(t, 20_000, 1))) // another's quota is another's
	b.wantRefusal(b.upload("service", at+"c.png", picture(t, 300, 1)), 400, "413", "TD070")
	b.wantOK(b.do("ann", http.MethodDelete, "/object/image_uploads/"+at+"b.png", nil))
	b.wantOK(b.upload("ann", at+"c.png", picture(t, 4000, 1)))
	b.wantBalanced(b.ann)
	b.setQuota(b.ann, 5)
	b.wantRefusal(b.upload("ann", at+"a.png", picture(t, 300, 2), "X-Upsert", "true"), 400, "413", "TD070")
	b.wantOK(b.do("ann", http.MethodDelete, "/object/image_uploads/"+at+"c.png", nil))
	b.wantBalanced(b.ann)
	for _, answer := range []string{b.log.String()} {
		if strings.Contains(answer, "level=ERROR") {
			t.Error(answer)
		}
	}
}

func TestParallelUploadsStayWithinTheQuota(t *testing.T) {
	onBoth(t, func(b *testBundle) {
		const quota, size, uploads = 50_000, 7_000, 40
		b.setQuota(b.ann, quota)
		other := b.serve(New(Config{Bucket: b.open(), DB: b.door.db, Signer: b.door.signer, MaxUpload: maxUpload, Log: b.door.log})) // a second gateway
		var accepted, refused atomic.Int64
		var group sync.WaitGroup
		for i := range uploads {
			group.Go(func() {
				web := []string{b.web.URL, other.URL}[i%2]
				var body io.Reader = bytes.NewReader(picture(b.t, size, byte(i)))
				if i%4 > 1 {
					body = io.MultiReader(body) // of unknown length
				}
				r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, fmt.Sprintf("%s/storage/v1/object/image_uploads/%s/%d.png", web, b.ann, i%25), body)
				if err != nil {
					b.t.Error(err)
					return
				}
				r.Header.Set("Apikey", "ann")
				if i%3 == 0 {
					r.Header.Set("X-Upsert", "true")
				}
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					b.t.Error(err)
					return
				}
				defer response.Body.Close()
				data, _ := io.ReadAll(response.Body)
				switch {
				case response.StatusCode == http.StatusOK:
					accepted.Add(1)
				case strings.Contains(string(data), "TD070"), strings.Contains(string(data), "TD071"), strings.Contains(string(data), "KeyAlreadyExists"):
					refused.Add(1)
				default:
					b.t.Errorf("%d %s", response.StatusCode, data)
				}
			})
		}
		group.Wait()
		b.wantBalanced(b.ann)
		total, rows, _ := b.counted(b.ann)
		if total > quota || rows == 0 || accepted.Load() == 0 || refused.Load() == 0 {
			b.t.Errorf("%d bytes in %d rows; %d accepted, %d refused", total, rows, accepted.Load(), refused.Load())
		}
		b.t.Logf("%d of %d bytes in %d rows; %d accepted, %d refused", total, quota, rows, accepted.Load(), refused.Load())
	})
}

func TestOneOfManyUploadsOfAKeyIsStored(t *testing.T) {
	onBoth(t, func(b *testBundle) {
		key := b.ann.String() + "/a.png"
		var group sync.WaitGroup
		var stored atomic.Int64
		for i := range 12 {
			group.Go(func() {
				got := b.upload("ann", key, picture(b.t, 3000+i, byte(i)))
				if got.status == http.StatusOK {
					stored.Add(1)
				} else if code := got.text(b.t, "code"); code != "TD071" && code != "KeyAlreadyExists" {
					b.t.Errorf("%d %s", got.status, got.body)
				}
			})
		}
		group.Wait()
		b.wantBalanced(b.ann)
		if stored.Load() != 1 {
			b.t.Errorf("%d were stored", stored.Load())
		}
	})
}

func TestSignedUploads(t *testing.T) {
	onBoth(t, func(b *testBundle) {
		t, data := b.t, picture(b.t, 5000, 1)
		task, attempt := b.runningTask()
		output := storage.OutputKey(b.ann, task, attempt, "thumbnails/a b.png")
		got := b.post("worker", "/object/upload/sign/image_uploads/"+strings.ReplaceAll(output, " ", "%20"), "{}", "X-Upsert", "true")
		b.wantOK(got)
		path := strings.ReplaceAll(got.text(t, "url"), " ", "%20")
		b.wantRefusal(b.do("", http.MethodPut, path+"x", bytes.NewReader(data)), 400, "400", "InvalidJWT")
		b.wantRefusal(b.do("", http.MethodPut, strings.Replace(path, "thumbnails", "thumbnail", 1), bytes.NewReader(data)), 400, "400", "InvalidJWT")
		b.wantRefusal(b.do("", http.MethodPut, path, strings.NewReader("<html>")), 415, "415", "InvalidMimeType")
		if got := b.do("", http.MethodPut, path, bytes.NewReader(data), "Content-Type", "image/png"); got.status != http.StatusOK || got.text(t, "Key") != "image_uploads/"+output {
			t.Fatalf("%d %s", got.status, got.body)
		}
		// The answer was lost: the same again is fine, another file is not.
		b.wantOK(b.do("", http.MethodPut, path, bytes.NewReader(data), "Content-Type", "image/png"))
		b.wantRefusal(b.do("", http.MethodPut, path, bytes.NewReader(picture(t, 5000, 2))), 409, "409", "KeyAlreadyExists")
		b.wantRefusal(b.do("", http.MethodPut, path, bytes.NewReader(data[:4999])), 409, "409", "KeyAlreadyExists")
		b.wantRefusal(b.do("", http.MethodPut, path, bytes.NewReader(append(bytes.Clone(data), 0))), 409, "409", "KeyAlreadyExists")
		if got := b.get("", "/object/public/image_uploads/"+strings.ReplaceAll(output, " ", "%20")); !bytes.Equal(got.body, data) {
			t.Error("stored other bytes")
		}
		if _, rows, _ := b.counted(b.ann); rows != 0 {
			t.Error("an output is counted")
		}

		// Only for the attempt that it runs.
		for _, key := range []string{
			storage.OutputKey(b.ann, task, attempt+1, "a.png"), storage.OutputKey(b.ann, uuid.New(), attempt, "a.png"), storage.OutputKey(b.ben, task, attempt, "a.png"),
			b.ann.String() + "/a.png", b.ann.String() + "/tasks/" + task.String() + "/a.png", b.ann.String() + "/tasks/" + task.String() + "/99999999999/a.png",
		} {
			b.wantRefusal(b.post("worker", "/object/upload/sign/image_uploads/"+key, "{}"), 400, "403", "AccessDenied")
		}

		// As helper functions sign: many at once store one.
		address := b.door.signer.UploadURL("", storage.OutputKey(b.ann, task, attempt, "race.png"), time.Minute, 10_000)
		address = strings.TrimPrefix(address, "/storage/v1")
		var group sync.WaitGroup
		var stored atomic.Int64
		for i := range 8 {
			group.Go(func() {
				got := b.do("", http.MethodPut, address, bytes.NewReader(picture(t, 3000, byte(i%2))))
				if got.status == http.StatusOK {
					stored.Add(1)
				} else if got.status != http.StatusConflict {
					t.Errorf("%d %s", got.status, got.body)
				}
			})
		}
		group.Wait()
		if stored.Load() != 4 {
			t.Errorf("%d of 4 equal files were accepted", stored.Load())
		}
		b.wantRefusal(b.do("", http.MethodPut, strings.TrimPrefix(b.door.signer.UploadURL("", storage.OutputKey(b.ann, task, attempt, "l.png"), time.Minute, 4999), "/storage/v1"),
			bytes.NewReader(data)), 413, "413", "EntityTooLarge")
		b.wantRefusal(b.do("", http.MethodPut, strings.TrimPrefix(b.door.signer.UploadURL("", output, -time.Second, 4999), "/storage/v1"), bytes.NewReader(data)), 400, "400", "InvalidJWT")

		// A user's own.
		own := b.ann.String() + "/signed.png"
		got = b.post("ann", "/object/upload/sign/image_uploads/"+own, "{}")
		b.wantOK(got)
		b.setQuota(b.ann, 5000)
		body, header := form(t, data, "image/png", "cacheControl", "3600")
		b.wantOK(b.do("", http.MethodPut, got.text(t, "url"), body, "Content-Type", header))
		b.wantRefusal(b.do("", http.MethodPut, got.text(t, "url"), bytes.NewReader(picture(t, 5000, 9))), 409, "409", "KeyAlreadyExists")
		b.wantRefusal(b.post("ann", "/object/upload/sign/image_uploads/"+own, "{}"), 400, "409", "KeyAlreadyExists")
		got = b.post("ann", "/object/upload/sign/image_uploads/"+own, "{}", "X-Upsert", "true")
		b.wantOK(got)
		b.wantOK(b.do("", http.MethodPut, got.text(t, "url"), bytes.NewReader(picture(t, 4000, 9))))
		b.wantRefusal(b.do("", http.MethodPut, got.text(t, "url"), bytes.NewReader(picture(t, 5001, 9))), 413, "413", "TD070")
		b.wantBalanced(b.ann)
		if strings.Contains(b.log.String(), "token=") || strings.Contains(b.log.String(), "level=ERROR") {
			t.Error(b.log.String())
		}
	})
}

func TestSignedDownloads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	data := picture(t, 3000, 1)
	key := b.ann.String() + "/a b.png"
	b.wantOK(b.upload("ann", strings.ReplaceAll(key, " ", "%20"), data))
	got := b.post("ann", "/object/sign/image_uploads/"+strings.ReplaceAll(key, " ", "%20"), `{"expiresIn":60}`)
	b.wantOK(got)
	path := strings.ReplaceAll(got.text(t, "signedURL"), " ", "%20")
	got = b.get("", path+"&download=x.png")
	if got.status != http.StatusOK || !bytes.Equal(got.body, data) || !strings.HasPrefix(got.header.Get("Cache-Control"), "private, max-age=") ||
		got.header.Get("Content-Disposition") != "attachment; filename=x.png" {
		t.Errorf("%d %v", got.status, got.header)
	}
	if got := b.get("", path, "Range", "bytes=10-19"); got.status != http.StatusPartialContent || !bytes.Equal(got.body, data[10:20]) {
		t.Errorf("range: %d", got.status)
	}
	for _, bad := range []string{path + "x", strings.Replace(path, "a%20b", "a", 1), strings.Split(path, "?")[0], strings.Replace(path, "/object/sign", "/object/upload/sign", 1)} {
		if got := b.get("", bad); strings.Contains(bad, "upload") {
			if got.status == http.StatusOK {
				t.Errorf("%s: %d", bad, got.status)
			}
		} else {
			b.wantRefusal(got, 400, "400", "InvalidJWT")
		}
	}
	b.wantRefusal(b.do("", http.MethodPut, strings.Replace(path, "/object/sign", "/object/upload/sign", 1), bytes.NewReader(data)), 400, "400", "InvalidJWT")
	b.wantRefusal(b.get("", strings.TrimPrefix(b.door.signer.DownloadURL("", key, 0), "/storage/v1")), 400, "400", "InvalidJWT")
	b.wantRefusal(b.get("", strings.TrimPrefix(b.door.signer.DownloadURL("", "none", time.Minute), "/storage/v1")), 404, "404", "NoSuchKey")
	for _, bad := range []string{`{}`, `{"expiresIn":0}`, `{"expiresIn":-5}`, `{"expiresIn":1e99}`, `{"expiresIn":"x"}`} {
		b.wantRefusal(b.post("ann", "/object/sign/image_uploads/"+strings.ReplaceAll(key, " ", "%20"), bad), 400, "400", "InvalidRequest")
	}
	b.wantRefusal(b.post("ann", "/object/sign/image_uploads/"+b.ann.String()+"/none.png", `{"expiresIn":60}`), 400, "404", "NoSuchKey")

	var many []struct {
		Error, Path, SignedURL *string
	}
	got = b.post("ann", "/object/sign/image_uploads", `{"expiresIn":60,"paths":["`+key+`","`+b.ann.String()+`/none.png","`+b.ben.String()+`/x.png","../x"]}`)
	got.into(t, &many)
	if len(many) != 4 || many[0].Error != nil || many[0].SignedURL == nil || many[1].SignedURL != nil || many[2].Error == nil || many[3].Error == nil || *many[1].Error != *many[2].Error {
		t.Fatalf("%s", got.body)
	}
	if got := b.get("", strings.ReplaceAll(*many[0].SignedURL, " ", "%20")); !bytes.Equal(got.body, data) {
		t.Errorf("%d", got.status)
	}
}

func TestPublicFilesInRanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	data := picture(t, 3000, 1)
	key := storage.OutputKey(b.ann, uuid.New(), 1, "a.png")
	_, err := b.bucket.Put(t.Context(), key, bytes.NewReader(data), 1<<20)
	must(t, err)
	path := "/object/public/image_uploads/" + key
	whole := b.get("", path)
	for name, value := range map[string]string{
		"Content-Type": "image/png", "Content-Length": "3000", "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff",
		"Cache-Control": "public, max-age=31536000, immutable", "Content-Disposition": "",
	} {
		if whole.header.Get(name) != value {
			t.Errorf("%s: %q", name, whole.header.Get(name))
		}
	}
	if got := b.do("", http.MethodHead, path, nil); got.status != http.StatusOK || got.header.Get("Content-Length") != "3000" || len(got.body) > 0 {
		t.Errorf("HEAD: %d", got.status)
	}
	if got := b.get("", path, "If-None-Match", whole.header.Get("ETag")); got.status != http.StatusNotModified {
		t.Errorf("If-None-Match: %d", got.status)
	}
	for asked, want := range map[string][]byte{"bytes=0-99": data[:100], "bytes=1000-": data[1000:], "bytes=-5": data[2995:], "bytes=0-9999999": data} {
		if got := b.get("", path, "Range", asked); got.status != http.StatusPartialContent || !bytes.Equal(got.body, want) {
			t.Errorf("%s: %d", asked, got.status)
		}
	}
	for _, asked := range []string{"bytes=9999999-", "bytes=5-1", "pages=1"} {
		b.wantRefusal(b.get("", path+"?download", "Range", asked), 416, "416", "GW009")
	}
	if got := b.do("", http.MethodHead, path+"x", nil); got.status != http.StatusNotFound || len(got.body) > 0 {
		t.Errorf("HEAD of nothing: %d", got.status)
	}
	b.wantRefusal(b.get("", path+"x"), 404, "404", "GW005")
	if !NeedsNoKey(http.MethodGet, "/storage/v1"+path) || NeedsNoKey(http.MethodPost, "/storage/v1"+path) || !Owns("/storage/v1"+path) || Owns("/storage/v10") {
		t.Error("the server would not know the address")
	}
}

func TestAFileOfAnotherTypeIsSaved(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	b := setupOver(t, "file://"+folder)
	writeFile(t, folder, "shared/page.html", "<script>alert(1)</script>")
	got := b.get("", "/object/public/image_uploads/shared/page.html")
	if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/octet-stream" || got.header.Get("Content-Disposition") != "attachment" || got.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v", got.status, got.header)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.door.Run(ctx)
}
