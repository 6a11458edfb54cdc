package localpg

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func testFinder(t *testing.T) *finder {
	t.Helper()
	user, err := serverAccount("")
	if err != nil {
		t.Fatal(err)
	}
	f := newFinder(FindOptions{}, user)
	f.override = ""
	f.npm = func(context.Context) (string, error) { return "", errors.New("npm was tried") }
	f.apt = nil
	return f
}

func TestWrongOverrideIsAnError(t *testing.T) {
	t.Parallel()
	f := testFinder(t)
	f.override = filepath.Join(t.TempDir(), "nothing here")
	_, err := f.find(t.Context())
	wantError(t, err, "DARKROOM_POSTGRES must name a folder with PostgreSQL's initdb and postgres", f.override)
}

func TestPathMayHoldOnlyASymbolicLink(t *testing.T) {
	t.Parallel()
	f := testFinder(t)
	want, err := Find(t.Context(), FindOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(want.Dir, "postgres"), filepath.Join(dir, "postgres")); err != nil {
		t.Fatal(err)
	}
	f.path, f.folders = []string{"", dir}, nil
	found, err := f.find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found != want {
		t.Errorf("got %+v, want %+v", found, want)
	}
}

// fakeInstallation makes a folder whose postgres only tells a version.
func fakeInstallation(t *testing.T, parent, version string) string {
	t.Helper()
	dir := filepath.Join(parent, version, "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + " (Fake)'\n"
	for _, program := range []string{"initdb", "postgres"} {
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestNewestPackagedVersionWinsAndOldOnesAreRefused(t *testing.T) {
	t.Parallel()
	parent := filepath.Dir(dataDir(t))
	for _, version := range []string{"9.6.24", "14.9", "16.2", "18beta1", "17.10"} {
		fakeInstallation(t, parent, version)
	}
	f := testFinder(t)
	f.path, f.folders = nil, []string{filepath.Join(parent, "*", "bin")}
	for major, want := range map[int]string{0: "18beta1", 16: "16.2"} {
		f.opts.Major = major
		if found, err := f.find(t.Context()); err != nil || found.Version != want {
			t.Errorf("major %d: got %q, %v; want %s", major, found.Version, err, want)
		}
	}
	f.opts.Major = 0
	f.override = filepath.Join(parent, "14.9", "bin")
	_, err := f.find(t.Context())
	wantError(t, err, "is PostgreSQL 14.9, older than 15")
}

func TestNothingFoundIsOneSentenceThatNamesACommand(t *testing.T) {
	t.Parallel()
	f := testFinder(t)
	f.path, f.folders = nil, nil
	f.apt = func(context.Context) error { return errors.New("apt was tried") }
	_, err := f.find(t.Context())
	wantError(t, err, "PostgreSQL 15 or newer was not found: install it with `", "install", "DARKROOM_POSTGRES", "npm was tried", "apt was tried")
}

func TestNPMPackageServes(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("npm is not installed")
	}
	bin, err := fetchNPM(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}

	f := testFinder(t)
	f.override = "npm"
	f.npm = func(context.Context) (string, error) { return bin, nil }
	found, err := f.find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found.Major != npmMajor {
		t.Errorf("found PostgreSQL %s, want %d", found.Version, npmMajor)
	}
	server := start(t, Config{Binaries: found})
	if got := query(t, server, "show server_version"); got != found.Version {
		t.Errorf("the server is %s, want %s", got, found.Version)
	}

	dir := dataDir(t)
	stop(t, start(t, Config{Dir: dir, Binaries: found}))
	if other, err := Find(t.Context(), FindOptions{}); err == nil && other.Major != npmMajor {
		_, err := Start(t.Context(), Config{Dir: dir, Binaries: other})
		wantError(t, err, "was made by PostgreSQL 18 and opens with no other major version")
	}
}

func TestEveryPinnedPlatformHasADigest(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{"linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"} {
		if !strings.HasPrefix(npmIntegrity(platform), "sha512-") {
			t.Errorf("%s has none", platform)
		}
	}
}
