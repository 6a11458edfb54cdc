package identity

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Keys that an issuer adds are found, those it withdraws go, and while it is away the last ones count for a day.
func TestKeysFollowTheIssuer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var present []string
		away, fetches := false, 0
		k := &keySet{log: slog.New(slog.DiscardHandler), load: func(context.Context) ([]byte, error) {
			if fetches++; away {
				return nil, errors.New("away")
			}
			set := jose.JSONWebKeySet{}
			for _, id := range present {
				public := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public()
				set.Keys = append(set.Keys, jose.JSONWebKey{Key: public, KeyID: id})
			}
			data, err := json.Marshal(set)
			return data, err
		}}
		// want asks for a key and lets a fetch that was started beside it end.
		want := func(id string, known bool, most int) {
			t.Helper()
			before := fetches
			_, err := k.find(t.Context(), id)
			synctest.Wait()
			if (err == nil) != known || fetches > before+most {
				t.Errorf("%s: %v after %d fetches, want known %v after %d", id, err, fetches-before, known, most)
			}
		}

		present = []string{"old"}
		want("old", true, 1)
		present = []string{"old", "new"}
		want("new", false, 0) // asked just now
		time.Sleep(keysPause + time.Second)
		want("new", true, 1)
		for n := range 5 {
			want(fmt.Sprint("unknown", n), false, 0)
		}

		present = []string{"new"}
		time.Sleep(keysAge + time.Second)
		want("old", true, 1) // the fetch goes on beside
		want("old", false, 0)
		want("new", true, 0)

		away = true
		time.Sleep(keysEnd - time.Minute)
		want("new", true, 1)
		time.Sleep(2 * time.Minute)
		if _, err := k.find(t.Context(), "new"); !errors.Is(err, errNoKeys) {
			t.Errorf("keys of yesterday: %v", err)
		}
		away = false
		time.Sleep(keysPause + time.Second)
		want("new", true, 1)
	})
}

// An answer about a token is believed for two generations at most, and the memory for it is bounded.
func TestTokensAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var claims json.RawMessage
		cache := newTokenCache(func(context.Context, []byte) (json.RawMessage, error) {
			asked++
			return claims, nil
		})
		claims = json.RawMessage(`{"role":"worker","token_id":"6f9619ff-8b86-d011-b42d-00c04fc964ff"}`)
		hash := [32]byte{1}
		for moment := time.Duration(0); moment < 10*time.Second; moment += 100 * time.Millisecond {
			if who, err := cache.identify(t.Context(), hash); err != nil || who.Role != Worker {
				t.Fatalf("%+v, %v", who, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if asked < 5 || asked > 10 {
			t.Errorf("asked %d times in 10 s", asked)
		}
		claims = nil // revoked
		revoked := time.Now()
		for {
			if _, err := cache.identify(t.Context(), hash); err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(revoked); took > 2*generationAge {
			t.Errorf("a revoked token worked for %s", took)
		}

		for n := range 3 * generationSize {
			_, _ = cache.identify(t.Context(), [32]byte{2, byte(n), byte(n >> 8), byte(n >> 16)})
		}
		if n := len(cache.now) + len(cache.yesterday); n > 2*generationSize {
			t.Errorf("%d answers are kept", n)
		}
	})
}
