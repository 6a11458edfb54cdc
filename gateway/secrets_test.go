package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"darkroom/gateway/server"
)

func TestS31ServeRefusesKeysThatOthersKnow(t *testing.T) {
	t.Parallel()
	good, also := "0f4a6c1de9b2785338af61c09d7e54b2", "b71c0e5a94f2d8360a1be7c4d95f6832"
	demo := "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9." + base64.RawURLEncoding.EncodeToString([]byte(`{"role":"service_role","iss":"supabase-demo"}`)) + ".c2lnbmF0dXJl"
	for name, test := range map[string]struct {
		keys server.Config
		want string // "" for none
	}{
		"good":                  {server.Config{ServiceKey: good, JWTSecret: also, AnonKey: "public"}, ""},
		"without sign-in":       {server.Config{ServiceKey: good}, ""},
		"Supabase's secret":     {server.Config{ServiceKey: good, JWTSecret: "your-super-secret-jwt-token-with-at-least-32-characters-long"}, "DARKROOM_JWT_SECRET stands in a documentation"},
		"Supabase's key":        {server.Config{ServiceKey: demo}, "DARKROOM_SERVICE_KEY stands in a documentation"},
		"a placeholder":         {server.Config{ServiceKey: "ChangeMe-ChangeMe-ChangeMe"}, "DARKROOM_SERVICE_KEY stands"},
		"the same letter":       {server.Config{ServiceKey: strings.Repeat("a", 40)}, "can be guessed"},
		"one for two":           {server.Config{ServiceKey: good, JWTSecret: good}, "DARKROOM_SERVICE_KEY and DARKROOM_JWT_SECRET are the same"},
		"public and secret":     {server.Config{ServiceKey: good, JWTSecret: also, AnonKey: also}, "DARKROOM_JWT_SECRET and DARKROOM_ANON_KEY are the same"},
		"a key of dev":          {server.Config{ServiceKey: "dev_" + good}, "DARKROOM_SERVICE_KEY is a key of `gateway dev`"},
		"a secret of dev":       {server.Config{ServiceKey: good, JWTSecret: "dev_" + also}, "DARKROOM_JWT_SECRET is a key of `gateway dev`"},
		"the public key of dev": {server.Config{ServiceKey: good, AnonKey: "dev_" + also}, "DARKROOM_ANON_KEY is a key of `gateway dev`"},
	} {
		err := (&settings{gateway: test.keys}).checkSecrets()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	for range 1000 {
		key := make([]byte, 24)
		_, _ = rand.Read(key)
		for _, text := range []string{hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key), rand.Text()} {
			if err := (&settings{gateway: server.Config{ServiceKey: text}}).checkSecrets(); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
	}
}
