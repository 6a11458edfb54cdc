package server_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"darkroom/gateway/identity"
	"darkroom/gateway/server"
	"darkroom/sql/taskdbtest"
)

// TestTheConsoleNeedsNoKey asks without one, and with one that is wrong, which changes nothing here.
func TestTheConsoleNeedsNoKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, token := range []string{"", "Bearer nonsense"} {
		for path, kind := range map[string]string{"/": "text/html; charset=utf-8", "/p/a/b": "text/html; charset=utf-8", "/config.json": "application/json"} {
			got := b.send(http.MethodGet, path, "", "Authorization", token)
			if got.status != http.StatusOK || got.header.Get("Content-Type") != kind {
				t.Errorf("%s with %q: %d %v", path, token, got.status, got.header)
			}
		}
		if got := b.send(http.MethodGet, "/assets/nothing.js", "", "Authorization", token); got.status != http.StatusNotFound || got.json(t)["code"] != "GW004" {
			t.Errorf("an asset that is not there: %d %s", got.status, got.body)
		}
		if got := b.send(http.MethodGet, "/elsewhere", "", "Authorization", token); got.status != http.StatusUnauthorized {
			t.Errorf("an address that is nobody's: %d %s", got.status, got.body)
		}
	}
}

// TestTheConsoleIsGivenThePublicKey: the one of the settings; without it one that the gateway makes, and takes; without a secret there is none.
func TestTheConsoleIsGivenThePublicKey(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.New(t)
	must(t, server.Migrate(t.Context(), pg.URL))
	config := server.Config{
		DatabaseURL: pg.Login(t, "authenticator"), StorageURL: "file://" + t.TempDir(), ServiceKey: testKey, Log: slog.New(slog.DiscardHandler),
	}
	open := func(config server.Config) (url, key string) {
		gateway, err := server.Open(t.Context(), config)
		must(t, err)
		web := httptest.NewServer(gateway)
		t.Cleanup(func() {
			web.Close()
			must(t, gateway.Close())
		})
		key, _ = do(t, http.MethodGet, web.URL+"/config.json", "").json(t)["key"].(string)
		return web.URL, key
	}
	if _, key := open(config); key != "" {
		t.Errorf("a gateway without keys shows %q", key)
	}
	config.JWTSecret = strings.Repeat("secret of the tests ", 2)
	url, key := open(config)
	if got := do(t, http.MethodGet, url+"/rest/v1/tools?select=tool_id", "", "Apikey", key); got.status != http.StatusOK {
		t.Errorf("its own key %q: %d %s", key, got.status, got.body)
	}
	verifier, err := identity.NewVerifier(nil, identity.Settings{JWTSecret: config.JWTSecret})
	must(t, err)
	if caller, err := verifier.Verify(t.Context(), key); err != nil || caller.Role != identity.Anon {
		t.Errorf("its own key is %v's, %v", caller, err)
	}
	config.AnonKey = "public key of the tests, long enough"
	if _, key := open(config); key != config.AnonKey {
		t.Errorf("the console is given %q", key)
	}
}
