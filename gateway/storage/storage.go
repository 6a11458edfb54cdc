package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

var (
	// ErrKey says that a key is not one; see [CleanKey].
	ErrKey = errors.New("not a storage key")
	// ErrExists says that the key is taken. What is stored there is unchanged.
	ErrExists = errors.New("the object already exists")
	// ErrNotFound says that there is no object of that key.
	ErrNotFound = errors.New("no such object")
	// ErrMediaType says that the bytes are none of the media types that may be stored.
	ErrMediaType = errors.New("the file is not of a type that may be stored here")
	// ErrInTheWay says that a folder can't hold the key: there is a folder of that name already, or a file where the key needs a folder.
	ErrInTheWay = errors.New("a file and a folder cannot have one name")
	// ErrTooLarge says that there were more bytes than allowed.
	ErrTooLarge = errors.New("the file is too large")
	// ErrFull says that the disk under a folder has no room left. Nothing was stored.
	ErrFull = errors.New("the storage is full")
)

const (
	pageSize = 1000 // the most that the services list at once

	// A writer to a service holds partBytes times (uploads+1) in memory.
	partBytes = 8 << 20
	uploads   = 2

	// abortTimeout is how long a write whose context has ended may still take.
	abortTimeout = 10 * time.Second

	takenTimeout = time.Second // between a key's refusal and its object's being seen

	unknownType = "application/octet-stream"

	// For services that serve their objects themselves.
	cacheForEver = "public, max-age=31536000, immutable"
	cacheAnHour  = "public, max-age=3600"
)

// Info describes an object.
type Info struct {
	// Key is where it is.
	Key string
	// Size is in bytes.
	Size int64
	// ContentType was decided from the bytes when the object was stored, not from what their sender said. [Bucket.Page] leaves it empty. What came
	// into a bucket by other ways and isn't of a type of [UploadType] has "application/octet-stream".
	ContentType string
	// ModTime is when it was stored.
	ModTime time.Time
	// ETag is quoted, as in HTTP. [Bucket.Page] leaves it empty.
	ETag string
}

// Bucket holds the objects. It is safe for concurrent use, also by several processes.
type Bucket struct {
	blob   *blob.Bucket
	folder *folder // of a file:// bucket, else nil
	url    string  // as errors say it, such as s3://bucket; empty for a folder
	name   string  // of the service's bucket
	prefix string  // before all keys in the service's bucket
}

// Close releases the bucket.
func (b *Bucket) Close() error {
	err := b.blob.Close()
	if b.folder != nil {
		err = errors.Join(err, b.folder.Close())
	}
	if err != nil {
		return fmt.Errorf("close storage: %w", err)
	}
	return nil
}

// Put stores what it reads until EOF under a key that is free, and returns when that is durable. Readers see the whole
// object or none; of one that could not be stored nothing stays. Its errors are [ErrKey], [ErrExists], [ErrMediaType] (it takes PNG, JPEG, WebP, MP4
// and WebM), [ErrTooLarge] (more than maxBytes), [ErrInTheWay], [ErrFull], those of the reader, and those of the store.
func (b *Bucket) Put(ctx context.Context, key string, r io.Reader, maxBytes int64) (Info, error) {
	return b.put(ctx, key, r, maxBytes, outputType, true)
}

// PutUpload is [Bucket.Put] for what came from outside: it takes all types of [UploadType].
func (b *Bucket) PutUpload(ctx context.Context, key string, r io.Reader, maxBytes int64) (Info, error) {
	return b.put(ctx, key, r, maxBytes, UploadType, true)
}

// Replace is [Bucket.PutUpload] under a key that may be taken: then the new object takes the place of the old one, and readers see either whole.
// A key of a task is refused with [ErrExists]: what is stored there never changes.
func (b *Bucket) Replace(ctx context.Context, key string, r io.Reader, maxBytes int64) (Info, error) {
	if OfTask(key) {
		return Info{}, fmt.Errorf("replace %s: %w", key, ErrExists)
	}
	return b.put(ctx, key, r, maxBytes, UploadType, false)
}

func (b *Bucket) put(ctx context.Context, key string, r io.Reader, maxBytes int64, typeOf func([]byte) string, create bool) (Info, error) {
	key, err := CleanKey(key)
	if err != nil {
		return Info{}, err
	}
	head := make([]byte, sniffBytes)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return Info{}, fmt.Errorf("store %s: read: %w", key, err)
	}
	head = head[:n]
	mediaType := typeOf(head)
	if mediaType == "" {
		return Info{}, fmt.Errorf("store %s: %w", key, ErrMediaType)
	}
	options := &blob.WriterOptions{
		ContentType: mediaType, ContentDisposition: "inline", CacheControl: cacheForEver,
		IfNotExist: create, BufferSize: partBytes, MaxConcurrency: uploads,
	}
	if !OfTask(key) {
		options.CacheControl = cacheAnHour // it may be replaced
	}
	if err := b.write(ctx, key, io.MultiReader(bytes.NewReader(head), r), maxBytes, options); err != nil {
		err = writeError(err)
		if errors.Is(err, ErrExists) {
			// Azure also refuses a key of which it holds unfinished parts, and then our caller must not take the object for stored.
			if missing := b.awaitTaken(context.WithoutCancel(ctx), key); missing != nil {
				return Info{}, fmt.Errorf("store %s: the key is refused as taken: %w", key, missing)
			}
		}
		return Info{}, fmt.Errorf("store %s: %w", key, err)
	}
	return b.Stat(context.WithoutCancel(ctx), key)
}

// awaitTaken returns nil when there is an object. S3 servers refuse a key a moment before they show who has taken it.
func (b *Bucket) awaitTaken(ctx context.Context, key string) error {
	for deadline := time.Now().Add(takenTimeout); ; time.Sleep(takenTimeout / 20) {
		_, err := b.Stat(ctx, key)
		if !errors.Is(err, ErrNotFound) || time.Now().After(deadline) {
			return err
		}
	}
}

func (b *Bucket) write(ctx context.Context, key string, r io.Reader, maxBytes int64, options *blob.WriterOptions) error {
	if b.folder != nil {
		return b.folder.write(ctx, b.blob, key, &source{ctx: ctx, r: r, left: maxBytes}, options)
	}

	// What happens to a broken upload differs. S3's library takes back the parts that it has sent, and needs a live context for that; the others would
	// take the end of a broken file for its end, unless the context has ended.
	uploading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	from := &source{ctx: ctx, r: r, left: maxBytes, failed: cancel}
	if b.blob.As(new(*s3.Client)) {
		from.failed = func() {}
	}
	defer context.AfterFunc(ctx, func() { time.AfterFunc(abortTimeout, cancel) })()
	err := b.blob.Upload(uploading, key, from, options)
	if from.err != nil {
		return from.err
	}
	return err //nolint:wrapcheck // the caller names the object
}

// writeError turns the store's errors into ours where we have a name for them.
func writeError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.EEXIST), errors.Is(err, syscall.ENOTEMPTY):
		return ErrInTheWay
	case gcerrors.Code(err) == gcerrors.FailedPrecondition:
		return ErrExists
	}
	return discreet(err)
}

// readError does the same for reading.
func readError(err error) error {
	if gcerrors.Code(err) == gcerrors.NotFound {
		return ErrNotFound
	}
	return discreet(err)
}

// Get opens an object for reading from its start, and can seek, which suits [net/http.ServeContent]. The context must live as long as the object is
// read. Its errors are [ErrKey], [ErrNotFound] and those of the store.
func (b *Bucket) Get(ctx context.Context, key string) (*Object, error) {
	info, err := b.attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	if b.folder == nil {
		return &Object{ReadSeekCloser: &remote{ctx: ctx, blob: b.blob, key: key, size: info.Size}, Info: info}, nil
	}
	r, err := b.blob.NewReader(ctx, key, nil)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, readError(err))
	}
	info.ContentType, err = typeOf(r)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", key, err), r.Close())
	}
	return &Object{ReadSeekCloser: r, Info: info}, nil
}

// Stat describes an object. Its errors are those of [Bucket.Get].
func (b *Bucket) Stat(ctx context.Context, key string) (Info, error) {
	object, err := b.Get(ctx, key)
	if err != nil {
		return Info{}, err
	}
	if err := object.Close(); err != nil {
		return Info{}, fmt.Errorf("read %s: %w", key, err)
	}
	return object.Info, nil
}

// Delete removes an object. Its errors are those of [Bucket.Get].
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := b.within(key); err != nil {
		return err
	}
	if err := b.blob.Delete(ctx, key); err != nil {
		return fmt.Errorf("delete %s: %w", key, readError(err))
	}
	return nil
}

// Page lists up to 1,000 objects in the order of their keys, without their content type and ETag. The first page has the token "", each answer has that
// of the next, and "" at the end. A page may be empty though others follow.
func (b *Bucket) Page(ctx context.Context, token string) (objects []Info, next string, err error) {
	if b.folder != nil {
		objects, next, err = b.folder.page(ctx, token)
		if err != nil {
			return nil, "", fmt.Errorf("list the storage: %w", err)
		}
		return objects, next, nil
	}
	at := blob.FirstPageToken
	if token != "" {
		at = []byte(token)
	}
	page, after, err := b.blob.ListPage(ctx, at, pageSize, nil)
	if err != nil {
		return nil, "", fmt.Errorf("list the storage: %w", discreet(err))
	}
	for _, object := range page {
		if _, err := CleanKey(object.Key); err == nil { // else it is not ours
			objects = append(objects, Info{Key: object.Key, Size: object.Size, ModTime: object.ModTime.UTC()})
		}
	}
	return objects, string(after), nil
}

// RemoveFolder deletes all objects whose key begins with the folder and a slash, unfinished ones too where the store shows them, and returns how many
// objects there were. A folder in which nothing is, is no error; one that is no key is [ErrKey]. What is stored while it runs may stay.
func (b *Bucket) RemoveFolder(ctx context.Context, folder string) (removed int, err error) {
	if folder, err = CleanKey(folder); err != nil {
		return 0, err
	}
	if b.folder != nil {
		removed, err = b.folder.removeAll(ctx, folder)
	} else {
		removed, err = b.removeBelow(ctx, folder+"/")
	}
	if err != nil {
		return removed, fmt.Errorf("delete a folder: %w", discreet(err))
	}
	return removed, nil
}

func (b *Bucket) removeBelow(ctx context.Context, prefix string) (removed int, err error) {
	var client *s3.Client
	if b.blob.As(&client) {
		if _, err := b.abortUploads(ctx, client, b.prefix+prefix, time.Now().Add(time.Hour)); err != nil {
			return 0, err
		}
	}
	for token := blob.FirstPageToken; len(token) > 0; {
		page, next, err := b.blob.ListPage(ctx, token, pageSize, &blob.ListOptions{Prefix: prefix})
		if err != nil {
			return removed, err //nolint:wrapcheck // the caller says what was tried
		}
		for _, object := range page {
			if err := b.blob.Delete(ctx, object.Key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
				return removed, err //nolint:wrapcheck // the caller says what was tried
			}
			removed++
		}
		token = next
	}
	return removed, nil
}

// RemoveUnfinished deletes what writers left that were killed before a time: temporary files in a folder, parts of uploads on S3. Nobody sees these, but
// they take room. Google and Azure delete theirs themselves, after a week. It returns how many there were.
func (b *Bucket) RemoveUnfinished(ctx context.Context, before time.Time) (removed int, err error) {
	var client *s3.Client
	switch {
	case b.folder != nil:
		removed, err = b.folder.removeUnfinished(ctx, before)
	case b.blob.As(&client):
		removed, err = b.abortUploads(ctx, client, b.prefix, before)
	}
	if err != nil {
		return removed, fmt.Errorf("remove unfinished objects: %w", discreet(err))
	}
	return removed, nil
}

func (b *Bucket) abortUploads(ctx context.Context, client *s3.Client, prefix string, before time.Time) (removed int, err error) {
	pages := s3.NewListMultipartUploadsPaginator(client, &s3.ListMultipartUploadsInput{Bucket: &b.name, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return removed, err //nolint:wrapcheck // the caller says what was tried
		}
		for _, upload := range page.Uploads {
			if upload.Initiated == nil || !upload.Initiated.Before(before) {
				continue
			}
			_, err := client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: upload.Key, UploadId: upload.UploadId})
			if err != nil {
				return removed, err //nolint:wrapcheck // the caller says what was tried
			}
			removed++
		}
	}
	return removed, nil
}

// attributes asks the store about an object. Of a file it doesn't know the media type.
func (b *Bucket) attributes(ctx context.Context, key string) (Info, error) {
	if err := b.within(key); err != nil {
		return Info{}, err
	}
	a, err := b.blob.Attributes(ctx, key)
	if err != nil {
		return Info{}, fmt.Errorf("read %s: %w", key, readError(err))
	}
	if !servable(a.ContentType) {
		a.ContentType = unknownType
	}
	return Info{Key: key, Size: a.Size, ContentType: a.ContentType, ModTime: a.ModTime.UTC(), ETag: a.ETag}, nil
}

// within refuses what is no key and, in a folder, what isn't there or lies outside.
func (b *Bucket) within(key string) error {
	if _, err := CleanKey(key); err != nil || b.folder == nil {
		return err
	}
	return b.folder.holds(key)
}

// typeOf reads the media type from the first bytes and goes back to the start.
func typeOf(r io.ReadSeeker) (string, error) {
	head := make([]byte, sniffBytes)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("read the first bytes: %w", err)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("seek: %w", err)
	}
	if mediaType := UploadType(head[:n]); mediaType != "" {
		return mediaType, nil
	}
	return unknownType, nil
}
