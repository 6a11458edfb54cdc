package server_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"darkroom/gateway/identity"
	"darkroom/gateway/server"
)

// Every door asks for a key but those that the README names, whatever the caller wrote into the path.
func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret := "a secret of the tests, of more than 32 characters"
	gateway, err := server.Open(t.Context(), server.Config{
		DatabaseURL: b.pg.Login(t, "authenticator"), StorageURL: "file://" + t.TempDir(), ServiceKey: testKey, AnonKey: "public key", JWTSecret: secret, SignUp: true, Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	defer func() { must(t, gateway.Close()) }()
	web := httptest.NewServer(gateway)
	defer web.Close()
	signer, err := identity.NewSigner(identity.Settings{JWTSecret: secret})
	must(t, err)
	user, err := signer.Sign(map[string]any{"role": "authenticated", "sub": b.user}, time.Now(), time.Hour)
	must(t, err)
	anon, err := signer.Key(identity.Anon)
	must(t, err)
	service, err := signer.Key(identity.Service)
	must(t, err)
	token, err := b.db.CreateAccessToken(t.Context(), "user", "", 0, b.user)
	must(t, err)

	credits := "/tasks/" + b.image()
	for name, c := range map[string]struct {
		method, path, key string
		status            int
	}{
		"no key":                      {http.MethodGet, credits, "", 401},
		"a wrong key":                 {http.MethodGet, credits, "x", 401},
		"the service key":             {http.MethodGet, credits, testKey, 200},
		"the service's JWT":           {http.MethodGet, credits, service, 200},
		"the user":                    {http.MethodGet, credits, user, 200},
		"the user's token":            {http.MethodGet, credits, token.Token, 200},
		"health":                      {http.MethodGet, "/healthz", "", 200},
		"sign-in's health":            {http.MethodGet, "/auth/v1/health", "", 200},
		"sign-in's health, wrong key": {http.MethodGet, "/auth/v1/health", "x", 200},
		"the user of nobody":          {http.MethodGet, "/auth/v1/user", "", 401},
		"public files":                {http.MethodGet, "/storage/v1/object/public/image_uploads/none", "", 404},
		"a way round":                 {http.MethodGet, "/auth/v1/.." + credits, "", 404},
		"a way round, escaped":        {http.MethodGet, "/auth/v1/%2e%2e" + credits, "", 404},
		"a public file's way round":   {http.MethodGet, "/storage/v1/object/public/image_uploads/../../../../.." + credits, "", 404},
		"another spelling":            {http.MethodGet, "//auth/v1/health", "", 401},
		"capitals":                    {http.MethodGet, "/AUTH/v1/health", "", 401},
		"no address":                  {http.MethodGet, "/none", "", 401},
		"no address, known":           {http.MethodGet, "/none", testKey, 404},
	} {
		if got := do(t, c.method, web.URL+c.path, "", "Apikey", c.key); got.status != c.status {
			t.Errorf("%s: %d %s, want %d", name, got.status, got.body, c.status)
		}
	}
	for name, key := range map[string]string{"the public key": "public key", "the public JWT": anon} {
		if got := do(t, http.MethodGet, web.URL+credits, "", "Apikey", key); got.status < 400 || got.status >= 500 {
			t.Errorf("%s reads a task: %d %s", name, got.status, got.body)
		}
	}
}
