package install

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Ctrl-C while Debian's packages are unpacked: apt-get is waited for, since one that is killed leaves packages that somebody has to repair.
func TestAptGetIsNotCutShort(t *testing.T) {
	dir := t.TempDir()
	started, finished := filepath.Join(dir, "started"), filepath.Join(dir, "finished")
	if err := syscall.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\ncd '" + dir + "'\ntrap 'kill $!; echo $1 >>finished; exit' INT\nsleep 60 >/dev/null 2>&1 &\necho >started\nwait\n"
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	t.Setenv("DARKROOM_CACHE", filepath.Join(dir, "cache"))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Apt(ctx, io.Discard, "nothing") }()
	if _, err := os.ReadFile(started); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("got %v, want that it was called off", err)
	}
	if got, err := os.ReadFile(finished); err != nil || string(got) != "install\n" {
		t.Errorf("finished: %q, %v; want one install", got, err)
	}
}
