package objects

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"darkroom/gateway/storage"
)

const (
	// bucketName is the one bucket there is: the name that workers and apps use.
	bucketName = "image_uploads"

	prefix           = "/storage/v1"
	pathSigned       = "/object/sign/" + bucketName + "/"
	pathSignedUpload = "/object/upload/sign/" + bucketName + "/"

	// signingLabel makes the signing key one that nothing else is signed with.
	signingLabel = "darkroom storage address 1"

	maxTokenBytes = 4 << 10 // longer ones are not looked at
)

var (
	errToken        = errors.New("the token is not one for this address")
	errTokenExpired = errors.New("the token has expired")
)

// Signer makes addresses of single objects that need no key, and knows them again. An address binds method, bucket, key and time.
// It is safe for concurrent use.
type Signer struct{ key []byte }

// NewSigner derives the signing key from a secret of at least 32 bytes, DARKROOM_JWT_SECRET. All gateways with the same secret know each
// other's addresses.
func NewSigner(secret []byte) *Signer {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signingLabel))
	return &Signer{key: mac.Sum(nil)}
}

// grant is what a token allows.
type grant struct {
	Method   string `json:"m"`
	Bucket   string `json:"b"`
	Key      string `json:"k"`
	Expires  int64  `json:"x"`           // Unix seconds
	MaxBytes int64  `json:"n,omitempty"` // of an upload
	Replace  bool   `json:"r,omitempty"` // an upload may take the place of an object
}

// UploadURL is an address to which anybody may PUT one new file, of up to maxBytes, until it expires. The base is the gateway's public URL; a path in
// it is kept. Whoever signs has checked that the caller may write under this key, which [storage.CleanKey] takes.
func (s *Signer) UploadURL(base, key string, expires time.Duration, maxBytes int64) string {
	token := s.sign(grant{Method: http.MethodPut, Key: key, Expires: time.Now().Add(expires).Unix(), MaxBytes: maxBytes})
	return strings.TrimRight(base, "/") + prefix + address(pathSignedUpload, key, token)
}

// DownloadURL is an address from which anybody may GET one object until it expires.
func (s *Signer) DownloadURL(base, key string, expires time.Duration) string {
	token := s.sign(grant{Method: http.MethodGet, Key: key, Expires: time.Now().Add(expires).Unix()})
	return strings.TrimRight(base, "/") + prefix + address(pathSigned, key, token)
}

// address is what follows "/storage/v1".
func address(path, key, token string) string {
	return path + strings.TrimPrefix((&url.URL{Path: "/" + key}).EscapedPath(), "/") + "?token=" + token
}

func (s *Signer) sign(g grant) string {
	g.Bucket = bucketName
	claims, err := json.Marshal(g)
	if err != nil {
		panic(err) // strings and numbers
	}
	said := base64.RawURLEncoding.EncodeToString(claims)
	return said + "." + base64.RawURLEncoding.EncodeToString(s.mac(said))
}

// check returns what a token allows to do with an object now. Its errors are errToken and errTokenExpired.
func (s *Signer) check(token, method, key string) (grant, error) {
	said, signature, _ := strings.Cut(token, ".")
	sum, err := base64.RawURLEncoding.Strict().DecodeString(signature)
	if len(token) > maxTokenBytes || err != nil || !hmac.Equal(sum, s.mac(said)) {
		return grant{}, errToken
	}
	var g grant
	claims, err := base64.RawURLEncoding.DecodeString(said)
	if err == nil {
		err = json.Unmarshal(claims, &g)
	}
	if _, bad := storage.CleanKey(g.Key); err != nil || bad != nil || g.Method != method || g.Bucket != bucketName || g.Key != key {
		return grant{}, errToken
	}
	if time.Now().Unix() >= g.Expires {
		return grant{}, errTokenExpired
	}
	return g, nil
}

func (s *Signer) mac(said string) []byte {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(said))
	return mac.Sum(nil)
}
