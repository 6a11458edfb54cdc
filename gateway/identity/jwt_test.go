package identity_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
)

// issuer has a key of each kind; its JWKS names them by the algorithm.
type issuer struct {
	private map[string]any
	rsa     *rsa.PrivateKey
	jwks    []byte
}

var theIssuer = sync.OnceValue(func() *issuer {
	// The same keys in each process that fuzzes, but for RSA.
	key := func(curve elliptic.Curve) *ecdsa.PrivateKey {
		raw := make([]byte, (curve.Params().BitSize+7)/8)
		raw[len(raw)-1] = 7
		k, _ := ecdsa.ParseRawPrivateKey(curve, raw)
		return k
	}
	strong, _ := rsa.GenerateKey(rand.Reader, 2048)
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	ed := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	i := &issuer{rsa: strong, private: map[string]any{
		"RS256": strong, "RS384": strong, "RS512": strong, "ES256": key(elliptic.P256()), "ES384": key(elliptic.P384()), "ES512": key(elliptic.P521()), "EdDSA": ed,
		"weak": weak, "encryption": key(elliptic.P256()), "secret": []byte(secret + secret),
	}}
	set := jose.JSONWebKeySet{}
	for id, private := range i.private {
		jwk := jose.JSONWebKey{Key: private, KeyID: id, Use: "sig"}
		switch id {
		case "RS384", "RS512":
			jwk.Algorithm = id
		case "encryption":
			jwk.Use = "enc"
		}
		if id != "secret" {
			jwk = jwk.Public()
		}
		set.Keys = append(set.Keys, jwk)
	}
	i.jwks, _ = json.Marshal(set)
	return i
})

// file writes the keys to a file.
func (i *issuer) file(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "keys.json")
	must(tb, os.WriteFile(path, i.jwks, 0o600))
	return path
}

var algorithms = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"}

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// forge makes a token of that header, signed as HS256 would with the key.
func forge(tb testing.TB, header string, key []byte, all map[string]any) string {
	tb.Helper()
	payload, err := json.Marshal(all)
	must(tb, err)
	text := encode(header) + "." + encode(string(payload))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestJWTsOfAnotherIssuer(t *testing.T) {
	t.Parallel()
	i := theIssuer()
	v := newVerifier(t, nil, func(s *identity.Settings) { s.JWKS = "file://" + i.file(t) })
	for _, name := range algorithms {
		who, err := v.Verify(t.Context(), sign(t, jose.SignatureAlgorithm(name), i.private[name], name, claims(nil)))
		if err != nil || who.Role != identity.Authenticated || who.Key != "user:6f9619ff-8b86-d011-b42d-00c04fc964ff" {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	who, err := v.Verify(t.Context(), sign(t, jose.HS256, []byte(secret), "", claims(nil)))
	if err != nil || who.Role != identity.Authenticated {
		t.Errorf("the secret beside it: %+v, %v", who, err)
	}
}

func TestS10_HostileJWTsAreRefused(t *testing.T) {
	t.Parallel()
	i := theIssuer()
	v := newVerifier(t, nil, func(s *identity.Settings) {
		s.JWKS, s.Issuer, s.Audience = i.file(t), "https://issuer.example", "darkroom"
	})
	good := func(more map[string]any) map[string]any {
		all := claims(map[string]any{"iss": "https://issuer.example", "aud": []string{"other", "darkroom"}})
		for name, value := range more {
			if all[name] = value; value == nil {
				delete(all, name)
			}
		}
		return all
	}
	hs := func(more map[string]any) string { return sign(t, jose.HS256, []byte(secret), "", good(more)) }
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }

	for name, token := range map[string]string{
		"plain": hs(nil), "one audience": hs(map[string]any{"aud": "darkroom"}), "a clock that is 20 s off": hs(map[string]any{"nbf": ago(-20 * time.Second), "iat": ago(-20 * time.Second)}),
		"just expired": hs(map[string]any{"exp": ago(20 * time.Second)}), "by an RSA key": sign(t, jose.RS256, i.rsa, "RS256", good(nil)),
		"anon": hs(map[string]any{"role": "anon", "sub": nil}), "service": hs(map[string]any{"role": "service_role", "sub": nil}),
	} {
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Errorf("%s is refused, and then the cases below prove nothing: %v", name, err)
		}
	}

	der, err := x509.MarshalPKIXPublicKey(&i.rsa.PublicKey)
	must(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	payload, err := json.Marshal(good(nil))
	must(t, err)
	plain := hs(nil)
	parts := strings.Split(plain, ".")
	service, err := json.Marshal(good(map[string]any{"role": "service_role"}))
	must(t, err)
	for name, token := range map[string]string{
		"none":                          encode(`{"alg":"none","typ":"JWT"}`) + "." + encode(string(payload)) + ".",
		"none, with a signature":        encode(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2],
		"None":                          encode(`{"alg":"None"}`) + "." + encode(string(payload)) + ".",
		"no algorithm":                  forge(t, `{"typ":"JWT"}`, []byte(secret), good(nil)),
		"no signature":                  parts[0] + "." + parts[1] + ".",
		"two parts":                     parts[0] + "." + parts[1],
		"four parts":                    plain + ".x",
		"another payload":               parts[0] + "." + encode(string(service)) + "." + parts[2],
		"another secret":                sign(t, jose.HS256, []byte(strings.Repeat("s", 64)), "", good(nil)),
		"no secret":                     forge(t, `{"alg":"HS256"}`, nil, good(nil)),
		"HS512 of the secret":           sign(t, jose.HS512, []byte(secret+secret), "", good(nil)),
		"HS256 by a public key, PEM":    forge(t, `{"alg":"HS256","kid":"RS256"}`, public, good(nil)),
		"HS256 by a public key, DER":    forge(t, `{"alg":"HS256","kid":"RS256"}`, der, good(nil)),
		"HS256 by the JWKS itself":      forge(t, `{"alg":"HS256","kid":"RS256"}`, i.jwks, good(nil)),
		"RS256 header, HMAC within":     forge(t, `{"alg":"RS256","kid":"RS256"}`, []byte(secret), good(nil)),
		"a secret key of the JWKS":      sign(t, jose.HS256, i.private["secret"], "secret", good(nil)),
		"PS256":                         sign(t, jose.PS256, i.rsa, "RS256", good(nil)),
		"RS256 by a key for RS512":      sign(t, jose.RS256, i.rsa, "RS512", good(nil)),
		"RS512 by a key for RS256":      sign(t, jose.RS512, i.rsa, "RS256", good(nil)),
		"a kid of another kind of key":  sign(t, jose.RS256, i.rsa, "ES256", good(nil)),
		"a weak key":                    sign(t, jose.RS256, i.private["weak"], "weak", good(nil)),
		"a key for encryption":          sign(t, jose.ES256, i.private["encryption"], "encryption", good(nil)),
		"no kid":                        sign(t, jose.RS256, i.rsa, "", good(nil)),
		"a kid that is a path":          sign(t, jose.RS256, i.rsa, "../../../../dev/null", good(nil)),
		"a kid that is a path, HMAC":    forge(t, `{"alg":"HS256","kid":"/dev/null"}`, nil, good(nil)),
		"a kid that is SQL":             sign(t, jose.RS256, i.rsa, "x' union select 'secret' --", good(nil)),
		"a key of its own":              forge(t, fmt.Sprintf(`{"alg":"HS256","jwk":{"kty":"oct","k":"%s"}}`, encode("mine")), []byte("mine"), good(nil)),
		"a key from an address":         forge(t, `{"alg":"HS256","jku":"http://127.0.0.1/keys"}`, []byte("mine"), good(nil)),
		"an unknown critical extension": forge(t, `{"alg":"HS256","crit":["x"],"x":1}`, []byte(secret), good(nil)),
		"an algorithm named twice":      forge(t, `{"alg":"none","alg":"HS256"}`, []byte(secret), good(nil)),
		"encrypted":                     encode(`{"alg":"dir","enc":"A256GCM"}`) + "..x.x.x",
		"JSON serialisation":            fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, parts[0], parts[1], parts[2]),
		"too large":                     hs(map[string]any{"fill": strings.Repeat("x", 8<<10)}),
		"another issuer":                hs(map[string]any{"iss": "https://issuer.example.evil"}),
		"no issuer":                     hs(map[string]any{"iss": nil}),
		"another audience":              hs(map[string]any{"aud": "other"}),
		"no audience":                   hs(map[string]any{"aud": nil}),
		"not yet":                       hs(map[string]any{"nbf": ago(-time.Hour)}),
		"of the future":                 hs(map[string]any{"iat": ago(-time.Hour)}),
		"no exp":                        hs(map[string]any{"exp": nil}),
		"exp is null":                   sign(t, jose.HS256, []byte(secret), "", json.RawMessage(`{"role":"authenticated","sub":"6f9619ff-8b86-d011-b42d-00c04fc964ff","iss":"https://issuer.example","aud":"darkroom","exp":null}`)),
		"exp is a text":                 hs(map[string]any{"exp": "tomorrow"}),
		"no role":                       hs(map[string]any{"role": nil}),
		"role is a list":                hs(map[string]any{"role": []string{"authenticated"}}),
		"a worker":                      hs(map[string]any{"role": "worker"}),
		"a worker with a token":         hs(map[string]any{"role": "worker", "token_id": "6f9619ff-8b86-d011-b42d-00c04fc964ff"}),
		"the superuser":                 hs(map[string]any{"role": "postgres"}),
		"the gateway":                   hs(map[string]any{"role": "authenticator"}),
		"a role of another writing":     hs(map[string]any{"role": "Service_Role"}),
		"a role with a blank":           hs(map[string]any{"role": "service_role "}),
		"a role under another name":     hs(map[string]any{"role": nil, "Role": "authenticated"}),
		"a role named twice":            sign(t, jose.HS256, []byte(secret), "", json.RawMessage(`{"role":"anon","role":"service_role","iss":"https://issuer.example","aud":"darkroom","exp":9999999999}`)),
		"no subject":                    hs(map[string]any{"sub": nil}),
		"an empty subject":              hs(map[string]any{"sub": ""}),
		"a subject that is no id":       hs(map[string]any{"sub": "admin"}),
		"the subject zero":              hs(map[string]any{"sub": "00000000-0000-0000-0000-000000000000"}),
		"a subject in braces":           hs(map[string]any{"sub": "{6f9619ff-8b86-d011-b42d-00c04fc964ff}"}),
		"NUL in a claim":                hs(map[string]any{"name": "a\x00b"}),
		"claims that are a list":        sign(t, jose.HS256, []byte(secret), "", json.RawMessage(`[1]`)),
	} {
		who, err := v.Verify(t.Context(), token)
		wantRefusal(t, who, err, identity.ErrInvalid)
		if err == nil || errors.Is(err, identity.ErrExpired) {
			t.Errorf("%s: %+v", name, who)
		}
	}
	who, err := v.Verify(t.Context(), hs(map[string]any{"exp": ago(time.Minute)}))
	wantRefusal(t, who, err, identity.ErrExpired)
	// Who forges an expired token does not learn that it was looked at.
	expired := sign(t, jose.HS256, []byte(strings.Repeat("s", 64)), "", good(map[string]any{"exp": ago(time.Minute)}))
	who, err = v.Verify(t.Context(), expired)
	wantRefusal(t, who, err, identity.ErrInvalid)
}

func TestKeysAtAnAddress(t *testing.T) {
	t.Parallel()
	i := theIssuer()
	var asked atomic.Int32
	var answer atomic.Value // func(w http.ResponseWriter)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		answer.Load().(func(http.ResponseWriter))(w)
	}))
	defer web.Close()
	token := sign(t, jose.ES256, i.private["ES256"], "ES256", claims(nil))
	connect := func() *identity.Verifier {
		return newVerifier(t, nil, func(s *identity.Settings) { s.JWKS = web.URL + "/keys" })
	}

	// A flood of requests at once is one fetch, and so are ids that nobody knows.
	answer.Store(func(w http.ResponseWriter) {
		time.Sleep(100 * time.Millisecond)
		_, _ = w.Write(i.jwks)
	})
	v := connect()
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for n := range 50 {
		who, err := v.Verify(t.Context(), sign(t, jose.ES256, i.private["ES256"], fmt.Sprint("unknown", n), claims(nil)))
		wantRefusal(t, who, err, identity.ErrInvalid)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}

	// Without keys nobody can tell whether a token is good: that is an outage, which callers may try again.
	for name, broken := range map[string]func(w http.ResponseWriter){
		"an error":    func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
		"no JSON":     func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) },
		"no keys":     func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"too large":   func(w http.ResponseWriter) { _, _ = w.Write(append(i.jwks, slices.Repeat([]byte(" "), 300<<10)...)) },
		"a redirect":  func(w http.ResponseWriter) { w.Header().Set("Location", "/other"); w.WriteHeader(http.StatusFound) },
		"a kid twice": func(w http.ResponseWriter) { _, _ = w.Write(twice(t, i.jwks)) },
	} {
		answer.Store(broken)
		if who, err := connect().Verify(t.Context(), token); err == nil || problem.From(err).Code != problem.Unavailable {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
}

// twice repeats the keys.
func twice(t *testing.T, jwks []byte) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	must(t, json.Unmarshal(jwks, &set))
	set.Keys = append(set.Keys, set.Keys...)
	data, err := json.Marshal(set)
	must(t, err)
	return data
}

func FuzzVerify(f *testing.F) {
	i := theIssuer()
	v := newVerifier(f, nil, func(s *identity.Settings) { s.JWKS = i.file(f) })
	known := map[string]string{serviceKey: "service", anonKey: "anon"}
	for role, key := range map[string]string{"authenticated": "user:6f9619ff-8b86-d011-b42d-00c04fc964ff", "anon": "anon", "service_role": "service"} {
		known[sign(f, jose.HS256, []byte(secret), "", claims(map[string]any{"role": role, "iat": nil, "exp": 99999999999}))] = key
	}
	for _, name := range algorithms {
		known[sign(f, jose.SignatureAlgorithm(name), i.private[name], name, claims(map[string]any{"iat": nil, "exp": 99999999999}))] = "user:6f9619ff-8b86-d011-b42d-00c04fc964ff"
	}
	signed := map[string]bool{} // header and payload of the good ones
	for token := range known {
		f.Add(token)
		signed[token[:strings.LastIndexByte(token, '.')+1]] = true
	}
	all := claims(map[string]any{"iat": nil, "exp": 99999999999})
	f.Add(forge(f, `{"alg":"none"}`, nil, all))
	f.Add(forge(f, `{"alg":"HS256","kid":"RS256"}`, i.jwks, all))
	f.Add(forge(f, `{"alg":"RS256","kid":"RS256"}`, []byte(secret), all))
	f.Add(forge(f, `{"alg":"HS256","b64":false,"crit":["b64"]}`, []byte(secret), all))
	f.Add(forge(f, `{"alg":"ES256","kid":"ES256"}`, nil, all))
	f.Add("dr_worker_" + strings.Repeat("a", 63))
	f.Fuzz(func(t *testing.T, credential string) {
		if strings.HasPrefix(credential, "dr_") {
			t.Skip("tokens are looked up in the database")
		}
		who, err := v.Verify(t.Context(), credential)
		if err != nil {
			if !errors.Is(err, identity.ErrInvalid) && !errors.Is(err, identity.ErrMissing) || who.Role != "" {
				t.Fatalf("%q: %+v, %v", credential, who, err)
			}
			return
		}
		// Blanks and the spare bits at the end of a signature may differ; what is signed may not.
		strict := strings.Join(strings.Fields(credential), "")
		if key, found := known[credential]; found && key != who.Key || !found && !signed[strict[:strings.LastIndexByte(strict, '.')+1]] {
			t.Fatalf("%q lets in %+v", credential, who)
		}
		if !json.Valid(who.Claims) {
			t.Fatalf("claims %q", who.Claims)
		}
	})
}
