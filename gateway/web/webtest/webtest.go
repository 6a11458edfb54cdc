// Package webtest gives tests the npm packages of a lock file, and a copy of the web workspace to run things in. It writes into the cache and into
// folders of the test, never into the sources.
package webtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"darkroom/sql/localpg/install"
)

// Skip ends the test for want of a program; where that variable is set, the test fails.
func Skip(t *testing.T, required, reason string) {
	t.Helper()
	if os.Getenv(required) != "" {
		t.Fatalf("%s, and %s is set", reason, required)
	}
	t.Skip(reason)
}

// installing lets the tests of a program fetch one after the other, so that the second finds what the first fetched.
var installing sync.Mutex

// Install returns a folder with these files (package.json and package-lock.json among them) and the packages that they name, at the versions and digests
// of the lock file. The first call has npm fetch them into the cache. Without Node it skips the test, unless DARKROOM_REQUIRE_NODE is set.
func Install(t *testing.T, name string, files map[string][]byte) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			Skip(t, "DARKROOM_REQUIRE_NODE", program+" is not installed")
		}
	}
	cache, err := install.CacheDir()
	must(t, err)
	digest := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		digest.Write([]byte(path + "\x00"))
		digest.Write(files[path])
	}
	installing.Lock()
	defer installing.Unlock()
	folder := filepath.Join(cache, "npm", name+"-"+hex.EncodeToString(digest.Sum(nil)[:8]))
	if _, err := os.Stat(folder); err == nil {
		return folder
	}
	must(t, os.MkdirAll(filepath.Dir(folder), 0o755))          //nolint:gosec // what lies beside it is run by other users
	temp, err := os.MkdirTemp(filepath.Dir(folder), "fetch-*") //nolint:usetesting // on the same disk as the folder, for the rename
	must(t, err)
	defer os.RemoveAll(temp)
	for path, content := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(temp, path)), 0o750))
		must(t, os.WriteFile(filepath.Join(temp, path), content, 0o600))
	}
	Run(t, temp, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	// Another test program may have been first: its folder is as good.
	if err := os.Rename(temp, folder); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return folder
}

// oldest is the oldest Node that the workspace's tools run on.
var oldest = [2]int{20, 19}

// Workspace returns a copy of the web workspace, whose sources are in the folder root, with its packages installed. Where Node is missing or older than
// its tools take, it skips the test, unless DARKROOM_REQUIRE_NODE is set.
func Workspace(t *testing.T, root string) string {
	t.Helper()
	if said, err := exec.CommandContext(t.Context(), "node", "--version").Output(); err == nil { // else Install says what is missing
		var version [2]int
		_, err := fmt.Sscanf(string(said), "v%d.%d", &version[0], &version[1])
		if err != nil || slices.Compare(version[:], oldest[:]) < 0 {
			Skip(t, "DARKROOM_REQUIRE_NODE", fmt.Sprintf("Node %d.%d or newer is needed, not %s", oldest[0], oldest[1], said))
		}
	}
	sources := map[string][]byte{}
	must(t, fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "dist"):
			return fs.SkipDir
		case entry.Type().IsRegular():
			sources[path], err = os.ReadFile(filepath.Join(root, path))
		}
		return err //nolint:wrapcheck // ends the test
	}))
	manifests := maps.Clone(sources)
	maps.DeleteFunc(manifests, func(path string, _ []byte) bool {
		return !slices.Contains([]string{"package.json", "package-lock.json", ".npmrc"}, filepath.Base(path))
	})
	installed := Install(t, "web", manifests)

	folder := t.TempDir()
	for path, content := range sources {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(folder, path)), 0o750))
		must(t, os.WriteFile(filepath.Join(folder, path), content, 0o600))
	}
	modules, err := filepath.Glob(filepath.Join(installed, "*", "node_modules"))
	must(t, err)
	for _, modules := range append(modules, filepath.Join(installed, "node_modules")) {
		path, err := filepath.Rel(installed, modules)
		must(t, err)
		link(t, installed, modules, folder, path)
	}
	return folder
}

// link fills a folder of modules with links to the installed ones. Those that lead to packages of the workspace lead to the copy's.
func link(t *testing.T, installed, modules, folder, path string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(folder, path), 0o750))
	entries, err := os.ReadDir(modules)
	must(t, err)
	for _, entry := range entries {
		from, to := filepath.Join(modules, entry.Name()), filepath.Join(path, entry.Name())
		if entry.IsDir() && strings.HasPrefix(entry.Name(), "@") {
			link(t, installed, from, folder, to)
			continue
		}
		if entry.Type()&fs.ModeSymlink != 0 {
			target, err := filepath.EvalSymlinks(from)
			must(t, err)
			inside, err := filepath.Rel(installed, target)
			must(t, err)
			from = filepath.Join(folder, inside)
		}
		must(t, os.Symlink(from, filepath.Join(folder, to)))
	}
}

// Run runs a program in a folder and returns what it said. Its failure is the test's.
func Run(t *testing.T, folder, program string, args ...string) string {
	t.Helper()
	return RunWith(t, nil, folder, program, args...)
}

// RunWith is Run with more environment, as NAME=value.
func RunWith(t *testing.T, environment []string, folder, program string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), program, args...)
	command.Dir = folder
	command.Env = append(append(os.Environ(), "NO_COLOR=1", "CI=1"), environment...)
	said, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, said)
	}
	return string(said)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
