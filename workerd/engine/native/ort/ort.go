// Package ort runs ONNX models with ONNX Runtime (https://onnxruntime.ai), a shared library that is found when the program runs:
//
//  1. the file that $ORT_LIB names; nothing else is tried then;
//  2. the one that [Install] fetched;
//  3. the system's: the folders of $LD_LIBRARY_PATH (macOS: $DYLD_LIBRARY_PATH) and the usual ones.
//
// A library with CUDA support (libonnxruntime_providers_cuda lies beside it) is used on the first GPU when that works. It takes a
// build with cgo; without, [Open] returns [ErrNoCgo].
package ort

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"darkroom/sql/localpg/install"
)

var (
	// ErrNotFound says that there is no library.
	ErrNotFound = errors.New("ONNX Runtime was not found; `workerd engine install` fetches it, and " + envLibrary + " names one that lies elsewhere")
	// ErrNoCgo says that this program cannot load a library.
	ErrNoCgo = errors.New("this program was built without cgo, which ONNX Runtime needs")
)

// envLibrary names the environment variable with the path of the library.
const envLibrary = "ORT_LIB"

// version is that of the npm package that [Install] fetches, and of ONNX Runtime in it.
const version = "1.30.0"

// Options say how models run.
type Options struct {
	// Threads is how many cores one run may use.
	Threads int
	// Probe is a small model with which a GPU is tried.
	Probe []byte
	// Log takes a line when the library was built for a GPU but none can be used.
	Log func(line string, err error)
}

// libraries are the files that may be the library, best first. A file that $ORT_LIB names is the only one, whether it exists or not.
func libraries() []string {
	if path := os.Getenv(envLibrary); path != "" {
		return []string{path}
	}
	var found []string
	if path, err := installed(); err == nil && isFile(path) {
		found = append(found, path)
	}
	pattern, search := "libonnxruntime.so*", "LD_LIBRARY_PATH"
	if runtime.GOOS == "darwin" {
		pattern, search = "libonnxruntime*.dylib", "DYLD_LIBRARY_PATH"
	}
	folders := append(filepath.SplitList(os.Getenv(search)),
		"/usr/local/lib", "/usr/lib", "/usr/lib64",
		"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", // Debian
		"/opt/homebrew/lib", // Homebrew on arm64
	)
	for _, folder := range folders {
		// Of libonnxruntime.so, .so.1 and .so.1.30.0 any will do.
		if matches, err := filepath.Glob(filepath.Join(folder, pattern)); err == nil && len(matches) > 0 {
			found = append(found, matches[0])
		}
	}
	return found
}

// hasCUDA says whether a library was built for NVIDIA's GPUs.
func hasCUDA(library string) bool {
	return isFile(filepath.Join(filepath.Dir(library), "libonnxruntime_providers_cuda.so"))
}

// inPackage is where the library of each platform lies in the npm package onnxruntime-node.
var inPackage = map[string]string{
	"linux/amd64":  "bin/napi-v6/linux/x64/libonnxruntime.so.1",
	"linux/arm64":  "bin/napi-v6/linux/arm64/libonnxruntime.so.1",
	"darwin/arm64": "bin/napi-v6/darwin/arm64/libonnxruntime.1.dylib",
}

// installed is where [Install] puts the library.
func installed() (string, error) {
	member, ok := inPackage[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return "", fmt.Errorf("the npm package onnxruntime-node has no ONNX Runtime for %s/%s; set %s to one", runtime.GOOS, runtime.GOARCH, envLibrary)
	}
	cache, err := install.CacheDir()
	if err != nil {
		return "", fmt.Errorf("install ONNX Runtime: %w", err)
	}
	return filepath.Join(cache, "onnxruntime", version, filepath.Base(member)), nil
}

// Install fetches ONNX Runtime for the CPU with the user's npm, unless it is there, and returns the path of the library. log is told
// what takes time. Of the package, which serves all platforms, only this one's library is kept.
func Install(ctx context.Context, log io.Writer) (string, error) {
	path, err := installed()
	if err != nil || isFile(path) {
		return path, err
	}
	pkg := install.Package{
		Name: "onnxruntime-node", Version: version,
		Integrity: "sha512-twhs1C2C/BFkz1yc5OY0KIU2GUq6DURO7hD4bx5Q2Qy3nAMJwRXW8xU3NVczE29VA9lolLOYepoD8fjTGOfIqw==",
	}
	dir, err := pkg.Fetch(ctx, func() {
		_, _ = fmt.Fprintf(log, "fetching %s@%s with npm (about 110 MB, of which 45 MB are kept)\n", pkg.Name, pkg.Version)
	})
	if err != nil {
		return "", fmt.Errorf("fetch ONNX Runtime: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // other users load what lies here
		return "", fmt.Errorf("install ONNX Runtime: %w", err)
	}
	// Whoever comes second finds its member gone and the library there.
	if err := os.Rename(filepath.Join(dir, inPackage[runtime.GOOS+"/"+runtime.GOARCH]), path); err != nil && !isFile(path) {
		return "", fmt.Errorf("install ONNX Runtime: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("delete what is left of the package: %w", err)
	}
	return path, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
