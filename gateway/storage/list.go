package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"syscall"

	"gocloud.dev/blob"
)

// Entry is an object or a folder, directly in a folder.
type Entry struct {
	Name   string // without what is before it
	Folder bool
	Info   // of an object, without its content type and ETag
}

// List returns what lies directly in a folder, in the order of names, but no more than the first max entries; more says that there are others.
// The folder is a key, or "" for the whole bucket. A folder that does not exist is empty, and one that holds no object does not exist.
func (b *Bucket) List(ctx context.Context, folder string, most int) (entries []Entry, more bool, err error) {
	if folder != "" {
		if _, err := CleanKey(folder); err != nil {
			return nil, false, err
		}
	}
	if b.folder != nil {
		entries, more, err = b.folder.list(ctx, folder, most)
	} else {
		entries, more, err = b.listCloud(ctx, folder, most)
	}
	if err != nil {
		return nil, false, fmt.Errorf("list a folder of the storage: %w", discreet(err))
	}
	return entries, more, nil
}

func (b *Bucket) listCloud(ctx context.Context, folder string, most int) (entries []Entry, more bool, err error) {
	options := &blob.ListOptions{Delimiter: "/"}
	if folder != "" {
		options.Prefix = folder + "/"
	}
	for page := b.blob.List(options); ; {
		object, err := page.Next(ctx)
		if errors.Is(err, io.EOF) {
			return entries, false, nil
		}
		if err != nil {
			return nil, false, err //nolint:wrapcheck // the caller says what was tried
		}
		key := path.Clean(object.Key)
		if _, err := CleanKey(key); err != nil {
			continue // not ours
		}
		if len(entries) == most {
			return entries, true, nil
		}
		entries = append(entries, Entry{Name: path.Base(key), Folder: object.IsDir, Info: Info{Key: key, Size: object.Size, ModTime: object.ModTime.UTC()}})
	}
}

func (f *folder) list(ctx context.Context, name string, most int) (entries []Entry, more bool, err error) {
	if name == "" {
		name = "."
	}
	if info, err := f.Stat(name); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !info.IsDir() {
		return nil, false, nil
	}
	err = f.walk(ctx, name, func(key string, entry fs.DirEntry) error {
		if _, err := CleanKey(key); err != nil || !entry.IsDir() && !entry.Type().IsRegular() {
			return leave(entry)
		}
		if entry.IsDir() {
			if holds, err := f.holdsObjects(ctx, key); !holds {
				return errors.Join(err, fs.SkipDir)
			}
		}
		if more = len(entries) == most; more {
			return fs.SkipAll
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err //nolint:wrapcheck // names the file
		}
		entries = append(entries, Entry{Name: entry.Name(), Folder: entry.IsDir(), Info: Info{Key: key, Size: info.Size(), ModTime: info.ModTime().UTC()}})
		return leave(entry)
	})
	return entries, more, err
}

// leave is what a visitor returns that does not want to see what lies in a folder.
func leave(entry fs.DirEntry) error {
	if entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// holdsObjects says whether there is an object anywhere in a folder.
func (f *folder) holdsObjects(ctx context.Context, name string) (found bool, err error) {
	err = f.walk(ctx, name, func(key string, entry fs.DirEntry) error {
		if _, err := CleanKey(key); err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // passed over, or a folder
		}
		found = true
		return fs.SkipAll
	})
	return found, err
}
