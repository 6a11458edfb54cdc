// Package process starts programs so that nothing of them is left behind: each in a process group of its own, which is killed
// as a whole.
package process

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// pipeDelay is how long pipes may stay open once a program has ended, as when it left children behind.
	pipeDelay = 300 * time.Millisecond
	// maxTail is how much a [Tail] keeps, in bytes.
	maxTail = 4 << 10
)

// Command prepares a program that is killed with its whole process group when ctx ends. On Linux the kernel also kills it
// when the operating system's thread that started it ends, thus with this process: what runs for long must be started by
// a goroutine that keeps its thread (runtime.LockOSThread) until the program has ended.
func Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = attributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeDelay
	return cmd
}

// Tail keeps the end of what is written to it, such as a program's last words.
type Tail struct{ kept []byte }

// Write implements [io.Writer]. It never fails.
func (t *Tail) Write(text []byte) (int, error) {
	t.kept = append(t.kept, text...)
	if surplus := len(t.kept) - maxTail; surplus > 0 {
		t.kept = append(t.kept[:0], t.kept[surplus:]...)
	}
	return len(text), nil
}

// String returns the end of the text, without the white space around it.
func (t *Tail) String() string { return strings.TrimSpace(string(t.kept)) }
