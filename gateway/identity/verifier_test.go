package identity_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

const (
	serviceKey = "the service key of the tests"
	anonKey    = "the public key of the tests"
	secret     = "a secret of the tests, of more than 32 characters"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// newVerifier makes one with the three keys; change is for what a test has differently.
func newVerifier(tb testing.TB, pool *pgxpool.Pool, change func(*identity.Settings)) *identity.Verifier {
	tb.Helper()
	s := identity.Settings{ServiceKey: serviceKey, AnonKey: anonKey, JWTSecret: secret, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&s)
	}
	v, err := identity.NewVerifier(pool, s)
	must(tb, err)
	return v
}

// claims are those of a user's token that is good for an hour; more are laid over them, nil takes one away.
func claims(more map[string]any) map[string]any {
	all := map[string]any{
		"role": "authenticated", "sub": "6f9619ff-8b86-d011-b42d-00c04fc964ff", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	maps.Copy(all, more)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	return all
}

// sign makes a JWT; key is what go-jose signs with, kid may be "".
func sign(tb testing.TB, algorithm jose.SignatureAlgorithm, key any, kid string, claims any) string {
	tb.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	must(tb, err)
	payload, err := json.Marshal(claims)
	must(tb, err)
	signed, err := signer.Sign(payload)
	must(tb, err)
	token, err := signed.CompactSerialize()
	must(tb, err)
	return token
}

func wantRefusal(t *testing.T, who identity.Identity, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || problem.From(err).Code != problem.Unauthorized || who.Role != "" {
		t.Errorf("%+v, %v; want %v with GW003", who, err, want)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, nil, nil)
	for credential, want := range map[string]identity.Identity{
		serviceKey: {Role: identity.Service, Key: "service"}, anonKey: {Role: identity.Anon, Key: "anon"},
	} {
		who, err := v.Verify(t.Context(), credential)
		if err != nil || who.Role != want.Role || who.Key != want.Key || who.Subject != uuid.Nil || !strings.Contains(string(who.Claims), string(want.Role)) {
			t.Errorf("%s: %+v, %v", credential, who, err)
		}
	}
	who, err := v.Verify(t.Context(), "")
	wantRefusal(t, who, err, identity.ErrMissing)
	for _, wrong := range []string{"x", serviceKey + " ", serviceKey[1:], "dr_worker_", strings.Repeat("a", 9000), "a.b.c", "..", "\x00", "eyJ.eyJ.x"} {
		who, err := v.Verify(t.Context(), wrong)
		wantRefusal(t, who, err, identity.ErrInvalid)
	}

	// Keys that are not set let nobody in, and neither do tokens without a secret.
	none := newVerifier(t, nil, func(s *identity.Settings) { *s = identity.Settings{Log: s.Log} })
	for _, credential := range []string{"", "x", sign(t, jose.HS256, []byte(secret), "", claims(nil))} {
		if who, err := none.Verify(t.Context(), credential); err == nil {
			t.Errorf("%q is %+v to a Verifier without keys", credential, who)
		}
	}
}

func TestSettingsThatCannotBeRight(t *testing.T) {
	t.Parallel()
	for word, s := range map[string]identity.Settings{
		"DARKROOM_JWT_SECRET": {JWTSecret: "short"},
		"DARKROOM_ANON_KEY":   {ServiceKey: serviceKey, AnonKey: serviceKey},
		"https://":            {JWKS: "http://issuer.example/keys"},
		"without password":    {JWKS: "https://me:secret@issuer.example/keys"},
		"can't be read":       {JWKS: "/nowhere/at/all.json"},
		"or a file":           {JWKS: "ftp://issuer.example/keys"},
	} {
		s.Log = slog.New(slog.DiscardHandler)
		if _, err := identity.NewVerifier(nil, s); err == nil || !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "me:secret") {
			t.Errorf("%s: %v", word, err)
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.New(t)
	db := taskdb.New(pg.Pool)
	ctx := t.Context()
	user := uuid.New()
	_, err := db.CreateUser(ctx, user, "")
	must(t, err)
	ofWorker, err := db.CreateAccessToken(ctx, "worker", "gpu", 0, user)
	must(t, err)
	ofNobody, err := db.CreateAccessToken(ctx, "worker", "farm", 0, uuid.Nil)
	must(t, err)
	ofUser, err := db.CreateAccessToken(ctx, "user", "script", 0, user)
	must(t, err)
	v := newVerifier(t, pg.Pool, nil)

	for name, c := range map[string]struct {
		token taskdb.NewAccessToken
		want  identity.Identity
	}{
		"a worker's":            {ofWorker, identity.Identity{Role: identity.Worker, Subject: user}},
		"a worker's of nobody":  {ofNobody, identity.Identity{Role: identity.Worker}},
		"a user's":              {ofUser, identity.Identity{Role: identity.Authenticated, Subject: user}},
		"a user's, once more":   {ofUser, identity.Identity{Role: identity.Authenticated, Subject: user}},
		"a worker's, once more": {ofWorker, identity.Identity{Role: identity.Worker, Subject: user}},
	} {
		who, err := v.Verify(ctx, c.token.Token)
		if err != nil || who.Role != c.want.Role || who.Subject != c.want.Subject || who.Token != c.token.ID || who.Key != "token:"+c.token.ID.String() {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
		if strings.Contains(string(who.Claims)+who.Key, c.token.Token) {
			t.Errorf("%s: the identity has the token itself", name)
		}
	}
	unknown := "dr_user_" + strings.Repeat("0", 64)
	who, err := v.Verify(ctx, unknown)
	wantRefusal(t, who, err, identity.ErrInvalid)
	refusal := err.Error()

	// Revoked while it is remembered: gone within 5 s, and refused in the same words as one that never was.
	_, err = db.RevokeAccessToken(ctx, ofUser.ID)
	must(t, err)
	revoked := time.Now()
	for {
		who, err = v.Verify(ctx, ofUser.Token)
		if err != nil {
			break
		}
		if time.Since(revoked) > 5*time.Second {
			t.Fatal("a revoked token still works after 5 s")
		}
		time.Sleep(50 * time.Millisecond)
	}
	wantRefusal(t, who, err, identity.ErrInvalid)
	if err.Error() != refusal {
		t.Errorf("a revoked token is refused with %q, an unknown one with %q", err, refusal)
	}
	// A token that is refused may be made a moment later.
	hash := sha256.Sum256([]byte(unknown))
	_, err = pg.Pool.Exec(ctx, "insert into darkroom.access_tokens (owner_id, scope, prefix, hash) values ($1, 'user', '', $2)", user, hash[:])
	must(t, err)
	made := time.Now()
	for _, err = v.Verify(ctx, unknown); err != nil; _, err = v.Verify(ctx, unknown) {
		if time.Since(made) > 5*time.Second {
			t.Fatal("a new token does not work after 5 s")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestADatabaseThatIsAwayIsNoRefusal(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.New(t)
	pool, err := pgxpool.New(t.Context(), pg.URL)
	must(t, err)
	v := newVerifier(t, pool, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Verify(ctx, "dr_user_"+strings.Repeat("0", 64)); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who went away: %v", err)
	}
	pool.Close()
	_, err = v.Verify(t.Context(), "dr_user_"+strings.Repeat("0", 64))
	if err == nil || errors.Is(err, identity.ErrInvalid) || problem.From(err).Code == problem.Unauthorized {
		t.Errorf("no database: %v", err)
	}
}

// TestClaimsReachTheDatabase runs as each caller and asks PostgreSQL who that is.
func TestClaimsReachTheDatabase(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.New(t)
	ctx := t.Context()
	as, err := identity.New(ctx, pg.Pool)
	must(t, err)
	v := newVerifier(t, pg.Pool, nil)
	user := uuid.New()
	deep := strings.Repeat(`[`, 1500) + strings.Repeat(`]`, 1500)
	for name, c := range map[string]struct {
		credential, role, uid string
	}{
		"service": {serviceKey, "service_role", ""},
		"anon":    {anonKey, "anon", ""},
		"a user":  {sign(t, jose.HS256, []byte(secret), "", claims(map[string]any{"sub": user, "name": json.RawMessage(`"é\ud800 ' \" \\ \u007f"`), "n": json.Number("12345678901234567890")})), "authenticated", user.String()},
		"a user with deep claims": {
			sign(t, jose.HS256, []byte(secret), "", claims(map[string]any{"sub": strings.ToUpper(user.String()), "deep": json.RawMessage(deep)})), "authenticated", user.String(),
		},
		"the service, with a subject":           {sign(t, jose.HS256, []byte(secret), "", claims(map[string]any{"role": "service_role", "sub": "not an id"})), "service_role", ""},
		"anon, with a subject":                  {sign(t, jose.HS256, []byte(secret), "", claims(map[string]any{"role": "anon"})), "anon", ""},
		"a user who names a token":              {sign(t, jose.HS256, []byte(secret), "", claims(map[string]any{"sub": user, "token_id": uuid.New()})), "authenticated", user.String()},
		"a user with a name of another writing": {sign(t, jose.HS256, []byte(secret), "", claims(map[string]any{"sub": user, "Role": "service_role", "Sub": "x"})), "authenticated", user.String()},
	} {
		who, err := v.Verify(ctx, c.credential)
		must(t, err)
		must(t, as.As(ctx, who, pgx.ReadOnly, func(tx pgx.Tx) error {
			var role, claimed, uid, token string
			err := tx.QueryRow(ctx, "select current_user::text, auth.role(), coalesce(auth.uid()::text, ''), coalesce(auth.token_id()::text, '')").
				Scan(&role, &claimed, &uid, &token)
			if role != c.role || claimed != c.role || uid != c.uid || token != "" {
				t.Errorf("%s is %q (%q), user %q, token %q", name, role, claimed, uid, token)
			}
			return err
		}))
	}
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, nil, nil)
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		p := problem.From(err)
		problem.Write(c, slog.New(slog.DiscardHandler), err, problem.Status(p.Code), p)
	}
	e.Use(v.Middleware(func(c echo.Context) bool { return c.Path() == "/open" }))
	who := func(c echo.Context) error { return c.String(http.StatusOK, identity.Of(c).Key) }
	e.GET("/", who)
	e.GET("/open", who)
	user := sign(t, jose.HS256, []byte(secret), "", claims(nil))
	for name, c := range map[string]struct {
		path   string
		header http.Header
		status int
		body   string
	}{
		"bearer":                 {"/", http.Header{"Authorization": {"Bearer " + serviceKey}}, 200, "service"},
		"bearer, written small":  {"/", http.Header{"Authorization": {"bearer  " + serviceKey}}, 200, "service"},
		"apikey":                 {"/", http.Header{"Apikey": {anonKey}}, 200, "anon"},
		"as supabase-js does it": {"/", http.Header{"Apikey": {anonKey}, "Authorization": {"Bearer " + user}}, 200, "user:6f9619ff-8b86-d011-b42d-00c04fc964ff"},
		"nothing":                {"/", nil, 401, ""},
		"the query":              {"/?apikey=" + url.QueryEscape(serviceKey), nil, 401, ""},
		"a wrong bearer beside":  {"/", http.Header{"Apikey": {serviceKey}, "Authorization": {"Bearer x"}}, 401, ""},
		"an empty bearer beside": {"/", http.Header{"Apikey": {serviceKey}, "Authorization": {"Bearer "}}, 401, ""},
		"basic beside":           {"/", http.Header{"Apikey": {serviceKey}, "Authorization": {"Basic eDp5"}}, 401, ""},
		"two bearers":            {"/", http.Header{"Authorization": {"Bearer " + serviceKey, "Bearer " + serviceKey}}, 401, ""},
		"an open address":        {"/open", nil, 200, ""},
		"an open address, known": {"/open", http.Header{"Apikey": {serviceKey}}, 200, ""},
		"an open address, wrong": {"/open", http.Header{"Apikey": {"x"}}, 200, ""},
		"no address":             {"/none", nil, 401, ""},
	} {
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Header = c.header
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code != c.status || (c.status == http.StatusOK && w.Body.String() != c.body) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if w.Code == http.StatusUnauthorized && (w.Header().Get("WWW-Authenticate") != "Bearer" || !strings.Contains(w.Body.String(), "GW003")) {
			t.Errorf("%s: %v %s", name, w.Header(), w.Body)
		}
	}
}
