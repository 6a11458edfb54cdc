package auth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
)

// audience is the aud of access tokens, and of users in answers.
const audience = "authenticated"

// maxMetadataBytes is what a user may say of themselves; auth.change_account has the same bound.
const maxMetadataBytes = 16 << 10

// account is what the functions of sql/auth return of a user.
type account struct {
	ID         uuid.UUID      `json:"id"`
	Email      string         `json:"email"`
	Metadata   map[string]any `json:"user_metadata"`
	Created    time.Time      `json:"created_at"`
	Updated    time.Time      `json:"updated_at"`
	LastSignIn time.Time      `json:"last_sign_in_at"`
	Session    bool           `json:"session"` // whether the session that was asked for is there
}

// user is the account in the shape of auth-js's type User. It has an identity: apps take a user without one for an email that is taken.
func (a *account) user() map[string]any {
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
	return map[string]any{
		"id": a.ID, "aud": audience, "role": identity.Authenticated, "email": a.Email, "phone": "",
		"email_confirmed_at": stamp(a.Created), "confirmed_at": stamp(a.Created), "last_sign_in_at": stamp(a.LastSignIn),
		"app_metadata": map[string]any{"provider": "email", "providers": []string{"email"}}, "user_metadata": a.Metadata,
		"identities": []any{map[string]any{
			"identity_id": a.ID, "id": a.ID, "user_id": a.ID, "provider": "email", "email": a.Email, "identity_data": map[string]any{"email": a.Email, "sub": a.ID},
			"created_at": stamp(a.Created), "updated_at": stamp(a.Updated), "last_sign_in_at": stamp(a.LastSignIn),
		}},
		"created_at": stamp(a.Created), "updated_at": stamp(a.Updated), "is_anonymous": false,
	}
}

// caller is a user who calls, by a session or without one.
type caller struct {
	who     identity.Identity
	session uuid.UUID // uuid.Nil without one
	claims  map[string]any
}

// isOurs reports whether an access token was made here, and so has a session here.
func (d *Door) isOurs(me *caller) bool {
	return d.signer != nil && me.session != uuid.Nil && me.claims["iss"] == d.signer.Issuer()
}

// caller finds out which user calls.
func (d *Door) caller(c echo.Context) (*caller, error) {
	who, err := d.verifier.Caller(c.Request())
	if err != nil {
		return nil, err
	}
	if who.Role != identity.Authenticated {
		return nil, refuse(http.StatusForbidden, "bad_jwt", "invalid claim: missing sub claim")
	}
	me := &caller{who: who}
	if err := json.Unmarshal(who.Claims, &me.claims); err != nil {
		return nil, fmt.Errorf("reading claims: %w", err)
	}
	if text, _ := me.claims["session_id"].(string); text != "" {
		me.session, _ = uuid.Parse(text) // of another issuer it may be anything
	}
	return me, nil
}

// getUser is GET /user. Users of another issuer are shown as their token says.
func (d *Door) getUser(c echo.Context) error {
	me, err := d.caller(c)
	if err != nil {
		return err
	}
	known, err := ask[account](c.Request().Context(), d, "select auth.account_of(user_id => $1, session_id => $2)", me.who.Subject, me.session)
	switch {
	case err != nil:
		return err
	case d.isOurs(me) && (known == nil || !known.Session):
		return errNoSession
	case known != nil:
		return c.JSON(http.StatusOK, known.user())
	}
	email, _ := me.claims["email"].(string)
	return c.JSON(http.StatusOK, map[string]any{
		"id": me.who.Subject, "aud": audience, "role": me.who.Role, "email": email, "phone": "", "identities": []any{},
		"app_metadata": orEmpty(me.claims["app_metadata"]), "user_metadata": orEmpty(me.claims["user_metadata"]),
		"created_at": time.Unix(0, 0).UTC().Format(time.RFC3339), "is_anonymous": me.claims["is_anonymous"] == true,
	})
}

func orEmpty(value any) any {
	if object, is := value.(map[string]any); is {
		return object
	}
	return map[string]any{}
}

// putUser is PUT /user: another password, which signs the user out everywhere else, and user_metadata. It takes a session: neither a personal access
// token nor another issuer's token will do.
func (d *Door) putUser(c echo.Context) error {
	me, err := d.caller(c)
	if err != nil {
		return err
	}
	var body struct {
		Email, Phone, Password string
		Current                *string `json:"current_password"`
		Data                   map[string]any
	}
	if err := read(c, &body); err != nil {
		return err
	}
	metadata, err := readMetadata(body.Data)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	known, err := ask[account](ctx, d, "select auth.account_of(user_id => $1, session_id => $2)", me.who.Subject, me.session)
	switch {
	case err != nil:
		return err
	case known == nil || !known.Session:
		return errNoSession
	case body.Phone != "" || (body.Email != "" && !strings.EqualFold(body.Email, known.Email)):
		return notServed("a change of email or phone")
	}
	var oldHash, newHash *string
	if body.Password != "" {
		if oldHash, newHash, err = d.changePassword(c, me.who.Subject, body.Password, body.Current); err != nil {
			return err
		}
	}
	changed, err := ask[account](ctx, d, "select auth.change_account(user_id => $1, session_id => $2, old_hash => $3, new_hash => $4, user_metadata => $5)",
		me.who.Subject, me.session, oldHash, newHash, metadata)
	if err != nil {
		return err
	}
	if changed == nil {
		return errNoSession // ended, or another request changed the password, in this moment
	}
	return c.JSON(http.StatusOK, changed.user())
}

// changePassword checks and hashes a new password. current is what the user says the present one is; nil: did not say.
func (d *Door) changePassword(c echo.Context, user uuid.UUID, password string, current *string) (oldHash, newHash *string, err error) {
	ctx := c.Request().Context()
	known, err := ask[credentials](ctx, d, "select auth.credentials_of(user_id => $1)", user)
	if err != nil {
		return nil, nil, err
	}
	if known == nil {
		return nil, nil, errNoSession
	}
	if current != nil {
		if right, err := d.passwords.check(ctx, known.Hash, *current); err != nil || !right {
			if err == nil {
				err = errWrongPassword
			}
			return nil, nil, err
		}
	}
	if same, err := d.passwords.check(ctx, known.Hash, password); err != nil || same {
		if err == nil {
			err = refuse(http.StatusUnprocessableEntity, "same_password", "New password should be different from the old password.")
		}
		return nil, nil, err
	}
	hashed, err := d.passwords.hash(ctx, password)
	if err != nil {
		return nil, nil, err
	}
	return &known.Hash, &hashed, nil
}

// readMetadata writes what a user says of themselves as the database takes it.
func readMetadata(data map[string]any) (json.RawMessage, error) {
	if data == nil {
		return json.RawMessage("{}"), nil
	}
	text, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("writing user_metadata: %w", err)
	}
	if len(text) > maxMetadataBytes {
		return nil, refuse(http.StatusRequestEntityTooLarge, "validation_failed", fmt.Sprintf("data may have %d bytes", maxMetadataBytes))
	}
	return text, nil
}
