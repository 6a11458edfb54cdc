package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"darkroom/gateway/identity"
	ratelimit "darkroom/gateway/limits"
	"darkroom/gateway/rest"
	"darkroom/gateway/upstream"
)

// Guard says who may call how often and from where. The zero Guard has no limits of rate but those of sign-in, and lets no other origin in.
type Guard struct {
	Limits  ratelimit.Settings
	Proxies []string // networks of proxies that are believed who the client is, as 10.0.0.0/8
	Origins []string // of pages in browsers that may call: https://app.example.com, `localhost` for any port of this machine, or `*`
}

// Upstream names servers behind the gateway. The zero Upstream is none.
type Upstream struct {
	Project  string   // address of a Supabase project
	Prefixes []string // what is forwarded to it
	REST     string   // address of a PostgREST, which has all of /rest/v1
}

// guard is what stands around the doors.
type guard struct {
	limiter                            *ratelimit.Limiter
	clientAddress                      echo.IPExtractor
	cors, byAddress, forward, byCaller echo.MiddlewareFunc
	isOrigin                           func(origin string) bool
}

func newGuard(config Config, pool *pgxpool.Pool) (*guard, error) {
	g := &guard{forward: pass}
	var err error
	if g.clientAddress, err = ratelimit.ClientAddress(config.Guard.Proxies); err != nil {
		return nil, fmt.Errorf("DARKROOM_TRUSTED_PROXIES: %w", err)
	}
	if err := checkOrigins(config.Guard.Origins); err != nil {
		return nil, err
	}
	g.isOrigin = originsOf(config.Guard.Origins)
	g.cors = crossOrigin(config.Guard.Origins, g.isOrigin)
	if config.Upstream.Project != "" {
		project, err := upstream.NewProject(config.Upstream.Project, config.Upstream.Prefixes, config.ServiceKey, config.Log)
		if err != nil {
			return nil, err
		}
		g.forward = project.Middleware
	}
	service := sha256.Sum256([]byte(config.ServiceKey))
	g.limiter = ratelimit.New(pool, config.Guard.Limits, config.Log)
	g.byAddress = g.limiter.ByAddress(func(r *http.Request) bool { return hasKey(r, service) })
	g.byCaller = g.limiter.ByCaller
	return g, nil
}

// tables makes the door of /rest/v1: ours, or a PostgREST's.
func tables(ctx context.Context, config Config, keys identity.Settings, as *identity.DB) (Door, error) {
	if config.Upstream.REST == "" {
		return rest.New(ctx, as, config.Log)
	}
	signer, err := identity.NewSigner(keys)
	if err != nil {
		return nil, fmt.Errorf("a PostgREST behind the gateway needs the secret that both share: %w", err)
	}
	return upstream.NewPostgREST(config.Upstream.REST, signer, config.Log)
}

// close ends what works in the background; a nil guard has nothing.
func (g *guard) close() {
	if g != nil {
		g.limiter.Close()
	}
}

func pass(next echo.HandlerFunc) echo.HandlerFunc { return next }

// hasKey reports whether a request carries the key of that hash, in either header.
func hasKey(r *http.Request, key [sha256.Size]byte) bool {
	_, token, _ := strings.Cut(r.Header.Get(echo.HeaderAuthorization), " ")
	bearer, header := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(r.Header.Get("Apikey")))
	return subtle.ConstantTimeCompare(bearer[:], key[:])|subtle.ConstantTimeCompare(header[:], key[:]) == 1
}

// corsMaxAge is how long a browser may remember what it may, in seconds; Chromium takes no more.
const corsMaxAge = 7200

func checkOrigins(origins []string) error {
	for _, origin := range origins {
		if origin == "*" || origin == "localhost" {
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || origin != u.Scheme+"://"+u.Host || strings.Contains(origin, "*") {
			return fmt.Errorf("DARKROOM_CORS_ORIGINS has %q: %w", origin, errOrigin)
		}
	}
	return nil
}

// originsOf tells of the origin of a page whether it is one of these.
func originsOf(origins []string) func(origin string) bool {
	return func(origin string) bool {
		return slices.Contains(origins, "*") || slices.Contains(origins, origin) || slices.Contains(origins, "localhost") && isLocalOrigin(origin)
	}
}

// crossOrigin lets pages of these origins call and read the answers, errors too. Nothing of ours lies in cookies, so no credentials are allowed.
func crossOrigin(origins []string, isOrigin func(string) bool) echo.MiddlewareFunc {
	config := middleware.CORSConfig{
		AllowMethods: []string{
			http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete, http.MethodOptions,
		},
		AllowHeaders: []string{
			"authorization", "apikey", "content-type", "x-client-info", "x-supabase-api-version", "prefer", "accept-profile", "content-profile",
			"range", "range-unit", "x-upsert", "x-metadata", "cache-control", "x-region", "x-retry-count", "traceparent", "tracestate", "baggage",
			"idempotency-key", "x-request-id", "if-match", "if-none-match", "if-modified-since", "if-range", "last-event-id",
		},
		ExposeHeaders: []string{
			"content-range", "content-location", "content-length", "content-type", "content-disposition", "accept-ranges", "etag", "last-modified", "location",
			"preference-applied", "x-request-id", "retry-after", "x-relay-error", "sb-gateway-version",
		},
		MaxAge: corsMaxAge,
	}
	if slices.Contains(origins, "*") {
		config.AllowOrigins = []string{"*"}
	} else {
		config.AllowOriginFunc = func(origin string) (bool, error) { return isOrigin(origin), nil }
	}
	return middleware.CORSWithConfig(config)
}

var errOrigin = errors.New("an origin looks like https://app.example.com, without a path; `localhost` stands for this machine and `*` for all")

// isLocalOrigin reports whether a page comes from this machine.
func isLocalOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || origin != u.Scheme+"://"+u.Host || (u.Scheme != "http" && u.Scheme != "https") {
		return false
	}
	switch u.Hostname() {
	case "localhost", "127.0.0.1", "::1":
		return true
	}
	return false
}
