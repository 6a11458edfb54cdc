package objects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
)

const (
	dbTimeout     = 10 * time.Second
	repairEvery   = time.Minute
	recountFirst  = 10 * time.Minute
	recountEvery  = 24 * time.Hour
	recountMinAge = time.Hour // a younger object may be on its way to its row
)

// patience is how long an upload may take, and after that how long its reservation stays.
type patience struct {
	idle           time.Duration // between two pieces of the body
	start          time.Duration // of every upload, beside what its size takes
	bytesPerSecond int64         // the slowest sender that is served
	margin         time.Duration // the store's last word comes within it
}

// deadline is how long an upload of so many bytes may take.
func (p patience) deadline(size int64) time.Duration {
	return p.start + time.Duration(size/p.bytesPerSecond)*time.Second
}

// reservation is an object that nobody else stores or deletes, and room for it in its owner's quota.
type reservation struct {
	key     string
	id      uuid.UUID
	granted int64 // bytes
}

// isBusy says that somebody else has the object reserved.
func isBusy(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == taskdb.ErrObjectBusy.Code
}

// about is what a row knows beside the size.
type about struct {
	contentType, cacheControl string
	metadata                  json.RawMessage
}

// begin reserves an object. SQL says when that is refused: sql/auth/begin_upload.sql.
func (d *Door) begin(ctx context.Context, key string, least, most int64, takes time.Duration) (reservation, error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	r := reservation{key: key}
	err := d.db.Pool().QueryRow(ctx, "select reservation, granted from auth.begin_upload($1, $2, $3, $4)", key, least, most, takes+d.patience.margin).Scan(&r.id, &r.granted)
	if err != nil {
		return r, fmt.Errorf("reserving %s: %w", key, err)
	}
	return r, nil
}

// finish says how many bytes are stored now, nil for no object, and ends a reservation.
func (d *Door) finish(ctx context.Context, r reservation, stored *int64, with about) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dbTimeout)
	defer cancel()
	ours := false
	err := d.db.Pool().QueryRow(ctx, "select auth.finish_upload($1, $2, $3, nullif($4, ''), nullif($5, ''), $6)",
		r.key, r.id, stored, with.contentType, with.cacheControl, with.metadata).Scan(&ours)
	if err != nil {
		return fmt.Errorf("settling %s: %w", r.key, err)
	}
	if !ours {
		// Whoever took it over has looked what is stored, or the next recount does.
		d.log.WarnContext(ctx, "a reservation had lapsed before its upload was settled", "key", r.key)
	}
	return nil
}

// settle ends a reservation by what the store holds: after a failure, or for somebody who is gone.
func (d *Door) settle(ctx context.Context, r reservation) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dbTimeout)
	defer cancel()
	info, err := d.bucket.Stat(ctx, r.key)
	switch {
	case err == nil:
		return d.finish(ctx, r, &info.Size, about{contentType: info.ContentType})
	case errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrKey):
		return d.finish(ctx, r, nil, about{})
	}
	return err
}

// abandon is settle after an error that its caller already has. What it cannot settle lapses.
func (d *Door) abandon(ctx context.Context, r reservation) {
	if err := d.settle(ctx, r); err != nil {
		d.log.WarnContext(ctx, "an upload that failed is not settled yet", "error", err)
	}
}

// Run keeps storage and rows equal until ctx ends. Each minute it settles reservations of gateways that were killed, and once a day it counts objects
// that no row counts. Any number of gateways may do so at once.
func (d *Door) Run(ctx context.Context) {
	recount := time.Now().Add(recountFirst)
	tick := time.NewTicker(repairEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := d.Repair(ctx)
		if time.Now().After(recount) && err == nil {
			err = d.Recount(ctx, time.Now().Add(-recountMinAge))
			recount = time.Now().Add(recountEvery)
		}
		if err != nil && ctx.Err() == nil {
			d.log.ErrorContext(ctx, "keeping the account of uploads", "error", err)
		}
	}
}

// Repair settles reservations that have lapsed, by what the store holds.
func (d *Door) Repair(ctx context.Context) error {
	for {
		rows, err := d.db.Pool().Query(ctx, "select object_key, reservation from auth.lapsed_uploads()")
		if err != nil {
			return fmt.Errorf("lapsed uploads: %w", err)
		}
		lapsed, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r reservation, err error) {
			return r, row.Scan(&r.key, &r.id)
		})
		if err != nil {
			return fmt.Errorf("lapsed uploads: %w", err)
		}
		for _, r := range lapsed {
			if err := d.settle(ctx, r); err != nil {
				return err
			}
			d.log.InfoContext(ctx, "settled an upload whose gateway was gone", "key", r.key)
		}
		if len(lapsed) == 0 {
			return nil
		}
	}
}

// Recount finds objects that were last written before a time and that no row counts, and counts them.
func (d *Door) Recount(ctx context.Context, before time.Time) error {
	for token := ""; ; {
		page, next, err := d.bucket.Page(ctx, token)
		if err != nil {
			return err
		}
		keys := []string{}
		for _, object := range page {
			if !storage.OfTask(object.Key) && object.ModTime.Before(before) {
				keys = append(keys, object.Key)
			}
		}
		rows, err := d.db.Pool().Query(ctx, "select key from auth.uncounted_uploads($1) as key", keys)
		if err != nil {
			return fmt.Errorf("uncounted uploads: %w", err)
		}
		uncounted, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("uncounted uploads: %w", err)
		}
		for _, key := range uncounted {
			r, err := d.begin(ctx, key, 0, 0, 0)
			if err == nil {
				err = d.settle(ctx, r)
			}
			if err != nil && !isBusy(err) {
				return err
			}
		}
		if token = next; token == "" {
			return nil
		}
	}
}

// known is what the rows say of objects, by key.
type known struct {
	about

	created, updated time.Time
}

func (d *Door) describe(ctx context.Context, keys ...string) (map[string]known, error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	rows, err := d.db.Pool().Query(ctx, `
		select object_key, coalesce(content_type, ''), coalesce(cache_control, ''), coalesce(metadata, '{}'), created_at, updated_at
		from auth.describe_uploads($1)`, keys)
	if err != nil {
		return nil, fmt.Errorf("describing uploads: %w", err)
	}
	found := map[string]known{}
	var key string
	var k known
	_, err = pgx.ForEachRow(rows, []any{&key, &k.contentType, &k.cacheControl, &k.metadata, &k.created, &k.updated}, func() error {
		found[key] = k
		k.metadata = nil // the next row has its own
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("describing uploads: %w", err)
	}
	return found, nil
}
