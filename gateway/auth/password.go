package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/semaphore"
)

const (
	// bcryptCost is GoTrue's, and the least that OWASP's Password Storage Cheat Sheet allows: some 50 ms of one core. bcrypt rather than argon2id: it needs
	// 4 KiB and not 19 MiB, so that a flood of sign-ins costs time only, and the hashes of an existing Supabase project can be taken over.
	bcryptCost = 10
	// bcrypt looks at no more than 72 bytes.
	maxPasswordBytes = 72
	minPasswordBytes = 8
	// hashPatience is how long a request waits for its turn to hash.
	hashPatience = 3 * time.Second
)

// passwords hashes and compares, on half of the cores at most, so that a flood of sign-ins leaves the others to everybody else.
type passwords struct {
	turn  *semaphore.Weighted
	dummy []byte // compared against where there is no user, so that this takes the same time
}

func newPasswords() (*passwords, error) {
	dummy, err := bcrypt.GenerateFromPassword([]byte("nobody's password"), bcryptCost)
	if err != nil {
		return nil, fmt.Errorf("hashing: %w", err)
	}
	return &passwords{semaphore.NewWeighted(max(1, int64(runtime.GOMAXPROCS(0)/2))), dummy}, nil
}

// wait takes a turn, which the caller gives back, or refuses when too many wait already.
func (p *passwords) wait(ctx context.Context) error {
	patience, cancel := context.WithTimeout(ctx, hashPatience)
	defer cancel()
	if err := p.turn.Acquire(patience, 1); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("waiting to hash: %w", ctx.Err())
		}
		return errBusy
	}
	return nil
}

// check compares a password with a hash; "" is nobody's hash, for which the answer is no after the same time.
func (p *passwords) check(ctx context.Context, hash, password string) (bool, error) {
	if err := p.wait(ctx); err != nil {
		return false, err
	}
	defer p.turn.Release(1)
	known := []byte(hash)
	if hash == "" {
		known = p.dummy
	}
	err := bcrypt.CompareHashAndPassword(known, []byte(password))
	if err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, fmt.Errorf("comparing a password: %w", err)
	}
	return err == nil && hash != "" && len(password) <= maxPasswordBytes, nil
}

// hash hashes a new password, which must be good enough.
func (p *passwords) hash(ctx context.Context, password string) (string, error) {
	if len(password) < minPasswordBytes || len(password) > maxPasswordBytes {
		weak := refuse(http.StatusUnprocessableEntity, "weak_password",
			fmt.Sprintf("Password should be at least %d characters and at most %d bytes long.", minPasswordBytes, maxPasswordBytes))
		weak.Weak = &weakness{Reasons: []string{"length"}}
		return "", weak
	}
	if err := p.wait(ctx); err != nil {
		return "", err
	}
	defer p.turn.Release(1)
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcryptCost)
	if err != nil {
		return "", fmt.Errorf("hashing: %w", err)
	}
	return string(hash), nil
}
