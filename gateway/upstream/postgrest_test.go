package upstream_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
	"darkroom/gateway/upstream"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

const jwtSecret = "the secret that gateway and PostgREST share"

// postgrest is what PostgREST does with a request's credentials (its documentation, "Authentication"): it logs in as a member of authenticator, takes the
// role from a JWT that is signed with its secret and has not expired, sets the role and the claims for the transaction, and answers. Which role and user
// that is, and how many projects it sees, is the answer here.
func postgrest(t *testing.T, login string) *httptest.Server {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), login)
	must(t, err)
	t.Cleanup(pool.Close)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := jwt.ParseSigned(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), []jose.SignatureAlgorithm{jose.HS256})
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		var said jwt.Claims
		claims := map[string]any{}
		if err := token.Claims([]byte(jwtSecret), &said, &claims); err != nil || said.ValidateWithLeeway(jwt.Expected{}, 0) != nil {
			http.Error(w, fmt.Sprint(err), http.StatusUnauthorized)
			return
		}
		text, _ := json.Marshal(claims)
		answer := map[string]any{
			"uri": r.RequestURI, "apikey": r.Header.Get("Apikey"), "prefer": r.Header.Get("Prefer"), "claims": claims,
			"lasts": time.Until(said.Expiry.Time()).Seconds(),
		}
		err = pgx.BeginFunc(r.Context(), pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(r.Context(), "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)", claims["role"], string(text)); err != nil {
				return err
			}
			var role, user string
			var reads bool
			projects := -1
			err := tx.QueryRow(r.Context(), "select current_user, coalesce(auth.uid()::text, ''), has_table_privilege('public.projects', 'select')").
				Scan(&role, &user, &reads)
			if err == nil && reads {
				err = tx.QueryRow(r.Context(), "select count(*)::integer from public.projects").Scan(&projects)
			}
			answer["role"], answer["user"], answer["projects"] = role, user, projects
			return err
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Range", "0-0/1")
		json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(web.Close)
	return web
}

// Whoever calls, by whatever key, PostgREST runs the same role with the same claims as the gateway would, and gets to see none of those keys.
func TestPostgRESTRunsTheCallersOfTheGateway(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.New(t)
	db := taskdb.New(pg.Pool)
	login := pg.Login(t, "authenticator")
	user, err := db.CreateUser(t.Context(), uuid.Nil, "")
	must(t, err)
	for range 2 {
		_, err = db.CreateProject(t.Context(), user.ID, "hers")
		must(t, err)
	}
	other, err := db.CreateUser(t.Context(), uuid.Nil, "")
	must(t, err)
	_, err = db.CreateProject(t.Context(), other.ID, "somebody's")
	must(t, err)
	token, err := db.CreateAccessToken(t.Context(), "user", "t", 0, user.ID)
	must(t, err)

	pool, err := pgxpool.New(t.Context(), login)
	must(t, err)
	t.Cleanup(pool.Close)
	const anonKey = "sb_publishable_for_everybody"
	keys := identity.Settings{ServiceKey: serviceKey, AnonKey: anonKey, JWTSecret: jwtSecret, Log: slog.New(slog.DiscardHandler)}
	verifier, err := identity.NewVerifier(pool, keys)
	must(t, err)
	ours, err := identity.NewSigner(keys)
	must(t, err)
	rest, err := upstream.NewPostgREST(postgrest(t, login).URL+"/", ours, slog.New(slog.DiscardHandler))
	must(t, err)
	web := serve(t, func(e *echo.Echo) {
		e.Use(verifier.Middleware(func(echo.Context) bool { return false }))
		rest.Routes(e)
	})

	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(jwtSecret)}, nil)
	must(t, err)
	signed, err := jwt.Signed(signer).Claims(map[string]any{
		"role": "authenticated", "sub": user.ID, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Add(20 * time.Second).Unix(),
		"big": json.RawMessage("9007199254740993"), "app_metadata": map[string]any{"plan": "x"},
	}).Serialize()
	must(t, err)

	for _, test := range []struct {
		name, credential, role string
		user                   uuid.UUID
		projects               float64
	}{
		{"the service", serviceKey, "service_role", uuid.Nil, 3},
		{"anybody", anonKey, "anon", uuid.Nil, -1},
		{"a user's JWT", signed, "authenticated", user.ID, 2},
		{"a user's personal access token", token.Token, "authenticated", user.ID, 2},
	} {
		answer, text := ask(t, http.MethodGet, web.URL+"/rest/v1/projects?select=id&name=eq.a%2Fb&apikey=x", "",
			"Apikey", test.credential, "Authorization", "Bearer "+test.credential, "Prefer", "count=exact")
		if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Range") != "0-0/1" {
			t.Fatalf("%s: %d %s", test.name, answer.StatusCode, text)
		}
		var got struct {
			URI, APIKey, Prefer, Role, User string
			Projects, Lasts                 float64
			Claims                          map[string]json.RawMessage
		}
		must(t, json.Unmarshal([]byte(text), &got))
		wantUser := ""
		if test.user != uuid.Nil {
			wantUser = test.user.String()
		}
		if got.Role != test.role || got.User != wantUser || got.Projects != test.projects || got.Lasts > 61 {
			t.Errorf("%s: %s", test.name, text)
		}
		if strings.Contains(text, test.credential) && test.credential != signed || got.APIKey != "" || got.Prefer != "count=exact" {
			t.Errorf("%s: PostgREST was sent %s", test.name, text)
		}
		if uri, _, _ := strings.Cut(got.URI, "?"); uri != "/projects" || !strings.Contains(got.URI, "name=eq.a%2Fb") || strings.Contains(got.URI, "apikey") {
			t.Errorf("%s: PostgREST was asked for %s", test.name, got.URI)
		}
		if test.credential == signed && (!strings.Contains(text, `"plan":"x"`) || got.Claims["nbf"] != nil) {
			t.Errorf("%s: the claims are %s", test.name, text)
		}
	}

	answer, text := ask(t, http.MethodGet, web.URL+"/rest/v1/projects", "")
	if answer.StatusCode != http.StatusUnauthorized || !strings.Contains(text, problem.Unauthorized) {
		t.Errorf("nobody: %d %s", answer.StatusCode, text)
	}
	if answer, text := ask(t, http.MethodGet, web.URL+"/rest/v1/..%2fadmin", "", "Apikey", serviceKey); answer.StatusCode != http.StatusNotFound {
		t.Errorf("a path that leaves: %d %s", answer.StatusCode, text)
	}
}
