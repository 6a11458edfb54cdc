package fetch

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/jpeg"
	"image/png"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"code.dny.dev/ssrf"
	"github.com/google/uuid"
	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine"
)

const publicURL = "http://127.0.0.1:8484"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type testBundle struct {
	*Fetcher

	owner  uuid.UUID
	folder string
	names  *nameServer
}

// setup makes a fetcher in whose world 127.0.0.1 is the public internet and these are all the names there are.
func setup(t *testing.T, names map[string][]string) *testBundle {
	t.Helper()
	bucket, err := storage.Open(t.Context(), (&url.URL{Scheme: "file", Path: t.TempDir()}).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bucket.Close() })
	bundle := &testBundle{
		Fetcher: New(bucket, publicURL), owner: uuid.New(), folder: t.TempDir(), names: serveNames(t, names),
	}
	bundle.trust(nil)
	return bundle
}

// trust lets the fetcher connect to 127.0.0.1 and takes the certificate of the server.
func (b *testBundle) trust(server *httptest.Server) {
	guard := ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(netip.MustParsePrefix("127.0.0.1/32")))
	b.client = newClient(guard, b.names.resolver(), roots(server))
}

func roots(server *httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	if server != nil {
		pool.AddCert(server.Certificate())
	}
	return pool
}

func (b *testBundle) serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	b.trust(server)
	return server
}

func (b *testBundle) fetch(t *testing.T, reference string, kind Kind) (File, error) {
	t.Helper()
	return b.Fetch(t.Context(), reference, b.owner, b.folder, kind)
}

// wantRefused checks the class, that the message is a sentence which keeps the query to itself, and that no file stayed.
func (b *testBundle) wantRefused(t *testing.T, err error, class engine.Class, words string) {
	t.Helper()
	var failure *engine.Error
	if !errors.As(err, &failure) || failure.Class != class || !strings.Contains(failure.Message, words) {
		t.Errorf("error %v of class %q; want %q, saying %q", err, engine.ClassOf(err), class, words)
	}
	if err != nil && strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error tells the secret: %v", err)
	}
	if left, err := os.ReadDir(b.folder); err != nil || len(left) != 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

// nameServer answers A questions from a table: each question takes the next address of its name, the last one stays.
type nameServer struct {
	address string
	table   map[string][]string
	asked   map[string]int
}

func serveNames(t *testing.T, table map[string][]string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &nameServer{address: conn.LocalAddr().String(), table: table, asked: map[string]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer, err := server.answer(buffer[:n]); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return server
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.address)
	}}
}

func (s *nameServer) answer(question []byte) ([]byte, error) {
	var message dnsmessage.Message
	if err := message.Unpack(question); err != nil {
		return nil, err
	}
	message.Response, message.Authoritative = true, true
	message.Additionals = nil
	asked := message.Questions[0]
	addresses, known := s.table[strings.TrimSuffix(asked.Name.String(), ".")]
	switch {
	case !known:
		message.RCode = dnsmessage.RCodeNameError
	case asked.Type == dnsmessage.TypeA:
		name := asked.Name.String()
		address := addresses[min(s.asked[name], len(addresses)-1)]
		s.asked[name]++
		message.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: asked.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()},
		}}
	}
	return message.Pack()
}

func pngBytes(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewRGBA(image.Rect(0, 0, 64, 48))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func port(t *testing.T, server *httptest.Server) string {
	t.Helper()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func servePNG(t *testing.T) http.HandlerFunc {
	t.Helper()
	content := pngBytes(t)
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }
}

func (b *testBundle) put(t *testing.T, key string) {
	t.Helper()
	if _, err := b.bucket.Put(t.Context(), key, bytes.NewReader(pngBytes(t)), 1<<20); err != nil {
		t.Fatal(err)
	}
}

func TestOwnFilesAreReadFromTheBucket(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	key := storage.UploadKey(b.owner, "a b.png")
	b.put(t, key)
	for _, reference := range []string{key, storage.URL(publicURL, key), storage.URL(publicURL, key) + "?t=1"} {
		file, err := b.fetch(t, reference, Image)
		if err != nil {
			t.Errorf("Fetch(%q): %v", reference, err)
			continue
		}
		content, err := os.ReadFile(file.Path)
		if err != nil || !bytes.Equal(content, pngBytes(t)) || file.MediaType != "image/png" || file.Size != int64(len(content)) {
			t.Errorf("Fetch(%q) = %+v, %v", reference, file, err)
		}
		if filepath.Dir(file.Path) != b.folder || filepath.Ext(file.Path) != ".png" {
			t.Errorf("Fetch(%q) wrote %s", reference, file.Path)
		}
	}
}

func TestFilesOfOthersLookLikeMissingOnes(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	stranger := storage.UploadKey(uuid.New(), "a.png")
	b.put(t, stranger)
	missing := storage.UploadKey(b.owner, "a.png")
	_, errStranger := b.fetch(t, stranger, Image)
	_, errMissing := b.fetch(t, missing, Image)
	b.wantRefused(t, errStranger, engine.BadInput, "You have no file")
	if got, want := engine.MessageOf(errStranger), strings.Replace(engine.MessageOf(errMissing), missing, stranger, 1); got != want {
		t.Errorf("for a stranger's file %q, for a missing one %q", got, want)
	}
	_, err := b.fetch(t, storage.URL(publicURL, stranger), Image)
	b.wantRefused(t, err, engine.BadInput, "You have no file")
	_, err = b.fetch(t, b.owner.String()+"0/uploads/a.png", Image)
	b.wantRefused(t, err, engine.BadInput, "You have no file")
}

func TestOnlyStorageAndHTTPSAreTaken(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for _, reference := range []string{
		"", " ", "/", "http://example.com/a.png", "file:///etc/passwd", "FILE:///etc/passwd", "/etc/passwd", "ftp://example.com/a.png",
		"data:image/png;base64,iVBORw0KGgo=", "gopher://example.com/", "concat:/etc/passwd|/etc/hosts", "pipe:0", "subfile,,start,0,end,0,,:/etc/passwd",
		"//example.com/a.png", "../../etc/passwd", b.owner.String() + "/../secret.png", b.owner.String() + "/%2e%2e/secret.png",
		b.owner.String() + "//a.png", b.owner.String() + `\a.png`, b.owner.String() + "/a.png\x00", "https", "https:", "https:a.png",
		"https:///a.png", "https://", "https://exa mple.com/", "http://127.0.0.1:8485/storage/v1/object/public/image_uploads/" + b.owner.String() + "/a.png",
		"https://example.com/" + strings.Repeat("a", 5000),
	} {
		_, err := b.fetch(t, reference, Image)
		if engine.ClassOf(err) != engine.BadInput {
			t.Errorf("Fetch(%q): %v; want bad_input", reference, err)
		}
	}
}

func TestHTTPSIsFetched(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string][]string{"example.com": {"127.0.0.1"}})
	referers := make(chan string, 2)
	server := b.serve(t, func(w http.ResponseWriter, r *http.Request) {
		referers <- r.Referer()
		if r.URL.Path == "/start" {
			http.Redirect(w, r, "https://example.com:"+r.URL.Query().Get("port")+"/end", http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "text/html") // a lie that changes nothing
		servePNG(t)(w, r)
	})
	file, err := b.fetch(t, server.URL+"/start?port="+port(t, server)+"&token=s3cret", Image)
	if err != nil || file.MediaType != "image/png" {
		t.Errorf("Fetch = %+v, %v", file, err)
	}
	for range 2 {
		if got := <-referers; got != "" {
			t.Errorf("the first address was told to the second server: %q", got)
		}
	}
}

// TestHostileAddressesAreNotConnected runs the real guard against each way to write an address of this machine or of a
// private network. A name server stands in for a resolver that takes every old spelling of an IPv4 address.
func TestHostileAddressesAreNotConnected(t *testing.T) {
	t.Parallel()
	names := map[string][]string{"metadata.example.com": {"169.254.169.254"}}
	for _, name := range []string{"2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "0x7f.1", "127.0.0.1.example.com", "private.example.com"} {
		names[name] = []string{"127.0.0.1"}
	}
	b := setup(t, names)
	var hits atomic.Int64
	server := b.serve(t, func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	b.client = newClient(publicOnly(), b.names.resolver(), roots(server))
	for _, host := range []string{
		"127.0.0.1", "127.255.255.254", "localhost", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
		"100.100.100.200", "169.254.169.254", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"0x7f000001", "0x7f.1", "127.0.0.1.example.com", "private.example.com", "metadata.example.com",
		"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
		"[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[2001:db8::1]",
	} {
		_, err := b.fetch(t, "https://"+net.JoinHostPort(strings.Trim(host, "[]"), port(t, server))+"/?token=s3cret", Image)
		b.wantRefused(t, err, engine.BadInput, "not on the public internet")
	}
	for _, authority := range []string{
		"example.com@127.0.0.1", "example.com:443@127.0.0.1", "user:pass@private.example.com", "127.0.0.1:80@private.example.com",
		`127.0.0.1\@example.com`, "127.0.0.1#@example.com", "127.0.0.1%00.example.com", "127.0.0.1%2f.example.com", "①②⑦.⓪.⓪.①",
		"[::1", "127.0.0.1]", "[127.0.0.1]", "2130706433", "0177.0.0.1", "127.1", "0",
	} {
		_, err := b.fetch(t, "https://"+authority+":"+port(t, server)+"/?token=s3cret", Image)
		b.wantRefused(t, err, engine.BadInput, "")
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d requests reached a server on this machine", n)
	}
}

func TestRedirectsAreCheckedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string][]string{"private.example.com": {"10.0.0.1"}})
	server := b.serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", cmp.Or(r.URL.Query().Get("to"), r.URL.String()))
		w.WriteHeader(http.StatusFound)
	})
	for name, test := range map[string]struct{ target, words string }{
		"to plain http":     {"http://example.com/", "https"},
		"to a file":         {"file:///etc/passwd", "https"},
		"to data":           {"data:image/png;base64,iVBORw0KGgo=", "https"},
		"to loopback":       {"https://127.0.0.2/", "public internet"},
		"to IPv6 loopback":  {"https://[::1]/", "public internet"},
		"to metadata":       {"https://169.254.169.254/latest/meta-data", "public internet"},
		"to a private name": {"https://private.example.com/", "public internet"},
		"with a password":   {"https://user:s3cret@example.com/", "password"},
		"in a circle":       {"", "redirects more than 5 times"},
		"to our storage":    {storage.URL(publicURL, storage.UploadKey(b.owner, "a.png")), "https"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.fetch(t, server.URL+"/?token=s3cret&to="+url.QueryEscape(test.target), Image)
			b.wantRefused(t, err, engine.BadInput, test.words)
		})
	}
}

func TestNameThatChangesItsAddressGainsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, map[string][]string{"example.com": {"127.0.0.1", "127.0.0.2"}})
	server := b.serve(t, servePNG(t))
	file, err := b.fetch(t, "https://example.com:"+port(t, server), Image)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file.Path); err != nil {
		t.Fatal(err)
	}
	_, err = b.fetch(t, "https://example.com:"+port(t, server), Image)
	b.wantRefused(t, err, engine.BadInput, "public internet")
}

func TestProxiesOfTheEnvironmentAreNotUsed(t *testing.T) {
	b := setup(t, map[string][]string{"example.com": {"127.0.0.1"}})
	server := b.serve(t, servePNG(t))
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("ALL_PROXY", "http://127.0.0.1:1")
	if _, err := b.fetch(t, "https://example.com:"+port(t, server), Image); err != nil {
		t.Error(err)
	}
}

func TestStatusSaysWhetherToTryAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	server := b.serve(t, func(w http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
	})
	for status, class := range map[int]engine.Class{
		204: engine.BadInput, 206: engine.BadInput, 304: engine.BadInput, 400: engine.BadInput, 401: engine.BadInput, 403: engine.BadInput,
		404: engine.BadInput, 410: engine.BadInput,
		408: engine.EngineDown, 425: engine.EngineDown, 429: engine.EngineDown, 500: engine.EngineDown, 502: engine.EngineDown, 503: engine.EngineDown,
	} {
		_, err := b.fetch(t, fmt.Sprintf("%s/%d?token=s3cret", server.URL, status), Image)
		b.wantRefused(t, err, class, strconv.Itoa(status))
	}
}

func TestServersThatFail(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.maxBytes = 1 << 20
	content := pngBytes(t)
	untilGone := func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(content)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		class   engine.Class
		words   string
		timeout time.Duration
	}{
		"a body shorter than announced": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write(content)
		}, engine.EngineDown, "broke off", Timeout},
		"a body announced too large": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1048577")
		}, engine.BadInput, "too large", Timeout},
		"an endless body": {func(w http.ResponseWriter, _ *http.Request) {
			for zeros := content; ; zeros = make([]byte, 1<<16) {
				if _, err := w.Write(zeros); err != nil {
					return
				}
			}
		}, engine.BadInput, "too large", Timeout},
		"a body that stops coming": {untilGone, engine.EngineDown, "did not arrive within", 100 * time.Millisecond},
		"no answer":                {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, engine.EngineDown, "did not arrive within", 100 * time.Millisecond},
		"a cut":                    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, engine.EngineDown, "could not be reached", Timeout},
		"endless headers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("a", 1<<20))
		}, engine.EngineDown, "could not be reached", Timeout},
	} {
		server := b.serve(t, test.handler)
		b.timeout = test.timeout
		_, err := b.fetch(t, server.URL+"/?token=s3cret", Image)
		t.Run(name, func(t *testing.T) {
			b.wantRefused(t, err, test.class, test.words)
		})
	}
}

func TestServersThatAreNotThere(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	server := b.serve(t, servePNG(t))
	b.trust(nil)
	_, err := b.fetch(t, server.URL+"/?token=s3cret", Image)
	b.wantRefused(t, err, engine.BadInput, "certificate")
	server.Close()
	_, err = b.fetch(t, server.URL+"/?token=s3cret", Image)
	b.wantRefused(t, err, engine.EngineDown, "could not be reached")
	_, err = b.fetch(t, "https://nowhere.example.com/?token=s3cret", Image)
	b.wantRefused(t, err, engine.BadInput, "does not exist")
}

func TestFetchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	server := b.serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := b.Fetch(ctx, server.URL, b.owner, b.folder, Image)
	b.wantRefused(t, err, engine.Cancelled, "")
}

// bombs are small files that say they are huge.
func bombs() map[string][]byte {
	header := []byte("IHDR\x00\x00\xc3\x50\x00\x00\xc3\x50\x08\x06\x00\x00\x00") // 50000 x 50000
	pngBomb := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), header...)
	pngBomb = binary.BigEndian.AppendUint32(pngBomb, crc32.ChecksumIEEE(header))
	return map[string][]byte{
		"PNG":  pngBomb,
		"JPEG": []byte("\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xda\x00\x02"), // 65535 x 65535
		"WebP": []byte("RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\xff\x3f\x00\xff\x3f\x00"),                 // 16384 x 16384
	}
}

func TestInputsAreWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	var photo bytes.Buffer
	if err := jpeg.Encode(&photo, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	const (
		mp4   = "\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp41"
		mov   = "\x00\x00\x00\x14ftypqt  \x00\x00\x02\x00qt  "
		webm  = "\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm"
		video = "must be an MP4, WebM or QuickTime video"
		still = "must be a PNG, JPEG or WebP image"
	)
	server := b.serve(t, func(w http.ResponseWriter, r *http.Request) {
		content, err := base64.URLEncoding.DecodeString(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(content)
	})
	address := func(content []byte) string {
		return server.URL + "/" + base64.URLEncoding.EncodeToString(content) + "?name=image.png&token=s3cret"
	}
	for _, test := range []struct {
		name, content string
		kind          Kind
		ext, words    string
	}{
		{"photo", photo.String(), Image, ".jpg", ""},
		{"MP4", mp4, Video, ".mp4", ""},
		{"QuickTime", mov, Video | Image, ".mov", ""},
		{"WebM", webm, Video, ".webm", ""},
		{"a photo for a video", photo.String(), Video, "", video},
		{"a video for a photo", mp4, Image, "", still},
		{"HTML", "<!DOCTYPE html>", Image | Video, "", still},
		{"SVG", "<svg/>", Image, "", still},
		{"a playlist", "#EXTM3U\nfile:///etc/passwd", Video, "", video},
		{"nothing", "", Image, "", still},
		{"half a photo", photo.String()[:20], Image, "", "is damaged"},
	} {
		file, err := b.fetch(t, address([]byte(test.content)), test.kind)
		if test.words != "" {
			b.wantRefused(t, err, engine.BadInput, test.words)
			continue
		}
		if err != nil || filepath.Ext(file.Path) != test.ext {
			t.Errorf("%s: %+v, %v", test.name, file, err)
			continue
		}
		if err := os.Remove(file.Path); err != nil {
			t.Fatal(err)
		}
	}
	for name, bomb := range bombs() {
		_, err := b.fetch(t, address(bomb), Image)
		b.wantRefused(t, err, engine.BadInput, "at most 33 million")
		// The bucket looks at the type only, so an upload may be one too.
		key := storage.UploadKey(b.owner, name)
		if _, err := b.bucket.Put(t.Context(), key, bytes.NewReader(bomb), 1<<20); err != nil {
			t.Fatal(err)
		}
		_, err = b.fetch(t, key, Image)
		b.wantRefused(t, err, engine.BadInput, "at most 33 million")
	}
}
