package limits

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var errAway = errors.New("the database did not answer a moment ago")

// noteAway has the database left alone for a moment. The lock is held.
func (l *Limiter) noteAway(now time.Time, err error) {
	if errors.Is(err, errAway) {
		return
	}
	if now.After(l.awayUntil) {
		l.log.Warn("the limits of rate hold for this gateway alone: the database does not answer", "error", err)
	}
	l.awayUntil = now.Add(awayFor)
}

// tidy forgets idle buckets, here and in the database, until ctx ends.
func (l *Limiter) tidy(ctx context.Context) {
	here, shared := time.NewTicker(tidyEvery), time.NewTicker(purgeEvery)
	defer here.Stop()
	defer shared.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-here.C:
			l.forget(time.Now().Add(-idleAfter))
		case <-shared.C:
			if err := l.purge(ctx); err != nil && ctx.Err() == nil {
				l.log.WarnContext(ctx, "buckets of limits of rate were not purged", "error", err)
			}
		}
	}
}

// forget forgets the buckets that were last used before that.
func (l *Limiter) forget(before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, b := range l.buckets {
		if b.idle() && b.used.Before(before) {
			delete(l.buckets, id)
		}
	}
}

// purge forgets the buckets in the database that are full.
func (l *Limiter) purge(ctx context.Context) error {
	const atOnce = 10_000
	for dropped := atOnce; dropped == atOnce; {
		if err := l.pool.QueryRow(ctx, "select auth.drop_full_buckets($1)", atOnce).Scan(&dropped); err != nil {
			return fmt.Errorf("purging buckets: %w", err)
		}
	}
	return nil
}
