package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
)

// signedUploadFor is how long an address to upload to works, as at Supabase.
const signedUploadFor = 2 * time.Hour

// upload stores a new file (POST), or one in the place of another (PUT, or POST with x-upsert).
func (d *Door) upload(c echo.Context) error {
	key, err := keyOf(c, "/object")
	if err != nil {
		return err
	}
	create := c.Request().Method == http.MethodPost && c.Request().Header.Get("X-Upsert") != "true"
	if err := mayWrite(identity.Of(c), key, create); err != nil {
		return err
	}
	most := d.maxUpload
	if storage.OfTask(key) {
		most = maxOutputBytes
	}
	if create {
		if err := d.free(c.Request().Context(), key); err != nil {
			return err
		}
	}
	in, err := d.receive(c, most)
	if err != nil {
		return err
	}
	if err := d.store(c.Request().Context(), key, in, create); err != nil {
		return err
	}
	return stored(c, key)
}

func stored(c echo.Context, key string) error {
	return c.JSON(http.StatusOK, map[string]string{"Id": idOf(key).String(), "Key": bucketName + "/" + key})
}

// signUpload makes an address to which one file may be uploaded, relative to /storage/v1.
func (d *Door) signUpload(c echo.Context) error {
	key, err := keyOf(c, "/object/upload/sign")
	if err != nil {
		return err
	}
	g := grant{
		Method: http.MethodPut, Key: key, Expires: time.Now().Add(signedUploadFor).Unix(), MaxBytes: d.maxUpload,
		Replace: c.Request().Header.Get("X-Upsert") == "true",
	}
	if storage.OfTask(key) {
		g.MaxBytes = maxOutputBytes
	}
	ctx := c.Request().Context()
	if who := identity.Of(c); who.Role == identity.Worker {
		if err := d.mayStoreOutput(ctx, who, key); err != nil {
			return err
		}
		g.Replace = false // a worker may say what storage-js always says
	} else if err := mayWrite(who, key, !g.Replace); err != nil {
		return err
	}
	if !g.Replace {
		if err := d.free(ctx, key); err != nil {
			return err
		}
	}
	token := d.signer.sign(g)
	return c.JSON(http.StatusOK, map[string]string{"url": pathSignedUpload + key + "?token=" + token, "token": token})
}

// signedUpload stores the file of somebody who has a token for it. A repeat with the same bytes succeeds: the answer before may have been lost.
func (d *Door) signedUpload(c echo.Context) error {
	key, err := keyOf(c, "/object/upload/sign")
	if err != nil {
		return err
	}
	g, err := d.signer.check(c.QueryParam("token"), http.MethodPut, key)
	if err != nil {
		return err
	}
	in, err := d.receive(c, g.MaxBytes)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	sum := &sum{Hash: sha256.New()}
	in.file = io.TeeReader(in.file, sum)
	err = storage.ErrNotFound
	if !g.Replace {
		_, err = d.bucket.Stat(ctx, key)
	}
	switch {
	case err == nil:
		err = storage.ErrExists
	case errors.Is(err, storage.ErrNotFound):
		err = d.store(ctx, key, in, !g.Replace)
	}
	if !g.Replace && errors.Is(err, storage.ErrExists) {
		err = d.sameAsStored(ctx, key, in, sum)
	}
	if err != nil {
		return err
	}
	return stored(c, key)
}

// sum counts and hashes what goes by.
type sum struct {
	hash.Hash

	bytes int64
}

// Write implements [io.Writer].
func (s *sum) Write(p []byte) (int, error) {
	s.bytes += int64(len(p))
	return s.Hash.Write(p) //nolint:wrapcheck // a hash has no errors
}

// sameAsStored reads the rest of a file whose key is taken, and returns nil when it is the one that is stored.
func (d *Door) sameAsStored(ctx context.Context, key string, in *incoming, given *sum) error {
	if _, err := io.Copy(io.Discard, io.LimitReader(in.file, in.most+1-given.bytes)); err != nil {
		return bodyError(err)
	}
	object, err := d.bucket.Get(ctx, key)
	if err != nil {
		return err
	}
	defer object.Close()
	if object.Size != given.bytes {
		return errTaken
	}
	is := sha256.New()
	if _, err := io.Copy(is, object); err != nil {
		return fmt.Errorf("comparing with what is stored: %w", err)
	}
	if !bytes.Equal(is.Sum(nil), given.Sum(nil)) {
		return errTaken
	}
	return nil
}

// store puts a file into the bucket, counted in its owner's quota. The order makes every crash harmless: the row is reserved, the bytes are stored, the
// row says so. A gateway that dies on the way leaves its reservation, which counts until Repair has looked what is stored.
func (d *Door) store(ctx context.Context, key string, in *incoming, create bool) error {
	if err := in.check(); err != nil {
		return err
	}
	takes := d.patience.deadline(in.most)
	ctx, cancel := context.WithTimeout(ctx, takes)
	defer cancel()
	if storage.OfTask(key) { // what workers make is not counted
		_, err := d.bucket.PutUpload(ctx, key, in.file, in.most)
		return in.putError(err)
	}
	r, err := d.begin(ctx, key, in.least, in.most, takes)
	if err != nil {
		return err
	}
	put := d.bucket.Replace
	if create {
		put = d.bucket.PutUpload
	}
	info, err := put(ctx, key, in.file, r.granted)
	if err != nil {
		d.abandon(ctx, r)
		if errors.Is(err, storage.ErrTooLarge) && r.granted < in.most {
			return &taskdb.Error{
				Code: taskdb.ErrStorageQuota.Code, Message: taskdb.ErrStorageQuota.Message,
				Detail: fmt.Sprintf("%d bytes are free, and this has more.", r.granted), Hint: "Delete files that are not needed.",
			}
		}
		return in.putError(err)
	}
	_ = in.rest() // the file has come whole, and is kept
	return d.finish(ctx, r, &info.Size, in.about)
}

// putError tells what went wrong with the sender from what went wrong with the store.
func (in *incoming) putError(err error) error {
	if err != nil && in.line.broken != nil {
		return bodyError(in.line.broken)
	}
	return err
}

// transfer is what copy and move take.
type transfer struct {
	BucketID          string `json:"bucketId"`          //nolint:tagliatelle // Supabase's
	SourceKey         string `json:"sourceKey"`         //nolint:tagliatelle // Supabase's
	DestinationKey    string `json:"destinationKey"`    //nolint:tagliatelle // Supabase's
	DestinationBucket string `json:"destinationBucket"` //nolint:tagliatelle // Supabase's
}

// copy stores a file a second time.
func (d *Door) copy(c echo.Context) error {
	ask, err := decode[transfer](c)
	if err == nil {
		err = d.transfer(c, ask)
	}
	if err != nil {
		return err
	}
	return stored(c, ask.DestinationKey)
}

// move stores a file under another key, and deletes it under the first.
func (d *Door) move(c echo.Context) error {
	ask, err := decode[transfer](c)
	if err != nil {
		return err
	}
	who := identity.Of(c)
	if !mayRead(who, ask.SourceKey) {
		return errNoObject
	}
	if err := mayWrite(who, ask.SourceKey, false); err != nil {
		return err
	}
	if err := d.transfer(c, ask); err != nil {
		return err
	}
	if err := d.erase(c.Request().Context(), ask.SourceKey); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]string{
		"message": "Successfully moved", "Id": idOf(ask.DestinationKey).String(), "Key": bucketName + "/" + ask.DestinationKey,
	})
}

func (d *Door) transfer(c echo.Context, ask transfer) error {
	if err := inBucket(ask.BucketID); err != nil {
		return err
	}
	if ask.DestinationBucket != "" && ask.DestinationBucket != bucketName {
		return errNoBucket
	}
	for _, key := range []string{ask.SourceKey, ask.DestinationKey} {
		if _, err := storage.CleanKey(key); err != nil {
			return err
		}
	}
	who, create := identity.Of(c), c.Request().Header.Get("X-Upsert") != "true"
	if !mayRead(who, ask.SourceKey) {
		return errNoObject
	}
	if err := mayWrite(who, ask.DestinationKey, create); err != nil {
		return err
	}
	if ask.SourceKey == ask.DestinationKey {
		return errTaken
	}
	ctx := c.Request().Context()
	if create {
		if err := d.free(ctx, ask.DestinationKey); err != nil {
			return err
		}
	}
	object, err := d.bucket.Get(ctx, ask.SourceKey)
	if err != nil {
		return err
	}
	defer object.Close()
	rows, err := d.describe(ctx, ask.SourceKey)
	if err != nil {
		return err
	}
	with := rows[ask.SourceKey].about
	with.contentType = object.ContentType
	_ = http.NewResponseController(c.Response()).SetWriteDeadline(time.Now().Add(d.patience.deadline(object.Size) + callTimeout))
	return d.store(ctx, ask.DestinationKey, &incoming{
		file: object, least: object.Size, most: object.Size, about: with, rest: func() error { return nil },
	}, create)
}

// free returns nil when there is no object of this key.
func (d *Door) free(ctx context.Context, key string) error {
	_, err := d.bucket.Stat(ctx, key)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil
	case err == nil:
		return errTaken
	}
	return err
}
