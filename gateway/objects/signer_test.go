package objects

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestATokenBindsMethodKeyLengthAndTime(t *testing.T) {
	t.Parallel()
	s := NewSigner([]byte("a secret of thirty-two bytes ...."))
	const key = "u/a b+c.png"
	upload := s.UploadURL("https://example.com/base/", key, time.Minute, 1234)
	u, err := url.Parse(upload)
	if err != nil || !strings.HasPrefix(upload, "https://example.com/base/storage/v1/object/upload/sign/image_uploads/u/a%20b+c.png?token=") {
		t.Fatalf("%s %v", upload, err)
	}
	token := u.Query().Get("token")
	if g, err := s.check(token, http.MethodPut, key); err != nil || g.MaxBytes != 1234 || g.Replace {
		t.Errorf("%+v %v", g, err)
	}
	replace := func(at int, with string) string { return token[:at] + with + token[at+1:] }
	flip := func(at int) string {
		if token[at] == 'A' {
			return replace(at, "B")
		}
		return replace(at, "A")
	}
	other := NewSigner([]byte("another secret of thirty-two byte"))
	for name, try := range map[string]struct {
		by                 *Signer
		token, method, key string
	}{
		"method":    {s, token, http.MethodGet, key},
		"key":       {s, token, http.MethodPut, "u/a.png"},
		"secret":    {other, token, http.MethodPut, key},
		"claims":    {s, flip(10), http.MethodPut, key},
		"signature": {s, flip(len(token) - 10), http.MethodPut, key},
		"empty":     {s, "", http.MethodPut, key},
		"dot":       {s, ".", http.MethodPut, key},
		"unsigned":  {s, strings.SplitAfter(token, ".")[0], http.MethodPut, key},
		"long":      {s, strings.Repeat("A", 1<<20) + "." + strings.SplitAfter(token, ".")[1], http.MethodPut, key},
		"download":  {s, s.sign(grant{Method: http.MethodGet, Key: key, Expires: 1 << 40}), http.MethodPut, key},
	} {
		if _, err := try.by.check(try.token, try.method, try.key); !errors.Is(err, errToken) {
			t.Errorf("another %s: %v; want errToken", name, err)
		}
	}
	if _, err := s.check(s.sign(grant{Method: http.MethodPut, Key: key, Expires: time.Now().Unix()}), http.MethodPut, key); !errors.Is(err, errTokenExpired) {
		t.Errorf("expired: %v", err)
	}
}
