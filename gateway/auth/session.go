package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/mail"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
)

// accessLife is how long an access token is good: it cannot be called back.
const accessLife = time.Hour

// refreshPattern is what newRefreshToken and nextRefreshToken make.
var refreshPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// session is what auth.start_session and auth.rotate_session return.
type session struct {
	ID      uuid.UUID `json:"session_id"`
	Started time.Time `json:"started_at"`
	Account account   `json:"account"`
	Reused  bool      `json:"reused"`
}

// credentials is what auth.credentials_of returns.
type credentials struct {
	User uuid.UUID `json:"user_id"`
	Hash string    `json:"password_hash"`
}

// ask calls a function that returns jsonb; nil is null.
func ask[T any](ctx context.Context, d *Door, call string, arguments ...any) (*T, error) {
	var data json.RawMessage
	if err := d.pool.QueryRow(ctx, call, arguments...).Scan(&data); err != nil {
		return nil, fmt.Errorf("%s: %w", call, err)
	}
	if data == nil {
		return nil, nil //nolint:nilnil // null is an answer of these functions
	}
	answer := new(T)
	if err := json.Unmarshal(data, answer); err != nil {
		return nil, fmt.Errorf("%s: %w", call, err)
	}
	return answer, nil
}

// token is POST /token: sign-in, and taking a refresh token for the next session.
func (d *Door) token(c echo.Context) error {
	if d.signer == nil {
		return errSignInOff
	}
	switch grant := c.QueryParam("grant_type"); grant {
	case "password":
		return d.signIn(c)
	case "refresh_token":
		return d.refresh(c)
	default:
		return notServed(fmt.Sprintf("grant_type=%.40q", grant))
	}
}

// signIn answers an unknown email and a wrong password alike, after the same time. A limit of attempts belongs where the email is known, before the
// password is compared.
func (d *Door) signIn(c echo.Context) error {
	var body struct{ Email, Phone, Password string }
	if err := read(c, &body); err != nil {
		return err
	}
	switch {
	case body.Phone != "":
		return refuse(http.StatusUnprocessableEntity, "phone_provider_disabled", "Phone logins are disabled")
	case body.Password == "":
		return refuse(http.StatusBadRequest, "validation_failed", "missing email or password")
	case !isEmail(body.Email):
		return errWrongPassword // nobody has it
	}
	ctx := c.Request().Context()
	known, err := ask[credentials](ctx, d, "select auth.credentials_of(email => $1)", body.Email)
	if err != nil {
		return err
	}
	if known == nil {
		known = &credentials{}
	}
	right, err := d.passwords.check(ctx, known.Hash, body.Password)
	if err != nil {
		return err
	}
	if !right {
		return errWrongPassword
	}
	return d.start(c, known.User, known.Hash)
}

// start begins a session of a user whose password was just checked or set.
func (d *Door) start(c echo.Context, user uuid.UUID, passwordHash string) error {
	refresh := newRefreshToken()
	begun, err := ask[session](c.Request().Context(), d, "select auth.start_session(user_id => $1, password_hash => $2, token_hash => $3)",
		user, passwordHash, hashOf(refresh))
	if err != nil {
		return err
	}
	if begun == nil {
		return errWrongPassword // changed in this moment
	}
	return d.answer(c, begun, refresh)
}

// refresh takes a refresh token for the next. The next one is made of it with a key, so that a second tab, or somebody whose answer was lost, gets the
// same one, though only hashes are kept.
func (d *Door) refresh(c echo.Context) error {
	var body struct {
		Token string `json:"refresh_token"`
	}
	if err := read(c, &body); err != nil {
		return err
	}
	if !refreshPattern.MatchString(body.Token) {
		return errNoRefresh
	}
	next := d.nextRefreshToken(body.Token)
	held, err := ask[session](c.Request().Context(), d, "select auth.rotate_session(token_hash => $1, next_hash => $2)", hashOf(body.Token), hashOf(next))
	switch {
	case err != nil:
		return err
	case held == nil:
		return errNoRefresh
	case held.Reused:
		d.log.Warn("a refresh token came back after it was used: its session was ended", "session_id", held.ID)
		return errReused
	}
	return d.answer(c, held, next)
}

// register is POST /signup. Emails are not confirmed: this gateway sends none.
func (d *Door) register(c echo.Context) error {
	if d.signer == nil {
		return errSignInOff
	}
	if !d.signUp {
		if who, err := d.verifier.Caller(c.Request()); err != nil || who.Role != identity.Service {
			return refuse(http.StatusUnprocessableEntity, "signup_disabled", "Signups not allowed for this instance")
		}
	}
	var body struct {
		Email, Phone, Password string
		Data                   map[string]any
	}
	if err := read(c, &body); err != nil {
		return err
	}
	switch {
	case body.Phone != "":
		return refuse(http.StatusUnprocessableEntity, "phone_provider_disabled", "Phone signups are disabled")
	case body.Email == "":
		return refuse(http.StatusUnprocessableEntity, "anonymous_provider_disabled", "Anonymous sign-ins are disabled")
	case !isEmail(body.Email):
		return refuse(http.StatusBadRequest, "email_address_invalid", "Unable to validate email address: invalid format")
	}
	ctx := c.Request().Context()
	hash, err := d.passwords.hash(ctx, body.Password)
	if err != nil {
		return err
	}
	metadata, err := readMetadata(body.Data)
	if err != nil {
		return err
	}
	made, err := ask[account](ctx, d, "select auth.sign_up(email => $1, password_hash => $2, user_metadata => $3)", body.Email, hash, metadata)
	if err != nil {
		return err
	}
	if made == nil {
		return refuse(http.StatusUnprocessableEntity, "user_already_exists", "User already registered")
	}
	return d.start(c, made.ID, hash)
}

// logout is POST /logout: it ends the caller's session, the others, or all. Access tokens stay good until they expire.
func (d *Door) logout(c echo.Context) error {
	scope := c.QueryParam("scope")
	switch scope {
	case "":
		scope = "global"
	case "global", "local", "others":
	default:
		return refuse(http.StatusBadRequest, "validation_failed", "scope is global, local or others")
	}
	me, err := d.caller(c)
	if err != nil {
		return err
	}
	var ended bool
	err = d.pool.QueryRow(c.Request().Context(), "select auth.end_sessions(user_id => $1, session_id => $2, scope => $3)",
		me.who.Subject, me.session, scope).Scan(&ended)
	if err != nil {
		return fmt.Errorf("ending sessions: %w", err)
	}
	if !ended {
		return errNoSession
	}
	return c.NoContent(http.StatusNoContent)
}

// answer writes a session as auth-js keeps it.
func (d *Door) answer(c echo.Context, s *session, refresh string) error {
	now := time.Now()
	access, err := d.signer.Sign(map[string]any{
		"aud": audience, "role": identity.Authenticated, "sub": s.Account.ID, "email": s.Account.Email, "phone": "", "session_id": s.ID,
		"aal": "aal1", "amr": []any{map[string]any{"method": "password", "timestamp": s.Started.Unix()}}, "is_anonymous": false,
	}, now, accessLife)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{
		"access_token": access, "token_type": "bearer", "expires_in": int(accessLife.Seconds()), "expires_at": now.Add(accessLife).Unix(),
		"refresh_token": refresh, "user": s.Account.user(),
	})
}

func newRefreshToken() string {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails
	return base64.RawURLEncoding.EncodeToString(secret)
}

func (d *Door) nextRefreshToken(token string) string {
	mac := hmac.New(sha256.New, d.refreshKey)
	mac.Write([]byte(token))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func hashOf(token string) []byte {
	hash := sha256.Sum256([]byte(token))
	return hash[:]
}

// isEmail takes plain addresses of ASCII, as auth.sign_up compares them.
func isEmail(text string) bool {
	for _, letter := range text {
		if letter <= ' ' || letter > '~' {
			return false
		}
	}
	address, err := mail.ParseAddress(text)
	return err == nil && address.Address == text && len(text) <= 254
}
