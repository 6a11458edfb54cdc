package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"gocloud.dev/blob"
)

// folder is the folder of a file:// bucket. Its root follows no link that leads outside.
type folder struct{ *os.Root }

// temporaryPattern matches the names under which gocloud's file store writes.
var temporaryPattern = regexp.MustCompile(`\.[0-9a-f]+\.tmp$`)

// write stores a file under a key that is free. The root follows no link that leads outside, so neither does the writer that comes after.
func (f *folder) write(ctx context.Context, to *blob.Bucket, key string, from *source, options *blob.WriterOptions) error {
	if err := f.MkdirAll(path.Dir(key), 0o700); err != nil {
		return err //nolint:wrapcheck // the caller names the object
	}
	if there, err := f.Lstat(key); err == nil && !there.Mode().IsRegular() {
		return syscall.EISDIR // or a link, over which nothing of ours is stored
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from.failed = cancel
	var file *os.File
	options.BeforeWrite = func(as func(any) bool) error {
		as(&file)
		return nil
	}
	w, err := to.NewWriter(ctx, key, options)
	if err != nil {
		return err //nolint:wrapcheck // the caller names the object
	}
	if _, err = io.Copy(w, from); err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = f.commit(key, w)
	} else {
		cancel() // a writer whose context is cancelled stores nothing at its Close
		_ = w.Close()
	}
	if err != nil {
		_ = os.Remove(file.Name()) // the writer leaves it when its Close fails
	}
	return err
}

// commit makes a written object visible unless its key is taken.
//
// The file store looks whether the name is free and then renames over it. Between the two another process could store its own, so both steps happen
// under a lock of the folder, which the kernel lifts when its holder dies.
func (f *folder) commit(key string, w *blob.Writer) error {
	lock, err := f.Open(".")
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
	if err := w.Close(); err != nil {
		return err //nolint:wrapcheck // the caller names the object
	}
	return f.sync(path.Dir(key))
}

// sync puts the names of a new object and of its folders on disk: without it a power cut could take away the
// file of a task that the database has as Complete.
func (f *folder) sync(name string) error {
	for {
		dir, err := f.Open(name)
		if err != nil {
			return fmt.Errorf("open the folder: %w", err)
		}
		if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
			return fmt.Errorf("sync the folder: %w", err)
		}
		if name == "." {
			return nil
		}
		name = path.Dir(name)
	}
}

// holds returns nil when something is there which no link places outside.
func (f *folder) holds(key string) error {
	_, err := f.Stat(key)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("storage key %s: %w", key, err)
	}
	return nil
}

// page returns the objects after a key, in the order of keys.
func (f *folder) page(ctx context.Context, after string) (objects []Info, next string, err error) {
	err = f.walk(ctx, ".", func(key string, entry fs.DirEntry) error {
		if entry.IsDir() {
			if key += "/"; key < after && !strings.HasPrefix(after, key) {
				return fs.SkipDir
			}
			return nil
		}
		// What has no clean key is not ours: above all the temporary files of writers, killed ones too.
		if _, err := CleanKey(key); err != nil || !entry.Type().IsRegular() || key <= after {
			return nil //nolint:nilerr // passed over
		}
		if len(objects) == pageSize {
			next = objects[pageSize-1].Key
			return fs.SkipAll
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err //nolint:wrapcheck // names the file
		}
		objects = append(objects, Info{Key: key, Size: info.Size(), ModTime: info.ModTime().UTC()})
		return nil
	})
	return objects, next, err
}

// removeAll deletes a folder with all that is in it, and returns how many objects there were.
func (f *folder) removeAll(ctx context.Context, name string) (removed int, err error) {
	err = f.walk(ctx, name, func(key string, entry fs.DirEntry) error {
		if _, err := CleanKey(key); err == nil && entry.Type().IsRegular() {
			removed++
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return removed, f.RemoveAll(name) //nolint:wrapcheck // names the folder
}

// removeUnfinished deletes the temporary files that were last written before a time, and folders that have been empty since then.
func (f *folder) removeUnfinished(ctx context.Context, before time.Time) (removed int, err error) {
	var folders []string
	old := func(entry fs.DirEntry) bool {
		info, err := entry.Info()
		return err == nil && info.ModTime().Before(before)
	}
	err = f.walk(ctx, ".", func(key string, entry fs.DirEntry) error {
		switch {
		case entry.IsDir():
			if old(entry) {
				folders = append(folders, key)
			}
		case entry.Type().IsRegular() && temporaryPattern.MatchString(key) && old(entry):
			if err := f.Remove(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err //nolint:wrapcheck // names the file
			}
			removed++
		}
		return nil
	})
	for _, name := range slices.Backward(folders) { // inner ones first
		_ = f.Remove(name) // fails unless it is empty
	}
	return removed, err
}

// walk visits everything in a folder, in the order of keys, until ctx ends. visit returns [fs.SkipDir] to leave a folder out and [fs.SkipAll] to end.
func (f *folder) walk(ctx context.Context, name string, visit func(key string, entry fs.DirEntry) error) error {
	err := f.walkIn(ctx, name, visit)
	if errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

func (f *folder) walkIn(ctx context.Context, name string, visit func(key string, entry fs.DirEntry) error) error {
	if err := ctx.Err(); err != nil {
		return err //nolint:wrapcheck // the caller's own
	}
	entries, err := fs.ReadDir(f.FS(), name)
	if errors.Is(err, fs.ErrNotExist) && name != "." {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err //nolint:wrapcheck // names the folder
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(orderOf(a), orderOf(b)) })
	for _, entry := range entries {
		key := path.Join(name, entry.Name())
		err := visit(key, entry)
		if err == nil && entry.IsDir() {
			err = f.walkIn(ctx, key, visit)
		}
		if err != nil && !errors.Is(err, fs.SkipDir) {
			return err
		}
	}
	return nil
}

// orderOf is what the keys of an entry, or in it, begin with.
func orderOf(entry fs.DirEntry) string {
	if entry.IsDir() {
		return entry.Name() + "/"
	}
	return entry.Name()
}
