package auth_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/auth"
	"darkroom/gateway/identity"
	"darkroom/sql/taskdb"
)

// age lets time pass for a session's refresh tokens and the session.
func (b *bench) age(d time.Duration) {
	b.t.Helper()
	b.exec("update darkroom.refresh_tokens set used_at = used_at - $1::interval", d)
	b.exec("update darkroom.sessions set used_at = used_at - $1::interval", d)
}

func TestRefreshTokensFollowEachOther(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	first := b.signUp("ada@example.com")
	second := b.session(b.refresh(first.refresh))
	if second.id != first.id || second.user != first.user || second.refresh == first.refresh {
		t.Errorf("%+v after %+v", second, first)
	}
	// Its answer was lost: the same again.
	if again := b.session(b.refresh(first.refresh)); again.refresh != second.refresh || again.id != first.id {
		t.Errorf("%+v and then %+v", second, again)
	}
	third := b.session(b.refresh(second.refresh))
	b.age(11 * time.Second)
	b.session(b.refresh(third.refresh))
	if n := value[int](b, "select count(*) from darkroom.refresh_tokens"); n != 4 {
		t.Errorf("%d refresh tokens", n)
	}
}

func TestAnOldRefreshTokenEndsTheSession(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		later time.Duration
		used  bool // whether the successor was used
	}{"late": {11 * time.Second, false}, "late, and its successor used": {11 * time.Second, true}, "at once, but its successor used": {0, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			first := b.signUp("ada@example.com")
			other := b.session(b.signIn("ada@example.com", password))
			newest := b.session(b.refresh(first.refresh))
			if c.used {
				newest = b.session(b.refresh(newest.refresh))
			}
			b.age(c.later)
			b.want(b.refresh(first.refresh), http.StatusBadRequest, "refresh_token_already_used")
			if !strings.Contains(b.log.String(), "a refresh token came back") {
				t.Errorf("the log does not tell: %s", b.log)
			}
			b.want(b.refresh(newest.refresh), http.StatusBadRequest, "refresh_token_not_found")
			b.want(b.refresh(first.refresh), http.StatusBadRequest, "refresh_token_not_found")
			b.want(b.send(http.MethodGet, "/user", newest.access, ""), http.StatusForbidden, "session_not_found")
			b.session(b.refresh(other.refresh)) // the user's other sessions go on
		})
	}
}

// Many rotations of one token at once: all get the same next one, whatever the order, and the session goes on.
func TestRotationsAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	held := b.signUp("ada@example.com")
	for range 10 {
		var mu sync.Mutex
		var got []session
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				answer := b.refresh(held.refresh)
				if answer.status != http.StatusOK {
					t.Errorf("%d %s", answer.status, answer.text)
					return
				}
				s := b.session(answer)
				mu.Lock()
				defer mu.Unlock()
				got = append(got, s)
			})
		}
		group.Wait()
		if t.Failed() {
			return
		}
		for _, s := range got {
			if s.refresh != got[0].refresh || s.id != held.id {
				t.Fatalf("%+v and %+v", s, got[0])
			}
		}
		held = got[0]
	}
	if n := value[int](b, "select count(*) from darkroom.refresh_tokens"); n != 11 {
		t.Errorf("%d refresh tokens after 10 rotations", n)
	}
}

// The connection dies in the middle of a rotation, before and after it was committed: the client tries again and goes on.
func TestARotationThatIsCutOff(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	held := b.signUp("ada@example.com")
	token := sha256.Sum256([]byte(held.refresh))
	conn := b.pg.Conn(t)
	tx, err := conn.Begin(t.Context())
	must(t, err)
	var data json.RawMessage
	must(t, tx.QueryRow(t.Context(), "select auth.rotate_session($1, 'a next hash that nobody will see')", token[:]).Scan(&data))

	// Another rotation waits for that one, and takes over when it is gone.
	waiting := make(chan answer, 1)
	go func() { waiting <- b.refresh(held.refresh) }()
	deadline := time.Now().Add(10 * time.Second)
	for !value[bool](b, "select exists (select from pg_locks where not granted)") {
		if time.Now().After(deadline) {
			t.Fatal("the second rotation does not wait for the first")
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.pg.Kill(t, conn.PgConn().PID())
	next := b.session(<-waiting)

	// Committed, but the answer never came: the same token again gives the same session.
	again := b.session(b.refresh(held.refresh))
	if again.refresh != next.refresh || again.id != held.id {
		t.Errorf("%+v and then %+v", next, again)
	}
	b.session(b.refresh(again.refresh))
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	held := b.signUp("ada@example.com")
	away, err := pgxpool.New(t.Context(), b.pg.URL)
	must(t, err)
	away.Close()
	door, err := auth.New(auth.Config{Pool: away, Keys: identity.Settings{JWTSecret: secret}, Verifier: b.verifier, Log: slogDiscard})
	must(t, err)
	lost := &bench{t: t, web: handlerOf(door)}
	for _, got := range []answer{
		lost.signIn("ada@example.com", password), lost.refresh(held.refresh),
		lost.send(http.MethodGet, "/user", held.access, ""), lost.send(http.MethodPost, "/logout", held.access, ""),
	} {
		// auth-js keeps the session on a 5xx, and tries again.
		if got.status < 500 || got.body["error_code"] != "unexpected_failure" {
			t.Errorf("%d %s", got.status, got.text)
		}
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	for scope, want := range map[string][]string{"": nil, "global": nil, "local": {"second", "third"}, "others": {"first"}} {
		t.Run("scope "+scope, func(t *testing.T) {
			t.Parallel()
			b := setup(t, nil)
			stranger := b.signUp("eve@example.com")
			sessions := map[string]session{"first": b.signUp("ada@example.com")}
			for _, name := range []string{"second", "third"} {
				sessions[name] = b.session(b.signIn("ada@example.com", password))
			}
			if got := b.send(http.MethodPost, "/logout?scope="+scope, sessions["first"].access, ""); got.status != http.StatusNoContent {
				t.Fatalf("%d %s", got.status, got.text)
			}
			for name, s := range sessions {
				user := b.send(http.MethodGet, "/user", s.access, "")
				refreshed := b.refresh(s.refresh)
				if slices.Contains(want, name) {
					if user.status != http.StatusOK || refreshed.status != http.StatusOK {
						t.Errorf("%s: %s %s", name, user.text, refreshed.text)
					}
					continue
				}
				b.want(user, http.StatusForbidden, "session_not_found")
				b.want(refreshed, http.StatusBadRequest, "refresh_token_not_found")
				b.want(b.send(http.MethodPost, "/logout", s.access, ""), http.StatusForbidden, "session_not_found")
				b.want(b.send(http.MethodPut, "/user", s.access, body("password", "another password")), http.StatusForbidden, "session_not_found")
			}
			b.session(b.refresh(stranger.refresh))
		})
	}
}

func TestLogoutIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	me := b.signUp("ada@example.com")
	token, err := taskdb.New(b.pg.Pool).CreateAccessToken(t.Context(), "user", "", 0, me.user)
	must(t, err)
	b.want(b.send(http.MethodPost, "/logout?scope=everybody", me.access, ""), http.StatusBadRequest, "validation_failed")
	b.want(b.send(http.MethodPost, "/logout", "", ""), http.StatusForbidden, "bad_jwt")
	b.want(b.send(http.MethodPost, "/logout", serviceKey, ""), http.StatusForbidden, "bad_jwt")
	b.want(b.send(http.MethodPost, "/logout", token.Token, ""), http.StatusForbidden, "session_not_found")
	b.session(b.refresh(me.refresh))
}

func TestSessionsDoNotLieForEver(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	first := b.signUp("ada@example.com")
	b.age(31 * 24 * time.Hour)
	b.want(b.refresh(first.refresh), http.StatusBadRequest, "refresh_token_not_found")

	b.signIn("ada@example.com", password)
	b.age(31 * 24 * time.Hour)
	kept := b.session(b.signIn("ada@example.com", password))
	if n := value[int](b, "select count(*) from darkroom.sessions"); n != 1 {
		t.Errorf("%d sessions: the old one lies on", n)
	}
	b.exec(`insert into darkroom.sessions (user_id, used_at) select $1, clock_timestamp() - interval '1 day' + n * interval '1 second' from generate_series(1, 150) n`, kept.user)
	b.session(b.signIn("ada@example.com", password))
	if n := value[int](b, "select count(*) from darkroom.sessions"); n != 100 {
		t.Errorf("%d sessions", n)
	}
	b.session(b.refresh(kept.refresh)) // those that were used go last
}

func TestChangingTheAccount(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	me := b.signUp("ada@example.com")
	other := b.session(b.signIn("ada@example.com", password))
	put := func(pairs ...any) answer { return b.send(http.MethodPut, "/user", me.access, body(pairs...)) }

	put("data", map[string]any{"name": "Ada", "theme": "dark", "nested": map[string]any{"a": nil}})
	got := put("data", map[string]any{"theme": nil, "city": "London"})
	metadata, _ := got.body["user_metadata"].(map[string]any)
	nested, _ := metadata["nested"].(map[string]any)
	if _, kept := nested["a"]; got.status != http.StatusOK || len(metadata) != 3 || metadata["name"] != "Ada" || metadata["city"] != "London" || !kept {
		t.Errorf("%d %s", got.status, got.text)
	}
	b.want(put("data", map[string]any{"a": strings.Repeat("x", 20<<10)}), http.StatusRequestEntityTooLarge, "validation_failed")
	put("data", map[string]any{"a": strings.Repeat("x", 10<<10)})
	b.want(put("data", map[string]any{"b": strings.Repeat("x", 10<<10)}), http.StatusBadRequest, "validation_failed")
	b.want(put("email", "eve@example.com"), http.StatusNotFound, "not_supported")
	b.want(put("phone", "+1"), http.StatusNotFound, "not_supported")
	b.want(put("password", "short"), http.StatusUnprocessableEntity, "weak_password")
	b.want(put("password", password), http.StatusUnprocessableEntity, "same_password")
	b.want(put("password", "another password", "current_password", "wrong"), http.StatusBadRequest, "invalid_credentials")
	b.session(b.refresh(other.refresh)) // none of that was a change

	if got := put("password", "another password", "current_password", password, "email", "Ada@example.com", "code_challenge", nil); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.text)
	}
	b.want(b.signIn("ada@example.com", password), http.StatusBadRequest, "invalid_credentials")
	b.session(b.signIn("ada@example.com", "another password"))
	b.want(b.refresh(other.refresh), http.StatusBadRequest, "refresh_token_not_found")
	b.session(b.refresh(me.refresh))
}

// A sign-in with the old password that began before the change leaves no session behind.
func TestASignInBesideAChangeOfPassword(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	me := b.signUp("ada@example.com")
	tx, err := b.pg.Pool.Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	hash := value[string](b, "select password_hash from darkroom.credentials")
	var changed json.RawMessage
	must(t, tx.QueryRow(t.Context(), "select auth.change_account(user_id => $1, session_id => $2, old_hash => $3, new_hash => 'new')", me.user, me.id, hash).Scan(&changed))
	waiting := make(chan answer, 1)
	go func() { waiting <- b.signIn("ada@example.com", password) }()
	deadline := time.Now().Add(10 * time.Second)
	for !value[bool](b, "select exists (select from pg_locks where not granted)") {
		if time.Now().After(deadline) {
			t.Fatal("the sign-in does not wait for the change")
		}
		time.Sleep(10 * time.Millisecond)
	}
	must(t, tx.Commit(t.Context()))
	b.want(<-waiting, http.StatusBadRequest, "invalid_credentials")
	if n := value[int](b, "select count(*) from darkroom.sessions"); changed == nil || n != 1 {
		t.Errorf("%d sessions, %s", n, changed)
	}
}

func TestGetUser(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	me := b.signUp("ada@example.com")
	db := taskdb.New(b.pg.Pool)
	ofUser, err := db.CreateAccessToken(t.Context(), "user", "", 0, me.user)
	must(t, err)
	ofWorker, err := db.CreateAccessToken(t.Context(), "worker", "", 0, me.user)
	must(t, err)
	signer, err := identity.NewSigner(identity.Settings{JWTSecret: secret, Issuer: "https://project.supabase.co/auth/v1"})
	must(t, err)
	foreign := uuid.New()
	sign := func(claims map[string]any, life time.Duration) string {
		token, err := signer.Sign(claims, time.Now(), life)
		must(t, err)
		return token
	}
	elsewhere := sign(map[string]any{
		"role": "authenticated", "sub": foreign, "email": "bob@example.com", "session_id": uuid.New(), "user_metadata": map[string]any{"name": "Bob"},
	}, time.Hour)

	if got := b.send(http.MethodGet, "/user", ofUser.Token, ""); got.status != http.StatusOK || got.body["email"] != "ada@example.com" {
		t.Errorf("by a token: %d %s", got.status, got.text)
	}
	got := b.send(http.MethodGet, "/user", elsewhere, "")
	metadata, _ := got.body["user_metadata"].(map[string]any)
	if got.status != http.StatusOK || got.body["id"] != foreign.String() || got.body["email"] != "bob@example.com" || metadata["name"] != "Bob" {
		t.Errorf("of another issuer: %d %s", got.status, got.text)
	}
	b.want(b.send(http.MethodPut, "/user", elsewhere, body("data", map[string]any{"a": 1})), http.StatusForbidden, "session_not_found")
	b.want(b.send(http.MethodPut, "/user", ofUser.Token, body("password", "another password")), http.StatusForbidden, "session_not_found")
	b.want(b.send(http.MethodGet, "/user", ofWorker.Token, ""), http.StatusForbidden, "bad_jwt")
	b.want(b.send(http.MethodGet, "/user", serviceKey, ""), http.StatusForbidden, "bad_jwt")
	expired := b.send(http.MethodGet, "/user", sign(map[string]any{"role": "authenticated", "sub": me.user}, -time.Hour), "")
	b.want(expired, http.StatusForbidden, "bad_jwt")
	if !strings.Contains(expired.text, "expired") {
		t.Error(expired.text)
	}
	b.exec("select erase_user(user_id => $1)", me.user)
	b.want(b.send(http.MethodGet, "/user", me.access, ""), http.StatusForbidden, "session_not_found")
	b.want(b.refresh(me.refresh), http.StatusBadRequest, "refresh_token_not_found")
}

// Nobody but the gateway may call what is here, nor read what it keeps.
func TestOnlyTheGatewayMayAsk(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for _, role := range []string{"anon", "authenticated", "worker", "service_role", "public"} {
		may := value[[]string](b, `
			select coalesce(array_agg(p.oid::regprocedure::text), '{}') from pg_proc p
			where p.pronamespace = 'auth'::regnamespace and p.proname in ('sign_up', 'credentials_of', 'start_session', 'rotate_session', 'end_sessions', 'account_of', 'change_account')
			  and has_function_privilege($1, p.oid, 'execute')`, role)
		if len(may) > 0 {
			t.Errorf("%s may call %v", role, may)
		}
		for _, table := range []string{"credentials", "sessions", "refresh_tokens"} {
			if value[bool](b, "select has_table_privilege($1, 'darkroom.' || $2, 'select, insert, update, delete')", role, table) {
				t.Errorf("%s may touch %s", role, table)
			}
		}
	}
	// As the gateway logs in.
	role := "door_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	b.exec("create role " + role + " login inherit in role authenticator")
	defer b.exec("drop role " + role)
	for _, call := range []string{
		"select auth.sign_up('a@example.com', 'hash')", "select auth.credentials_of('a@example.com')",
		"select auth.account_of((auth.credentials_of('a@example.com') ->> 'user_id')::uuid)",
	} {
		tx, err := b.pg.Pool.Begin(t.Context())
		must(t, err)
		_, err = tx.Exec(t.Context(), "set local role "+role)
		must(t, err)
		var data json.RawMessage
		if err := tx.QueryRow(t.Context(), call).Scan(&data); err != nil || data == nil {
			t.Errorf("%s: %s %v", call, data, err)
		}
		must(t, tx.Commit(t.Context()))
	}
}
