package storage

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

const (
	maxKeyBytes = 1024 // the limit of S3, the narrowest of the services

	// A file name ends at 255 bytes, and a write needs up to 21 of them for its temporary name.
	maxSegmentBytes = 200

	// publicPath is where workers and browsers expect public files: Supabase's path and the bucket of its clients.
	publicPath = "/storage/v1/object/public/image_uploads/"

	previews = "previews/" // begins the names of an attempt's previews
)

// segmentPattern is what Supabase Storage allows in a key, less the question mark, and no leading dot: so neither ".."
// nor a percent sign, backslash, NUL or anything outside ASCII can be in a key.
var segmentPattern = regexp.MustCompile(`^[A-Za-z0-9_!\-*'() &$@=;:+,][A-Za-z0-9_!\-.*'() &$@=;:+,]*$`)

// OutputKey names a file that a worker made in one attempt at a task: "{owner}/tasks/{task}/{attempt}/{name}".
// The name may have folders ("thumbnails/1.jpg"); [CleanKey] and with it every method of [Bucket] refuses a bad one.
func OutputKey(owner, task uuid.UUID, attempt int, name string) string {
	return owner.String() + "/tasks/" + task.String() + "/" + strconv.Itoa(attempt) + "/" + name
}

// PreviewKey names a picture of what one attempt at a task has not finished, the number-th: "{owner}/tasks/{task}/{attempt}/previews/{number}.jpg".
func PreviewKey(owner, task uuid.UUID, attempt, number int) string {
	return OutputKey(owner, task, attempt, previews+strconv.Itoa(number)+".jpg")
}

// OutputFolder returns what [OutputKey] puts before the name, without the slash: "{owner}/tasks/{task}/{attempt}"; for a [PreviewKey] with "/previews"
// at the end. It answers false for other keys.
func OutputFolder(key string) (folder string, ok bool) {
	parts := strings.SplitN(key, "/", 5)
	if len(parts) < 5 || parts[4] == "" {
		return "", false
	}
	owner, errOwner := uuid.Parse(parts[0])
	task, errTask := uuid.Parse(parts[2])
	attempt, errAttempt := strconv.Atoi(parts[3])
	if errOwner != nil || errTask != nil || errAttempt != nil || key != OutputKey(owner, task, attempt, parts[4]) {
		return "", false
	}
	folder = strings.Join(parts[:4], "/")
	if strings.HasPrefix(parts[4], previews) {
		folder += "/" + strings.TrimSuffix(previews, "/")
	}
	return folder, true
}

// OfTask says whether a key is "{owner}/tasks" or below it: there workers store, and nothing is ever replaced.
func OfTask(key string) bool {
	_, rest, _ := strings.Cut(key, "/")
	second, _, _ := strings.Cut(rest, "/")
	return strings.EqualFold(second, "tasks") // case counts for nothing on some file systems
}

// UploadKey names a file that a user uploaded: "{owner}/uploads/{name}".
// [CleanKey] and with it every method of [Bucket] refuses a bad name.
func UploadKey(owner uuid.UUID, name string) string {
	return owner.String() + "/uploads/" + name
}

// CleanKey returns the key as it is when it names a place inside the bucket, else an error that is [ErrKey].
//
// A key is made of segments between single slashes, 1,024 bytes at most. A segment has 1 to 200 ASCII letters, digits
// and characters of "_!-.*'() &$@=;:+,", and doesn't begin with a dot. Percent signs are refused, so there is no
// encoded form to miss, and so are names the file store keeps for itself (".attrs", ".tmp", "__0x").
func CleanKey(key string) (string, error) {
	switch {
	case key == "":
		return "", fmt.Errorf("%w: it is empty", ErrKey)
	case len(key) > maxKeyBytes:
		return "", fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrKey, len(key), maxKeyBytes)
	case strings.Contains(key, "__0x"):
		return "", fmt.Errorf("%w: %q holds the reserved text \"__0x\"", ErrKey, key)
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch {
		case len(segment) > maxSegmentBytes:
			return "", fmt.Errorf("%w: a segment has %d bytes, the limit is %d", ErrKey, len(segment), maxSegmentBytes)
		case !segmentPattern.MatchString(segment):
			return "", fmt.Errorf("%w: %q has a segment that is empty, begins with a dot or holds a character that is not allowed",
				ErrKey, key)
		}
		// Case counts for nothing on some file systems.
		switch strings.ToLower(path.Ext(segment)) {
		case ".attrs", ".tmp":
			return "", fmt.Errorf("%w: %q has a segment with a reserved ending (.attrs, .tmp)", ErrKey, key)
		}
	}
	return key, nil
}

// URL returns the address at which a browser gets the object: "{base}/storage/v1/object/public/image_uploads/{key}".
// The base is the gateway's public URL; a path in it is kept.
func URL(base, key string) string {
	return strings.TrimRight(base, "/") + publicPath + strings.TrimPrefix((&url.URL{Path: "/" + key}).EscapedPath(), "/")
}

// KeyFromURL takes the key out of an address made by [URL] for the same base. A query or fragment is ignored. It
// answers false for any other address, and where the key is not one that [CleanKey] takes.
func KeyFromURL(base, address string) (key string, ok bool) {
	b, err := url.Parse(strings.TrimRight(base, "/"))
	if err != nil || b.Host == "" {
		return "", false
	}
	u, err := url.Parse(address)
	if err != nil || u.User != nil || !strings.EqualFold(u.Scheme, b.Scheme) || !strings.EqualFold(u.Host, b.Host) {
		return "", false
	}
	escaped, ok := strings.CutPrefix(u.EscapedPath(), b.EscapedPath()+publicPath)
	if !ok {
		return "", false
	}
	return KeyFromPath(escaped)
}

// KeyFromPath takes the key out of the end of an address, as it stands there. It answers false where the key is not one that [CleanKey] takes.
func KeyFromPath(escaped string) (key string, ok bool) {
	// Slashes and dots have one spelling, so that no two readers can disagree about where a segment ends.
	lower := strings.ToLower(escaped)
	if strings.Contains(lower, "%2f") || strings.Contains(lower, "%2e") {
		return "", false
	}
	key, err := url.PathUnescape(escaped)
	if err != nil {
		return "", false
	}
	key, err = CleanKey(key)
	return key, err == nil
}
