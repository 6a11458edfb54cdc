package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"darkroom/gateway/storage"
)

// smallDisk, when set, makes the test binary a process that stores too much on a disk of its own, mounted on the folder that it names.
const smallDisk = "DARKROOM_TEST_SMALL_DISK"

// A full disk is an error of its own, leaves nothing behind, and is over when there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	run := func(flags uintptr) (string, error) {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), smallDisk+"="+t.TempDir())
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		if flags&syscall.CLONE_NEWUSER != 0 {
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		output, err := cmd.CombinedOutput()
		return string(output), err
	}
	output, err := run(syscall.CLONE_NEWNS)
	if forbidden(output, err) {
		output, err = run(syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER)
	}
	if forbidden(output, err) {
		t.Skipf("this system lets us mount no disk of our own: %v %s", err, output)
	}
	if err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

func forbidden(output string, err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSPC) || err != nil && strings.HasPrefix(output, "mount:")
}

func putOnSmallDisk(folder string) error {
	// Else the mount would be seen outside.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	ctx := context.Background()
	bucket, err := storage.Open(ctx, fileURL(folder))
	if err != nil {
		return err
	}
	defer bucket.Close()
	const head = "\x89PNG\x0d\x0a\x1a\x0a"
	content := io.MultiReader(strings.NewReader(head), bytes.NewReader(make([]byte, 2*mebibyte)))
	if _, err = bucket.Put(ctx, "u/a.png", content, 4*mebibyte); !errors.Is(err, storage.ErrFull) {
		return fmt.Errorf("Put: %w; want ErrFull", err)
	}
	if files, err := filepath.Glob(filepath.Join(folder, "u", "*")); err != nil || len(files) != 0 {
		return fmt.Errorf("files left: %q, %w", files, err)
	}
	_, err = bucket.Put(ctx, "u/a.png", strings.NewReader(head), mebibyte)
	return err
}
