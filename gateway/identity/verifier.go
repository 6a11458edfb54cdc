package identity

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/problem"
)

// Why a caller is not let in. Every refusal is one of these and a [problem.Error] with the code GW003: a door with a shape of its own asks with
// [errors.Is]. None tells whether a token or user exists.
var (
	ErrMissing = errors.New("no key or token was sent")
	ErrInvalid = errors.New("the key or token is not valid")
	ErrExpired = errors.New("the token has expired")
)

// maxCredentialBytes bounds what is looked at. Tokens of well-known issuers have 1 to 2 KiB.
const maxCredentialBytes = 8 << 10

// minSecretBytes is what HMAC-SHA256 needs for its full strength (RFC 7518, section 3.2).
const minSecretBytes = 32

// Settings are the keys that a Verifier knows. Empty ones let nobody in.
type Settings struct {
	ServiceKey string // opaque; opens everything
	AnonKey    string // opaque and public; role anon
	JWTSecret  string // signs JWTs with HS256; at least 32 bytes
	JWKS       string // public keys of JWTs: https://..., a path, or file:///...; http:// to this machine only
	Issuer     string // what a JWT's iss must be
	Audience   string // what a JWT's aud must be or contain
	Log        *slog.Logger
}

// Verifier finds out who calls. It is safe for concurrent use.
type Verifier struct {
	service, anon keyHash
	jwt           *jwtVerifier
	tokens        *tokenCache
}

// NewVerifier makes a Verifier that looks personal access tokens up by the pool. It fails when a setting can't be right. Keys at an address are fetched
// when a token first needs one.
func NewVerifier(pool *pgxpool.Pool, s Settings) (*Verifier, error) {
	if s.JWTSecret != "" && len(s.JWTSecret) < minSecretBytes {
		return nil, fmt.Errorf("DARKROOM_JWT_SECRET needs at least %d characters: set it to a random text, such as the output of `openssl rand -hex 32`", minSecretBytes)
	}
	if s.AnonKey != "" && s.AnonKey == s.ServiceKey {
		return nil, errors.New("DARKROOM_ANON_KEY is public and must not be DARKROOM_SERVICE_KEY")
	}
	v := &Verifier{
		service: hashKey(s.ServiceKey), anon: hashKey(s.AnonKey), tokens: newTokenCache(lookUp(pool)),
		jwt: &jwtVerifier{secret: []byte(s.JWTSecret), issuer: s.Issuer, audience: s.Audience},
	}
	if s.JWKS != "" {
		var err error
		if v.jwt.keys, err = newKeySet(s.JWKS, s.Log); err != nil {
			return nil, err
		}
	}
	v.jwt.chooseAlgorithms()
	return v, nil
}

// Verify finds out who has the credential: the service key, the public key, a personal access token or a JWT. The error is a refusal, or a failure of
// the database.
func (v *Verifier) Verify(ctx context.Context, credential string) (Identity, error) {
	switch {
	case credential == "":
		return Identity{}, refuse(ErrMissing, nil)
	case len(credential) > maxCredentialBytes:
		return Identity{}, refuse(ErrInvalid, errors.New("too long"))
	}
	hash := sha256.Sum256([]byte(credential))
	switch {
	case v.service.is(hash):
		return Identity{Role: Service, Claims: []byte(`{"role":"service_role"}`), Key: "service"}, nil
	case v.anon.is(hash):
		return Identity{Role: Anon, Claims: []byte(`{"role":"anon"}`), Key: "anon"}, nil
	case tokenPattern.MatchString(credential):
		return v.tokens.identify(ctx, hash)
	}
	return v.jwt.verify(ctx, credential)
}

// Credential is what a request sends to say who makes it: `Authorization: Bearer <credential>` or, without that header, `apikey: <credential>`.
func Credential(r *http.Request) (string, error) {
	switch given := r.Header.Values(echo.HeaderAuthorization); len(given) {
	case 0:
		return r.Header.Get("Apikey"), nil
	case 1:
		scheme, token, _ := strings.Cut(given[0], " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", refuse(ErrInvalid, errors.New("not a bearer token"))
		}
		return strings.TrimSpace(token), nil
	default:
		return "", refuse(ErrInvalid, errors.New("several Authorization headers"))
	}
}

// Caller finds out who made a request, by its [Credential].
func (v *Verifier) Caller(r *http.Request) (Identity, error) {
	credential, err := Credential(r)
	if err != nil {
		return Identity{}, err
	}
	return v.Verify(r.Context(), credential)
}

// Middleware lets only those pass whom the Verifier knows, and notes who they are for [Of]. Requests that open says yes to pass without being asked:
// for them Of is nobody, whatever they carry.
func (v *Verifier) Middleware(open func(echo.Context) bool) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if open(c) {
				return next(c)
			}
			who, err := v.Caller(c.Request())
			if err != nil {
				return err
			}
			Set(c, who)
			return next(c)
		}
	}
}

// refuse makes the error of a caller who is not let in. The cause is for logs and tests; callers are told the reason only.
func refuse(reason, cause error) error {
	answer := problem.Refuse(problem.Unauthorized, strings.ToUpper(reason.Error()[:1])+reason.Error()[1:]+".")
	if cause != nil {
		return fmt.Errorf("%w (%w): %w", reason, cause, answer)
	}
	return fmt.Errorf("%w: %w", reason, answer)
}

// keyHash makes keys of any length comparable in constant time; the zero value is no key.
type keyHash struct {
	hash  [sha256.Size]byte
	known bool
}

func hashKey(key string) keyHash { return keyHash{sha256.Sum256([]byte(key)), key != ""} }

func (k *keyHash) is(hash [sha256.Size]byte) bool {
	return subtle.ConstantTimeCompare(k.hash[:], hash[:]) == 1 && k.known
}
