package upstream

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
)

const restPrefix = "/rest/v1"

// tokenLife is how long a token that the gateway makes for PostgREST is good for: the clocks of both may differ by less.
const tokenLife = time.Minute

// PostgREST hands /rest/v1 to a PostgREST that has our JWT secret and logs in as a member of the role authenticator.
type PostgREST struct {
	proxy  *proxy
	signer *identity.Signer
}

// NewPostgREST makes a PostgREST from its address, which it serves at the root of, and a signer with the secret that it knows.
func NewPostgREST(address string, signer *identity.Signer, log *slog.Logger) (*PostgREST, error) {
	target, err := parse(address, isPrivate)
	if err != nil {
		return nil, fmt.Errorf("the address of PostgREST %w, or a private network", err)
	}
	return &PostgREST{newProxy(target, log), signer}, nil
}

// Routes adds /rest/v1. The callers must be known: see [identity.Of].
func (p *PostgREST) Routes(e *echo.Echo) { e.Any(restPrefix+"/*", p.handle) }

// handle exchanges whatever the caller sent, the service key and personal access tokens too, for a token of a minute with the claims that the gateway
// knows them by. So PostgREST runs the same role with the same claims, needs no other key than the secret, and never sees what the caller has.
func (p *PostgREST) handle(c echo.Context) error {
	token, err := p.sign(identity.Of(c))
	if err != nil {
		return err
	}
	return p.proxy.pass(c, func(out *http.Request) {
		out.URL.Path, out.URL.RawPath = cut(out.URL, p.proxy.target.Path)
		out.Header.Set(echo.HeaderAuthorization, "Bearer "+token)
		out.Header.Del("Apikey")
		out.Header.Del(echo.HeaderCookie)
		query := out.URL.Query()
		if query.Has("apikey") { // supabase clients of old; PostgREST would take it for a column
			query.Del("apikey")
			out.URL.RawQuery = query.Encode()
		}
	})
}

// cut takes /rest/v1 out of a path that begins with base.
func cut(u *url.URL, base string) (path, rawPath string) {
	path = base + strings.TrimPrefix(strings.TrimPrefix(u.Path, base), restPrefix)
	if u.RawPath != "" {
		rawPath = base + strings.TrimPrefix(strings.TrimPrefix(u.RawPath, base), restPrefix)
	}
	return path, rawPath
}

// sign makes a token for a caller.
func (p *PostgREST) sign(who identity.Identity) (string, error) {
	known := map[string]json.RawMessage{} // numbers stay as they came
	if who.Claims != nil {
		if err := json.Unmarshal(who.Claims, &known); err != nil {
			return "", fmt.Errorf("reading the claims of a caller: %w", err)
		}
	}
	claims := map[string]any{}
	for name, value := range known {
		claims[name] = value
	}
	delete(claims, "nbf") // it was checked; a clock that is a little behind would refuse it
	delete(claims, "iat")
	delete(claims, "exp")
	claims["role"] = who.Role
	return p.signer.Sign(claims, time.Now(), tokenLife)
}
