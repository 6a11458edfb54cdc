package clients_test

import (
	"os"
	"path/filepath"
	"testing"

	"darkroom/gateway/web/webtest"
)

// packages returns a folder in which the client of testdata/<version> is installed with what it needs, at the versions and digests of the lock file.
func packages(t *testing.T, version string) string {
	t.Helper()
	files := map[string][]byte{}
	for _, name := range []string{"package.json", "package-lock.json"} {
		content, err := os.ReadFile(filepath.Join("testdata", version, name))
		must(t, err)
		files[name] = content
	}
	return webtest.Install(t, "clients-"+version, files)
}

// skip ends the test for want of a program; where that variable is set, the test fails.
func skip(t *testing.T, required, reason string) {
	t.Helper()
	webtest.Skip(t, required, reason)
}
