// Package auth is sign-in with email and password: as much of Supabase's /auth/v1 as supabase-js needs for it. The rules stand in sql/auth; here are
// passwords, tokens and the shapes that @supabase/auth-js 2.109 sends and expects.
package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
)

const (
	prefix       = "/auth/v1"
	maxBodyBytes = 64 << 10
)

// Config is what the door needs.
type Config struct {
	Pool     *pgxpool.Pool      // with the rights of the role authenticator
	Keys     identity.Settings  // without a JWTSecret nobody signs in
	Verifier *identity.Verifier // knows the same keys
	SignUp   bool               // whether anybody may sign up; the service always may, for others
	Log      *slog.Logger
}

// Door answers /auth/v1. It is safe for concurrent use.
type Door struct {
	pool       *pgxpool.Pool
	verifier   *identity.Verifier
	signer     *identity.Signer // nil: sign-in is off
	refreshKey []byte
	passwords  *passwords
	signUp     bool
	log        *slog.Logger
}

// New makes the door.
func New(config Config) (*Door, error) {
	signer, err := identity.NewSigner(config.Keys)
	if err != nil && !errors.Is(err, identity.ErrNoSecret) {
		return nil, err
	}
	passwords, err := newPasswords()
	if err != nil {
		return nil, err
	}
	derive := hmac.New(sha256.New, []byte(config.Keys.JWTSecret))
	derive.Write([]byte("darkroom refresh tokens"))
	return &Door{
		pool: config.Pool, verifier: config.Verifier, signer: signer, refreshKey: derive.Sum(nil), passwords: passwords, signUp: config.SignUp, log: config.Log,
	}, nil
}

// Routes adds the addresses.
func (d *Door) Routes(e *echo.Echo) {
	e.POST(prefix+"/token", d.handle(d.token))
	e.POST(prefix+"/signup", d.handle(d.register))
	e.POST(prefix+"/logout", d.handle(d.logout))
	e.GET(prefix+"/user", d.handle(d.getUser))
	e.PUT(prefix+"/user", d.handle(d.putUser))
	e.GET(prefix+"/.well-known/jwks.json", d.handle(d.jwks))
	e.GET(prefix+"/health", d.handle(d.health))
	e.GET(prefix+"/settings", d.handle(d.settings))
	e.Any(prefix+"/*", d.handle(d.other))
}

// jwks has no keys: tokens made here are signed with a secret, which nobody else may know. auth-js then asks GET /user.
func (d *Door) jwks(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]any{"keys": []any{}})
}

func (d *Door) health(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]any{"name": "Darkroom", "description": "Sign-in with email and password"})
}

// settings says what can be done here, in the fields that GoTrue has for it.
func (d *Door) settings(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]any{
		"external": map[string]any{"email": d.signer != nil, "phone": false, "anonymous_users": false}, "disable_signup": !d.signUp,
		"mailer_autoconfirm": true, "phone_autoconfirm": false, "sms_provider": "", "saml_enabled": false, "mfa_enabled": false,
	})
}

// other names what GoTrue has and this door has not.
func (d *Door) other(c echo.Context) error {
	return notServed(c.Request().Method + " " + c.Request().URL.Path)
}

// read decodes a body that must be a JSON object; fields that are not known here are ignored, as GoTrue does.
func read(c echo.Context, into any) error {
	data, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, maxBodyBytes))
	if tooLarge, found := errors.AsType[*http.MaxBytesError](err); found {
		return refuse(http.StatusRequestEntityTooLarge, "validation_failed", fmt.Sprintf("The body is larger than %d bytes", tooLarge.Limit))
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "bad_json", "Could not read the body")
	}
	if err := json.Unmarshal(data, into); err != nil {
		return refuse(http.StatusBadRequest, "bad_json", "Could not parse request body as JSON")
	}
	return nil
}
