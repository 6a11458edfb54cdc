package web

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"darkroom/gateway/web/webtest"
)

// TestTheSourcesAreClean runs Biome, which formats and lints, and the type checker.
func TestTheSourcesAreClean(t *testing.T) {
	t.Parallel()
	webtest.Run(t, webtest.Workspace(t, "."), "npm", "run", "check")
}

// TestTheHooks runs the tests of the packages.
func TestTheHooks(t *testing.T) {
	t.Parallel()
	webtest.Run(t, webtest.Workspace(t, "."), "npm", "test")
}

// TestTheCommittedConsoleIsWhatIsBuilt builds it anew, in a folder of another name.
func TestTheCommittedConsoleIsWhatIsBuilt(t *testing.T) {
	t.Parallel()
	folder := webtest.Workspace(t, ".")
	webtest.Run(t, folder, "npm", "run", "build", "-w", "console")
	committed, err := fs.Sub(dist, "console/dist")
	must(t, err)
	want, got := read(t, committed), read(t, os.DirFS(filepath.Join(folder, "console", "dist")))
	if !maps.EqualFunc(want, got, bytes.Equal) {
		t.Errorf("console/dist is not what a build makes: run `make web`, and commit it\n got %v\nwant %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// TestThePackageIsWhole looks at what `npm publish` would send: the compiled modules with their types, the sources for debuggers, and no tests.
func TestThePackageIsWhole(t *testing.T) {
	t.Parallel()
	folder := webtest.Workspace(t, ".")
	said := webtest.Run(t, folder, "npm", "pack", "--dry-run", "-w", "client", "--loglevel=notice")
	for _, file := range []string{"LICENSE", "README.md", "package.json", "dist/index.js", "dist/index.d.ts", "dist/hooks/useTasks.js", "src/index.ts"} {
		if !regexp.MustCompile(`(?m) ` + regexp.QuoteMeta(file) + `\s*$`).MatchString(said) {
			t.Errorf("the package has no %s", file)
		}
	}
	for _, part := range []string{".test.", "testing/", "node_modules", "vitest"} {
		if strings.Contains(said, part) {
			t.Errorf("the package has files of %s", part)
		}
	}
	if t.Failed() {
		t.Log(said)
	}
	// As an app's bundler or Node finds it: by its name, compiled.
	webtest.Run(t, folder, "node", "--input-type=module", "-e", `
		import {readFileSync} from 'node:fs';
		const client = await import('@darkroom/client');
		for (const name of ['useTasks', 'useUnifiedGenerations', 'useWebSocket', 'preloadGenerationTaskMappings', 'createQueryClient', 'toastFor'])
			if (typeof client[name] !== 'function') throw new Error(name);
		if (!import.meta.resolve('@darkroom/client').endsWith('/client/dist/index.js')) throw new Error(import.meta.resolve('@darkroom/client'));
		if (!readFileSync('client/dist/index.d.ts', 'utf8').includes('useTasks')) throw new Error('types');`)
}

func read(t *testing.T, folder fs.FS) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	must(t, fs.WalkDir(folder, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files[path], err = fs.ReadFile(folder, path)
		return err
	}))
	return files
}
