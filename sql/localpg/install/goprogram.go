package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// buildTimeout bounds the compilation of one program, dependencies included, at low priority on a busy machine.
const buildTimeout = 20 * time.Minute

// GoProgram is one pinned program of a Go module that go.mod does not name, since only tests run it. Go's checksum database vouches for it.
type GoProgram struct {
	Package string // such as "github.com/versity/versitygw/cmd/versitygw"
	Version string // exact, such as "v1.8.0"
}

// Cached returns the program's file when an earlier call of [GoProgram.Fetch] has built it.
func (p GoProgram) Cached() (file string, ok bool) {
	cache, err := CacheDir()
	if err != nil {
		return "", false
	}
	file = filepath.Join(cache, "go", strings.ReplaceAll(p.Package, "/", "+")+"@"+p.Version)
	info, err := os.Stat(file)
	return file, err == nil && info.Mode().IsRegular()
}

// Fetch returns the program's file. The first call compiles it, at low priority, which takes minutes; later ones, also of other processes, find it.
// announce, which may be nil, is called before that.
func (p GoProgram) Fetch(ctx context.Context, announce func()) (file string, err error) {
	if _, err := CacheDir(); err != nil {
		return "", err
	}
	file, ok := p.Cached()
	if ok {
		return file, nil
	}
	client, err := exec.LookPath("go")
	if err != nil {
		return "", errors.New("the go command is not installed")
	}
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // other users run what lies here
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := lock(ctx, file+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if file, ok = p.Cached(); ok {
		return file, nil
	}
	if announce != nil {
		announce()
	}
	temp, err := os.MkdirTemp(filepath.Dir(file), "build-*")
	if err != nil {
		return "", fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	if err := p.build(ctx, client, temp); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(temp, path.Base(p.Package)), file); err != nil {
		return "", fmt.Errorf("put %s into the cache: %w", p.Package, err)
	}
	return file, nil
}

// build compiles into dir. It runs there, so that no project's go.mod and settings apply.
func (p GoProgram) build(ctx context.Context, client, dir string) error {
	command := []string{client, "install", p.Package + "@" + p.Version}
	if nice, err := exec.LookPath("nice"); err == nil {
		command = slices.Concat([]string{nice, "-n", "10"}, command)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go install %s@%s: %w: %s", p.Package, p.Version, err, lastLine(stderr.String()))
	}
	return nil
}
