package limits

import (
	"context"
	"time"
)

// Take takes a token of a bucket of the tests.
func (l *Limiter) Take(ctx context.Context, name string, rate Rate) (retryAfter time.Duration, ok bool) {
	return l.take(ctx, "test", name, rate)
}

// Known is how many buckets the limiter remembers.
func (l *Limiter) Known() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.buckets)
}

// Forget and Purge are what is done in the background.
func (l *Limiter) Forget(before time.Time) { l.forget(before) }

// Purge drops what is full in the database.
func (l *Limiter) Purge(ctx context.Context) error { return l.purge(ctx) }

// MaxBuckets and DrawTimeout are constants of the limiter.
const (
	MaxBuckets  = maxBuckets
	DrawTimeout = drawTimeout
)
