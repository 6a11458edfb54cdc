package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // the file:// scheme
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
	ErrMediaType = errors.New("the file is not a PNG, JPEG or WebP image nor an MP4 or WebM video")
	// ErrTooLarge says that there were more bytes than allowed.
	ErrTooLarge = errors.New("the file is too large")
)

// Info describes an object.
type Info struct {
	// Key is where it is.
	Key string
	// Size is in bytes.
	Size int64
	// ContentType is decided from the bytes, not from what their sender said. [Bucket.List] leaves it empty, and a
	// file that came into a folder by other ways may have one that Put refuses or "application/octet-stream".
	ContentType string
	// ModTime is when it was stored.
	ModTime time.Time
	// ETag is quoted, as in HTTP. [Bucket.List] leaves it empty.
	ETag string
}

// Object is an object open for reading. The caller closes it.
type Object struct {
	io.ReadSeekCloser
	Info
}

// Bucket holds the objects. It is safe for concurrent use, also by several processes over one folder.
type Bucket struct {
	blob *blob.Bucket
	root *os.Root // the folder of a file:// bucket, else nil
}

// Open opens the bucket that a URL names, such as "file:///var/lib/darkroom/media". A missing folder is made, for this
// user only; "?dir_file_mode=0750" changes that. The caller closes the bucket.
func Open(ctx context.Context, bucketURL string) (*Bucket, error) {
	u, err := url.Parse(bucketURL)
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	if u.Scheme != "file" {
		opened, err := blob.OpenBucket(ctx, bucketURL)
		if err != nil {
			return nil, fmt.Errorf("open storage: %w", err)
		}
		return &Bucket{blob: opened}, nil
	}

	if u.Host != "" || !path.IsAbs(u.Path) {
		return nil, fmt.Errorf("open storage %q: a folder is written as file:///absolute/path", bucketURL)
	}
	query := u.Query()
	query.Set("create_dir", "1")
	// Temporary files stand beside their objects: a rename from another file system would fail.
	query.Set("no_tmp_dir", "1")
	// The media type is read from the bytes. A second file beside each object could be lost or half written.
	query.Set("metadata", "skip")
	if !query.Has("dir_file_mode") {
		query.Set("dir_file_mode", "0700")
	}
	u.RawQuery = query.Encode()
	opened, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	root, err := os.OpenRoot(u.Path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open storage: %w", err), opened.Close())
	}
	return &Bucket{blob: opened, root: root}, nil
}

// Close releases the bucket.
func (b *Bucket) Close() error {
	err := b.blob.Close()
	if b.root != nil {
		err = errors.Join(err, b.root.Close())
	}
	if err != nil {
		return fmt.Errorf("close storage: %w", err)
	}
	return nil
}

// Put stores what it reads until EOF under a key that is free, and returns when it is on disk. Readers see the whole
// object or none. Its errors are [ErrKey], [ErrExists], [ErrMediaType], [ErrTooLarge] (more than maxBytes), those of
// the reader, and those of the store.
func (b *Bucket) Put(ctx context.Context, key string, r io.Reader, maxBytes int64) (Info, error) {
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
	mediaType := MediaType(head)
	if !storable(mediaType) {
		return Info{}, fmt.Errorf("store %s: %w", key, ErrMediaType)
	}
	if b.root != nil {
		// The root follows no link that leads outside, so neither does the write that comes after.
		if err := b.root.MkdirAll(path.Dir(key), 0o700); err != nil {
			return Info{}, fmt.Errorf("store %s: %w", key, err)
		}
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var file *os.File
	w, err := b.blob.NewWriter(ctx, key, &blob.WriterOptions{
		ContentType: mediaType,
		IfNotExist:  true,
		BeforeWrite: func(as func(any) bool) error {
			as(&file) // stays nil when the bucket is no folder
			return nil
		},
	})
	if err != nil {
		return Info{}, fmt.Errorf("store %s: %w", key, err)
	}
	size, err := io.Copy(w, io.LimitReader(io.MultiReader(bytes.NewReader(head), r), maxBytes+1))
	if err == nil && size > maxBytes {
		err = fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, maxBytes)
	}
	if err == nil && file != nil {
		err = file.Sync()
	}
	if err != nil {
		cancel() // a writer whose context is cancelled stores nothing at its Close
		_ = w.Close()
		return Info{}, fmt.Errorf("store %s: %w", key, err)
	}
	if err := b.commit(key, w); err != nil {
		return Info{}, fmt.Errorf("store %s: %w", key, err)
	}
	return b.Stat(context.WithoutCancel(ctx), key)
}

// commit makes a written object visible unless its key is taken.
func (b *Bucket) commit(key string, w *blob.Writer) error {
	if b.root == nil {
		return existsError(w.Close())
	}
	// The file store looks whether the name is free and then renames over it. Between the two another process could
	// store its own, so both steps happen under a lock of the folder, which the kernel lifts when its holder dies.
	lock, err := b.root.Open(".")
	if err != nil {
		return errors.Join(err, w.Close())
	}
	defer lock.Close()
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("lock the folder: %w", err)
	}
	if err := existsError(w.Close()); err != nil {
		return err
	}
	return b.syncFolders(path.Dir(key))
}

// existsError names the refusal of a taken key, and passes anything else on.
func existsError(err error) error {
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return ErrExists
	}
	return err
}

// syncFolders puts the names of a new object and of its folders on disk: without it a power cut could take away the
// file of a task that the database has as Complete.
func (b *Bucket) syncFolders(folder string) error {
	for {
		f, err := b.root.Open(folder)
		if err != nil {
			return fmt.Errorf("open the folder: %w", err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("sync the folder: %w", err)
		}
		if folder == "." {
			return nil
		}
		folder = path.Dir(folder)
	}
}

// Get opens an object for reading from its start, and can seek, which suits [net/http.ServeContent]. Its errors are
// [ErrKey], [ErrNotFound] and those of the store.
func (b *Bucket) Get(ctx context.Context, key string) (*Object, error) {
	info, err := b.attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	r, err := b.blob.NewReader(ctx, key, nil)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, notFoundError(err))
	}
	if b.root != nil {
		info.ContentType, err = typeOf(r)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: %w", key, err), r.Close())
		}
	}
	return &Object{ReadSeekCloser: r, Info: info}, nil
}

// Stat describes an object. Its errors are those of [Bucket.Get].
func (b *Bucket) Stat(ctx context.Context, key string) (Info, error) {
	if b.root == nil {
		return b.attributes(ctx, key)
	}
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
		return fmt.Errorf("delete %s: %w", key, notFoundError(err))
	}
	return nil
}

// List yields the objects under a prefix in the order of their keys, without their content type and ETag. The prefix is
// empty or a key that ends with a slash. An error ends the sequence. In a folder each 1,000 objects cost one walk.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if prefix != "" {
			folder, ok := strings.CutSuffix(prefix, "/")
			if !ok {
				yield(Info{}, fmt.Errorf("list %q: %w: a prefix ends with a slash", prefix, ErrKey))
				return
			}
			if err := b.within(folder); err != nil {
				if !errors.Is(err, ErrNotFound) {
					yield(Info{}, err)
				}
				return
			}
		}
		objects := b.blob.List(&blob.ListOptions{Prefix: prefix})
		for {
			object, err := objects.Next(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Info{}, fmt.Errorf("list %q: %w", prefix, err))
				return
			}
			// What has no clean key is not ours: above all the temporary files of writers, killed ones too.
			var file os.FileInfo
			if _, err := CleanKey(object.Key); err != nil || object.As(&file) && !file.Mode().IsRegular() {
				continue
			}
			if !yield(Info{Key: object.Key, Size: object.Size, ModTime: object.ModTime}, nil) {
				return
			}
		}
	}
}

// attributes asks the store about an object. Of a file it doesn't know the media type.
func (b *Bucket) attributes(ctx context.Context, key string) (Info, error) {
	if err := b.within(key); err != nil {
		return Info{}, err
	}
	a, err := b.blob.Attributes(ctx, key)
	if err != nil {
		return Info{}, fmt.Errorf("read %s: %w", key, notFoundError(err))
	}
	return Info{Key: key, Size: a.Size, ContentType: a.ContentType, ModTime: a.ModTime, ETag: a.ETag}, nil
}

// within checks the key and, in a folder, that something is there which no link places outside.
func (b *Bucket) within(key string) error {
	if _, err := CleanKey(key); err != nil {
		return err
	}
	if b.root == nil {
		return nil
	}
	_, err := b.root.Stat(key)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("storage key %s: %w", key, err)
	}
	return nil
}

// notFoundError names the answer that there is no such object, and passes anything else on.
func notFoundError(err error) error {
	if gcerrors.Code(err) == gcerrors.NotFound {
		return ErrNotFound
	}
	return err
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
	if mediaType := MediaType(head[:n]); mediaType != "" {
		return mediaType, nil
	}
	return "application/octet-stream", nil
}
