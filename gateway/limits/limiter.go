package limits

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	maxBuckets  = 65_536           // known at once; of more, those that were not used for long are forgotten
	idleAfter   = time.Minute      // a bucket that nobody asks for is forgotten, with what is in hand of it
	tidyEvery   = 30 * time.Second // looking for those
	purgeEvery  = 5 * time.Minute  // and for those in the database
	maxWait     = time.Second      // of a request for its token
	maxWaiting  = 32               // requests, per bucket
	drawTimeout = 3 * time.Second  // a request needs the database besides, so that a slow one must not let it pass unlimited
	awayFor     = 2 * time.Second  // a database that did not answer is left alone
)

// Settings say what is allowed.
type Settings struct {
	Key     Rate // of each key; an owner's keys together have twice that
	Address Rate // of each address, an IPv6 network of 64 bits being one
}

// Limiter admits requests or refuses them. It is safe for concurrent use.
type Limiter struct {
	settings Settings
	pool     *pgxpool.Pool
	log      *slog.Logger
	stop     context.CancelFunc
	running  sync.WaitGroup

	mu        sync.Mutex
	buckets   map[bucketID]*bucket
	awayUntil time.Time // the database did not answer
}

// bucketID names a bucket: a hash, since addresses and e-mails need not lie about in a table.
type bucketID [16]byte

// bucket is what this gateway knows of a bucket.
type bucket struct {
	inHand     int           // taken and not used
	fullAt     time.Time     // the shared bucket
	emptyUntil time.Time     // there is nothing to take before
	drawing    chan struct{} // closed when the batch is there that is being taken; nil when none is
	waiting    int           // requests
	used       time.Time
}

// New makes a limiter whose buckets lie in the database of the pool. It works in the background until it is closed.
func New(pool *pgxpool.Pool, settings Settings, log *slog.Logger) *Limiter {
	ctx, stop := context.WithCancel(context.Background())
	l := &Limiter{settings: settings, pool: pool, log: log, stop: stop, buckets: map[bucketID]*bucket{}}
	l.running.Go(func() { l.tidy(ctx) })
	return l
}

// Close ends what works in the background. To be called when no more requests come, and before the pool is closed.
func (l *Limiter) Close() {
	l.stop()
	l.running.Wait()
}

// take takes one token out of the bucket of that kind and name. When there is none, and none comes soon enough to wait for, it says how long that takes.
func (l *Limiter) take(ctx context.Context, kind, name string, rate Rate) (retryAfter time.Duration, ok bool) {
	if rate.unlimited() {
		return 0, true
	}
	hash := sha256.Sum256([]byte(kind + ":" + name))
	id := bucketID(hash[:])
	patience := time.Now().Add(maxWait)
	for {
		now := time.Now()
		l.mu.Lock()
		b := l.bucket(id, now)
		if b.inHand > 0 {
			b.inHand--
			if batch := rate.Batch(); batch > 1 && b.inHand <= batch/4 && !now.Before(b.emptyUntil) {
				l.draw(id, b, rate)
			}
			l.mu.Unlock()
			return 0, true
		}
		var come <-chan struct{}
		var timer *time.Timer
		if wait := b.emptyUntil.Sub(now); wait > 0 {
			if b.waiting >= maxWaiting || now.Add(wait).After(patience) {
				l.mu.Unlock()
				return wait, false
			}
			timer = time.NewTimer(wait)
		} else {
			come = l.draw(id, b, rate)
		}
		b.waiting++
		l.mu.Unlock()

		var err error
		if timer != nil {
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				err = ctx.Err()
			}
		} else {
			select {
			case <-come:
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		l.mu.Lock()
		b.waiting--
		l.mu.Unlock()
		if err != nil {
			return maxWait, false // nobody reads the answer
		}
	}
}

// bucket finds or makes a bucket. The lock is held.
func (l *Limiter) bucket(id bucketID, now time.Time) *bucket {
	b, known := l.buckets[id]
	if !known {
		if len(l.buckets) >= maxBuckets {
			l.forgetOne()
		}
		b = &bucket{}
		l.buckets[id] = b
	}
	b.used = now
	return b
}

// forgetOne makes room: of a few buckets it forgets the one that was not used for longest. The lock is held.
func (l *Limiter) forgetOne() {
	const few = 8
	var oldest bucketID
	var used time.Time
	seen := 0
	for id, b := range l.buckets { // in no order
		if b.idle() && (used.IsZero() || b.used.Before(used)) {
			oldest, used = id, b.used
		}
		if seen++; seen >= few && !used.IsZero() {
			break
		}
	}
	delete(l.buckets, oldest)
}

// idle reports whether nobody waits for the bucket.
func (b *bucket) idle() bool { return b.drawing == nil && b.waiting == 0 }

// draw begins to take a batch, unless that is under way, and returns what is closed when it is there. The lock is held.
func (l *Limiter) draw(id bucketID, b *bucket, rate Rate) <-chan struct{} {
	if b.drawing != nil {
		return b.drawing
	}
	come := make(chan struct{})
	b.drawing = come
	away := time.Now().Before(l.awayUntil)
	l.running.Go(func() {
		granted, busy, err := 0, time.Duration(0), errAway
		if !away {
			granted, busy, err = l.drawShared(id, rate)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		now := time.Now()
		if err != nil {
			granted, busy = rate.take(rate.Batch(), b.fullAt.Sub(now))
			l.noteAway(now, err)
		}
		b.inHand += granted
		b.fullAt = now.Add(busy)
		if granted == 0 {
			b.emptyUntil = now.Add(rate.pause(busy))
		}
		b.drawing = nil
		close(come)
	})
	return come
}

// drawShared takes a batch from the database.
func (l *Limiter) drawShared(id bucketID, rate Rate) (granted int, busy time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), drawTimeout)
	defer cancel()
	var seconds float64
	err = l.pool.QueryRow(ctx, "select granted, busy from auth.take_tokens($1, $2, $3, $4)", id[:], rate.PerSecond, rate.Burst, rate.Batch()).
		Scan(&granted, &seconds)
	return granted, time.Duration(seconds * float64(time.Second)), err
}
