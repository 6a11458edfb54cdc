package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/process"
)

// maxOutput bounds what a program may print as its answer, such as ffprobe's JSON.
const maxOutput = 4 << 20

// command prepares a program that is killed with its whole process group when ctx ends. Success is its exit status,
// never what it prints. The tail receives its error output.
func command(ctx context.Context, program string, args ...string) (*exec.Cmd, *process.Tail) {
	cmd, stderr := process.Command(ctx, program, args...), &process.Tail{}
	cmd.Stderr = stderr
	return cmd, stderr
}

// output runs a program and returns what it printed.
func output(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd, stderr := command(ctx, program, args...)
	stdout := &limited{left: maxOutput}
	cmd.Stdout = stdout
	if err := cmd.Run(); err != nil {
		return nil, failed(ctx, err, stderr)
	}
	return stdout.buffer.Bytes(), nil
}

// failed turns the error of a program that has ended into one that tells why: the end of ctx, a lack of memory or disk
// space as an [engine.Error], else its last words as an [exitError].
func failed(ctx context.Context, err error, stderr *process.Tail) error {
	if err := engine.Stopped(ctx); err != nil {
		return err
	}
	words := stderr.String()
	cause := &exitError{err: err, stderr: words}
	exit, ended := errors.AsType[*exec.ExitError](err)
	killed := ended && exit.ExitCode() == -1 && strings.Contains(exit.String(), "killed")
	switch {
	case killed, strings.Contains(words, "Cannot allocate memory"), strings.Contains(words, "malloc of size"):
		return &engine.Error{
			Class: engine.OutOfMem, Err: cause,
			Message: "The worker ran out of memory; use a smaller resolution or fewer frames.",
		}
	case strings.Contains(words, "No space left on device"):
		return &engine.Error{Class: engine.EngineDown, Err: cause, Message: "The worker's disk is full."}
	}
	return cause
}

// exitError is a program that ended with an error of its own.
type exitError struct {
	err    error
	stderr string
}

func (e *exitError) Error() string { return fmt.Sprintf("%v: %s", e.err, e.stderr) }
func (e *exitError) Unwrap() error { return e.err }

// blame classes the failure of a program that read a user's file: its own errors are the input's fault.
func blame(err error, format string, args ...any) error {
	if _, ok := errors.AsType[*exitError](err); !ok {
		return err
	}
	return &engine.Error{Class: engine.BadInput, Message: fmt.Sprintf(format, args...), Err: err}
}

// errEnough ends a stream early, without an error.
var errEnough = errors.New("enough frames")

// stream runs a program that prints raw frames of size bytes each, and calls each for every one, which may keep the
// frame only until it returns. It returns how many frames came. An error of each ends the program and is returned,
// [errEnough] as nil.
func stream(ctx context.Context, size int, stdin io.Reader, each func(frame []byte) error, program string, args ...string) (int, error) {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd, stderr := command(running, program, args...)
	cmd.Stdin = stdin
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, fmt.Errorf("connect to %s: %w", program, err)
	}
	if err := cmd.Start(); err != nil {
		return 0, notStarted(ctx, err)
	}
	frames, reading := 0, error(nil)
	for frame := make([]byte, size); reading == nil; {
		if _, reading = io.ReadFull(stdout, frame); reading == nil {
			frames++
			reading = each(frame)
		}
	}
	if !errors.Is(reading, io.EOF) {
		cancel()
	}
	waiting := cmd.Wait()
	if waiting == nil && errors.Is(reading, io.ErrUnexpectedEOF) {
		waiting = errors.New("its last frame is cut short")
	}
	switch {
	case errors.Is(reading, errEnough):
		return frames, nil
	case engine.Stopped(ctx) != nil:
		return frames, engine.Stopped(ctx)
	case errors.Is(reading, io.EOF) && waiting == nil:
		return frames, nil
	case errors.Is(reading, io.EOF), errors.Is(reading, io.ErrUnexpectedEOF):
		return frames, failed(ctx, waiting, stderr)
	default:
		return frames, reading
	}
}

func notStarted(ctx context.Context, err error) error {
	if err := engine.Stopped(ctx); err != nil {
		return err
	}
	return &engine.Error{Class: engine.EngineDown, Message: "The worker's ffmpeg does not start.", Err: err}
}

// limited keeps what is written to it up to a limit, beyond which writing fails.
type limited struct {
	buffer bytes.Buffer
	left   int
}

func (l *limited) Write(text []byte) (int, error) {
	if l.left -= len(text); l.left < 0 {
		return 0, errors.New("the answer is too long")
	}
	return l.buffer.Write(text) //nolint:wrapcheck // never fails
}
