package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"darkroom/gateway/problem"
)

const (
	keysPause    = 10 * time.Second // between two fetches: a flood of unknown key ids costs the issuer no more than that
	keysAge      = 10 * time.Minute // after which they are fetched anew beside the requests, so that a key that was withdrawn goes
	keysEnd      = 24 * time.Hour   // after which keys that could not be fetched anew count no more
	keysTimeout  = 5 * time.Second
	maxKeysBytes = 256 << 10
	minRSABits   = 2048
)

// keySet holds the public keys of a JWKS (RFC 7517), by their key id.
type keySet struct {
	load func(context.Context) ([]byte, error)
	log  *slog.Logger

	mu      sync.Mutex
	keys    map[string]publicKey
	loaded  time.Time
	tried   time.Time
	loading chan struct{} // closed when the fetch that is under way has ended; nil when there is none
}

// publicKey is a key and the one algorithm that it is for.
type publicKey struct {
	public    any
	algorithm jose.SignatureAlgorithm
}

// newKeySet takes an address or a file. A file is read at once, so that a mistake shows at start.
func newKeySet(source string, log *slog.Logger) (*keySet, error) {
	k := &keySet{log: log}
	address, err := url.Parse(source)
	if err != nil || address.User != nil {
		return nil, errors.New("DARKROOM_JWKS must be an https:// address without password, or a file") // the parser's error repeats it
	}
	switch address.Scheme {
	case "https":
		k.load = fetchFrom(source)
	case "http":
		if ip := net.ParseIP(address.Hostname()); address.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, errors.New("DARKROOM_JWKS must be https://: who can change keys on the way can sign in as anybody; http:// is for this machine only")
		}
		k.load = fetchFrom(source)
	case "file", "":
		k.load = func(context.Context) ([]byte, error) { return readKeys(address.Path) }
		k.refresh(context.Background())
		if k.keys == nil {
			return nil, fmt.Errorf("DARKROOM_JWKS: %s can't be read, or has no key for RS256, RS384, RS512, ES256, ES384, ES512 or EdDSA", address.Path)
		}
	default:
		return nil, errors.New("DARKROOM_JWKS must be an https:// address or a file")
	}
	return k, nil
}

func readKeys(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the JWKS: %w", err)
	}
	defer file.Close()
	return readBounded(file)
}

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxKeysBytes+1))
	if err == nil && len(data) > maxKeysBytes {
		err = fmt.Errorf("it has more than %d bytes", maxKeysBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the JWKS: %w", err)
	}
	return data, nil
}

func fetchFrom(address string) func(context.Context) ([]byte, error) {
	client := &http.Client{
		Timeout: keysTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("redirects are not followed: name the address that has the keys")
		},
	}
	return func(ctx context.Context) ([]byte, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, fmt.Errorf("fetching the JWKS: %w", err)
		}
		request.Header.Set("Accept", "application/jwk-set+json, application/json")
		response, err := client.Do(request)
		if err != nil {
			return nil, fmt.Errorf("fetching the JWKS: %w", err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("fetching the JWKS: status %d", response.StatusCode)
		}
		return readBounded(response.Body)
	}
}

// errNoKeys says that whether a token is valid can't be told just now.
var errNoKeys = problem.Refuse(problem.Unavailable, "The issuer's keys can't be had.")

// find gives the key of that id. An id that is not known is looked for at the source first, unless that was asked just now. It returns errNoKeys when
// there are no keys at all.
func (k *keySet) find(ctx context.Context, id string) (publicKey, error) {
	key, found, wait := k.look(id)
	if !found && wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
		}
		key, found, _ = k.look(id)
	}
	switch {
	case found:
		return key, nil
	case !k.any():
		return publicKey{}, errNoKeys
	}
	return publicKey{}, errors.New("no key of that id")
}

// look finds a key among those that are here, and starts a fetch when one is due: wait is closed when it has ended.
func (k *keySet) look(id string) (key publicKey, found bool, wait <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if now.Sub(k.loaded) < keysEnd {
		key, found = k.keys[id]
	}
	if (!found || now.Sub(k.loaded) > keysAge) && now.Sub(k.tried) > keysPause && k.loading == nil {
		k.tried, k.loading = now, make(chan struct{})
		go func() {
			// Not the request's context: others wait for the same answer.
			ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
			defer cancel()
			k.refresh(ctx)
		}()
	}
	return key, found, k.loading
}

func (k *keySet) any() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Since(k.loaded) < keysEnd
}

// refresh replaces the keys by those of the source; a failure leaves them.
func (k *keySet) refresh(ctx context.Context) {
	data, err := k.load(ctx)
	var keys map[string]publicKey
	if err == nil {
		keys, err = parseKeys(data)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.log.Warn("the keys of DARKROOM_JWKS were not read anew", "error", err)
	} else {
		k.keys, k.loaded = keys, time.Now()
	}
	if k.loading != nil {
		close(k.loading)
		k.loading = nil
	}
}

// parseKeys reads a JWKS. Keys of other kinds, secret ones among them, are left out; two of one id are an error.
func parseKeys(data []byte) (map[string]publicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("it is no JWKS: %w", err)
	}
	keys := map[string]publicKey{}
	for _, raw := range set.Keys {
		var jwk jose.JSONWebKey
		if err := json.Unmarshal(raw, &jwk); err != nil || !jwk.IsPublic() || (jwk.Use != "" && jwk.Use != "sig") {
			continue
		}
		algorithm, fits := algorithmOf(&jwk)
		if !fits {
			continue
		}
		if _, twice := keys[jwk.KeyID]; twice {
			return nil, errors.New("two keys have the same kid")
		}
		keys[jwk.KeyID] = publicKey{jwk.Key, algorithm}
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no key that can be used")
	}
	return keys, nil
}

// algorithmOf says which algorithm a key is for: the curve settles it, and for RSA the key's own alg, RS256 without.
func algorithmOf(jwk *jose.JSONWebKey) (jose.SignatureAlgorithm, bool) {
	var algorithm jose.SignatureAlgorithm
	switch key := jwk.Key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSABits {
			return "", false
		}
		algorithm = jose.RS256
		if strings.HasPrefix(jwk.Algorithm, "RS") {
			algorithm = jose.SignatureAlgorithm(jwk.Algorithm)
		}
	case *ecdsa.PublicKey:
		algorithm = map[int]jose.SignatureAlgorithm{256: jose.ES256, 384: jose.ES384, 521: jose.ES512}[key.Curve.Params().BitSize]
	case ed25519.PublicKey:
		algorithm = jose.EdDSA
	}
	return algorithm, algorithm != "" && (jwk.Algorithm == "" || jwk.Algorithm == string(algorithm))
}
