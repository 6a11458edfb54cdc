package objects

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
	"darkroom/gateway/storage"
)

const (
	maxMany   = 1000   // objects in one request
	maxListed = 10_000 // entries of a folder that can be listed
)

// file is an object, or a folder, as storage-js knows it. A folder has a name only.
type file struct {
	Name           string         `json:"name"`
	ID             *uuid.UUID     `json:"id"`
	BucketID       string         `json:"bucket_id,omitempty"`
	UpdatedAt      *time.Time     `json:"updated_at"`
	CreatedAt      *time.Time     `json:"created_at"`
	LastAccessedAt *time.Time     `json:"last_accessed_at"`
	Metadata       map[string]any `json:"metadata"`
}

// listing is what list takes.
type listing struct {
	Prefix string `json:"prefix"`
	Search string `json:"search"`
	Limit  *int   `json:"limit"`
	Offset int    `json:"offset"`
	SortBy struct {
		Column string `json:"column"`
		Order  string `json:"order"`
	} `json:"sortBy"` //nolint:tagliatelle // Supabase's
}

func (l *listing) check() error {
	if l.Limit == nil {
		l.Limit = new(100)
	}
	if *l.Limit < 1 || *l.Limit > maxMany || l.Offset < 0 {
		return errRequest.because("limit must be from 1 to %d, offset not negative.", maxMany)
	}
	if !slices.Contains([]string{"", "name", "created_at", "updated_at", "last_accessed_at"}, l.SortBy.Column) ||
		!slices.Contains([]string{"", "asc", "desc"}, l.SortBy.Order) {
		return errRequest.because("sortBy takes the columns name, created_at, updated_at and last_accessed_at, and asc or desc.")
	}
	l.Prefix = strings.Trim(l.Prefix, "/")
	if l.Prefix != "" {
		if _, err := storage.CleanKey(l.Prefix); err != nil {
			return errRequest.because("The prefix is no folder.")
		}
	}
	return nil
}

// list tells what lies directly in a folder: folders first. Users see below their own id; every other folder is empty for them.
func (d *Door) list(c echo.Context) error {
	if err := inBucket(c.Param("bucket")); err != nil {
		return err
	}
	ask, err := decode[listing](c)
	if err == nil {
		err = ask.check()
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), callTimeout)
	defer cancel()
	files, err := d.entries(ctx, identity.Of(c), ask.Prefix)
	if err != nil {
		return err
	}
	search := strings.ToLower(ask.Search)
	files = slices.DeleteFunc(files, func(f file) bool { return !strings.HasPrefix(strings.ToLower(f.Name), search) })
	sortFiles(files, ask.SortBy.Column, ask.SortBy.Order == "desc")
	files = files[min(ask.Offset, len(files)):]
	return c.JSON(http.StatusOK, files[:min(*ask.Limit, len(files))])
}

// entries are what somebody may see of a folder.
func (d *Door) entries(ctx context.Context, who identity.Identity, folder string) ([]file, error) {
	files := []file{}
	if who.Role == identity.Authenticated && folder == "" {
		own, _, err := d.bucket.List(ctx, who.Subject.String(), 1)
		if len(own) > 0 {
			files = append(files, file{Name: who.Subject.String()})
		}
		return files, err
	}
	if !mayRead(who, folder+"/") {
		return files, nil
	}
	entries, more, err := d.bucket.List(ctx, folder, maxListed)
	if err != nil {
		return nil, err
	}
	if more {
		return nil, problem.Refuse(problem.NotOffered, "This folder has too many entries to be listed: list one that lies deeper.")
	}
	keys := []string{}
	for _, entry := range entries {
		if !entry.Folder && !storage.OfTask(entry.Key) {
			keys = append(keys, entry.Key)
		}
	}
	rows := map[string]known{}
	if len(keys) > 0 {
		if rows, err = d.describe(ctx, keys...); err != nil {
			return nil, err
		}
	}
	for _, entry := range entries {
		if entry.Folder {
			files = append(files, file{Name: entry.Name})
			continue
		}
		row, found := rows[entry.Key]
		files = append(files, describeFile(entry.Name, entry.Info, row, found))
	}
	return files, nil
}

// describeFile tells of an object what storage-js expects. Of one that no row knows the type is told by the name.
func describeFile(name string, info storage.Info, row known, found bool) file {
	id := idOf(info.Key)
	contentType := row.contentType
	if contentType == "" {
		if contentType = mime.TypeByExtension(path.Ext(name)); contentType == "" {
			contentType = "application/octet-stream"
		}
	}
	created, updated := info.ModTime, info.ModTime
	if found {
		created, updated = row.created, row.updated
	}
	metadata := map[string]any{
		"size": info.Size, "contentLength": info.Size, "mimetype": contentType, "cacheControl": cachingFor(info.Key, row), "lastModified": info.ModTime, "httpStatusCode": http.StatusOK,
	}
	if info.ETag != "" {
		metadata["eTag"] = info.ETag
	}
	return file{Name: name, ID: &id, CreatedAt: &created, UpdatedAt: &updated, LastAccessedAt: &updated, Metadata: metadata}
}

// sortFiles puts folders first.
func sortFiles(files []file, column string, descending bool) {
	slices.SortStableFunc(files, func(a, b file) int {
		if folderA, folderB := a.ID == nil, b.ID == nil; folderA != folderB {
			if folderA {
				return -1
			}
			return 1
		}
		order := 0
		if a.ID != nil {
			switch column {
			case "created_at":
				order = a.CreatedAt.Compare(*b.CreatedAt)
			case "updated_at", "last_accessed_at":
				order = a.UpdatedAt.Compare(*b.UpdatedAt)
			}
		}
		if order == 0 {
			order = strings.Compare(a.Name, b.Name)
		}
		if descending {
			return -order
		}
		return order
	})
}

// target is an object to be removed: a path, or an object that has one. There are no versions.
type target string

// UnmarshalJSON implements [json.Unmarshaler].
func (t *target) UnmarshalJSON(data []byte) error {
	var object struct {
		Path string `json:"path"`
	}
	if err := json.Unmarshal(data, &object); err == nil {
		*t = target(object.Path)
		return nil
	}
	var text string
	err := json.Unmarshal(data, &text)
	*t = target(text)
	return err //nolint:wrapcheck // the caller says that the body has a wrong shape
}

// remove deletes up to 1,000 objects, and tells those that were there. What the caller may not see was not there.
func (d *Door) remove(c echo.Context) error {
	if err := inBucket(c.Param("bucket")); err != nil {
		return err
	}
	ask, err := decode[struct {
		Prefixes []target `json:"prefixes"`
	}](c)
	if err != nil {
		return err
	}
	if len(ask.Prefixes) > maxMany {
		return errRequest.because("At most %d paths at once.", maxMany)
	}
	who := identity.Of(c)
	keys := []string{}
	for _, one := range ask.Prefixes {
		key := string(one)
		if _, err := storage.CleanKey(key); err != nil || !mayRead(who, key) {
			continue
		}
		if err := mayWrite(who, key, false); err != nil {
			return err
		}
		keys = append(keys, key)
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), callTimeout)
	defer cancel()
	rows, err := d.describe(ctx, keys...)
	if err != nil {
		return err
	}
	removed := []file{}
	for _, key := range keys {
		info, err := d.bucket.Stat(ctx, key)
		if err == nil || errors.Is(err, storage.ErrNotFound) {
			err = d.erase(ctx, key)
		}
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		row, found := rows[key]
		gone := describeFile(key, info, row, found)
		gone.BucketID = bucketName
		removed = append(removed, gone)
	}
	return c.JSON(http.StatusOK, removed)
}

// removeOne deletes one object.
func (d *Door) removeOne(c echo.Context) error {
	key, err := d.readable(c, "/object")
	if err != nil {
		return err
	}
	if err := mayWrite(identity.Of(c), key, false); err != nil {
		return err
	}
	if err := d.erase(c.Request().Context(), key); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]string{"message": "Successfully deleted"})
}

// erase deletes an object and then its row, under a reservation. A row whose object is gone goes too.
func (d *Door) erase(ctx context.Context, key string) error {
	r, err := d.begin(ctx, key, 0, 0, dbTimeout)
	if err != nil {
		return err
	}
	deleting, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	gone := d.bucket.Delete(deleting, key)
	if gone != nil && !errors.Is(gone, storage.ErrNotFound) {
		d.abandon(ctx, r)
		return gone
	}
	return errors.Join(gone, d.finish(ctx, r, nil, about{}))
}
