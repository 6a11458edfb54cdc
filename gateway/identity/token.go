package identity

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tokenPattern is what public.create_access_token makes.
var tokenPattern = regexp.MustCompile(`^dr_(worker|user)_[0-9a-f]{64}$`)

const (
	// generationAge is half of how long an answer is believed: a token that is revoked works for 2 s at most.
	generationAge = time.Second
	// generationSize bounds each half of the cache; what does not fit is asked for each time.
	generationSize = 10_000
)

// tokenCache remembers for a moment whom tokens belong to, and which are nobody's. Two generations of answers follow each other: dropping the older
// one is all the upkeep it needs.
type tokenCache struct {
	lookUp func(ctx context.Context, hash []byte) (json.RawMessage, error)

	mu             sync.Mutex
	began          time.Time // of the generation now
	now, yesterday map[[sha256.Size]byte]tokenAnswer
}

type tokenAnswer struct {
	who   Identity
	known bool
}

// lookUp asks the database for the claims of a token; nil is nobody.
func lookUp(pool *pgxpool.Pool) func(ctx context.Context, hash []byte) (json.RawMessage, error) {
	return func(ctx context.Context, hash []byte) (claims json.RawMessage, err error) {
		if err := pool.QueryRow(ctx, "select auth.identify_token($1)", hash).Scan(&claims); err != nil {
			return nil, fmt.Errorf("looking up a token: %w", err)
		}
		return claims, nil
	}
}

func newTokenCache(lookUp func(context.Context, []byte) (json.RawMessage, error)) *tokenCache {
	return &tokenCache{lookUp: lookUp, now: map[[sha256.Size]byte]tokenAnswer{}}
}

// identify finds out whose token has the hash. Unknown, expired and revoked tokens are the same refusal.
func (t *tokenCache) identify(ctx context.Context, hash [sha256.Size]byte) (Identity, error) {
	asked := time.Now()
	answer, found := t.get(hash, asked)
	if !found {
		claims, err := t.lookUp(ctx, hash[:])
		if err != nil {
			return Identity{}, err
		}
		if claims != nil {
			if answer.who, err = ofToken(claims); err != nil {
				return Identity{}, err
			}
			answer.known = true
		}
		t.put(hash, answer, asked)
	}
	if !answer.known {
		return Identity{}, refuse(ErrInvalid, errors.New("no such token"))
	}
	return answer.who, nil
}

func ofToken(claims json.RawMessage) (Identity, error) {
	var said struct {
		Role  Role      `json:"role"`
		Sub   uuid.UUID `json:"sub"`
		Token uuid.UUID `json:"token_id"`
	}
	if err := json.Unmarshal(claims, &said); err != nil {
		return Identity{}, fmt.Errorf("reading the claims of a token: %w", err)
	}
	return Identity{Role: said.Role, Subject: said.Sub, Token: said.Token, Claims: claims, Key: "token:" + said.Token.String()}, nil
}

func (t *tokenCache) get(hash [sha256.Size]byte, now time.Time) (tokenAnswer, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	answer, found := t.now[hash]
	if !found {
		answer, found = t.yesterday[hash]
	}
	return answer, found
}

// put remembers an answer, unless so much time has passed since it was asked for that it could be believed for too long.
func (t *tokenCache) put(hash [sha256.Size]byte, answer tokenAnswer, asked time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.turn(time.Now()); len(t.now) < generationSize && !asked.Before(t.began) {
		t.now[hash] = answer
	}
}

// turn drops what is too old. An answer of the generation now is up to generationAge old, of the one before twice that.
func (t *tokenCache) turn(now time.Time) {
	switch age := now.Sub(t.began); {
	case age < generationAge:
		return
	case age < 2*generationAge:
		t.yesterday = t.now
	default:
		t.yesterday = nil
	}
	t.now, t.began = map[[sha256.Size]byte]tokenAnswer{}, now
}
