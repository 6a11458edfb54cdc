package main

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"darkroom/gateway/dev"
)

// placeholders stand in the keys of documentations, such as Supabase's super-secret-jwt-token-with-at-least-32-characters-long, and hardly ever in a
// random text.
var placeholders = []string{"secret", "password", "changeme", "change-me", "example", "your-", "supabase-demo"}

// fewestCharacters is how many different ones a random key has at least, even in hexadecimal digits.
const fewestCharacters = 8

// checkSecrets refuses keys that others may know: those of documentations and of `gateway dev`, and one for two purposes. Their lengths are checked
// where they are used.
func (s *settings) checkSecrets() error {
	const remedy = "set it to a random text, such as the output of `openssl rand -hex 32`"
	named := []struct{ variable, value string }{
		{"DARKROOM_SERVICE_KEY", s.gateway.ServiceKey}, {"DARKROOM_JWT_SECRET", s.gateway.JWTSecret}, {"DARKROOM_ANON_KEY", s.gateway.AnonKey},
	}
	for i, key := range named {
		if key.value == "" {
			continue
		}
		for _, other := range named[:i] {
			if other.value == key.value {
				return fmt.Errorf("%s and %s are the same: each needs a value of its own", other.variable, key.variable)
			}
		}
		if strings.HasPrefix(key.value, dev.KeyPrefix) {
			return fmt.Errorf("%s is a key of `gateway dev`, which is for one machine: %s", key.variable, remedy)
		}
		if key.variable == "DARKROOM_ANON_KEY" {
			continue // it is public
		}
		if isPlaceholder(key.value) {
			return fmt.Errorf("%s stands in a documentation or can be guessed: %s", key.variable, remedy)
		}
	}
	return nil
}

func isPlaceholder(key string) bool {
	texts := []string{strings.ToLower(key)}
	for part := range strings.SplitSeq(key, ".") { // a JWT
		claims, err := base64.RawURLEncoding.DecodeString(part)
		if err == nil {
			texts = append(texts, strings.ToLower(string(claims)))
		}
	}
	for _, word := range placeholders {
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, word) }) {
			return true
		}
	}
	different := map[rune]bool{}
	for _, r := range key {
		different[r] = true
	}
	return len(different) < fewestCharacters
}
