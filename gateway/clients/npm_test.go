package clients_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"darkroom/sql/localpg/install"
)

// packages returns a folder in which the client of testdata/<version> is installed with what it needs, at the versions and digests of the lock file.
// The first call has npm fetch it into the cache. Without Node it skips the test, unless DARKROOM_REQUIRE_NODE is set.
func packages(t *testing.T, version string) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			skip(t, "DARKROOM_REQUIRE_NODE", program+" is not installed")
		}
	}
	cache, err := install.CacheDir()
	must(t, err)
	digest := sha256.New()
	files := map[string][]byte{}
	for _, name := range []string{"package.json", "package-lock.json"} {
		content, err := os.ReadFile(filepath.Join("testdata", version, name))
		must(t, err)
		files[name] = content
		digest.Write(content)
	}
	folder := filepath.Join(cache, "npm", "clients-"+version+"-"+hex.EncodeToString(digest.Sum(nil)[:8]))
	if _, err := os.Stat(folder); err == nil {
		return folder
	}
	must(t, os.MkdirAll(filepath.Dir(folder), 0o755))
	temp, err := os.MkdirTemp(filepath.Dir(folder), "fetch-*") //nolint:usetesting // on the same disk as the folder, for the rename
	must(t, err)
	defer os.RemoveAll(temp)
	for name, content := range files {
		must(t, os.WriteFile(filepath.Join(temp, name), content, 0o644))
	}
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = temp
	if said, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, said)
	}
	// Another test program may have been first: its folder is as good.
	if err := os.Rename(temp, folder); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return folder
}

// skip ends the test for want of a program; where that variable is set, the test fails.
func skip(t *testing.T, required, reason string) {
	t.Helper()
	if os.Getenv(required) != "" {
		t.Fatalf("%s, and %s is set", reason, required)
	}
	t.Skip(reason)
}
