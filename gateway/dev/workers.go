package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"darkroom/migrations"
)

const (
	workerStop = 8 * time.Second // for a worker to give back its tasks
	steady     = time.Minute     // a worker that ran this long is started again at once
	maxBackOff = 30 * time.Second
	logTail    = 4 << 10 // bytes of a log that are searched for its last line
)

// worker is a workerd process that is started again when it ends.
type worker struct {
	id, path, log string
	env           []string
	out           io.Writer

	cmd   *exec.Cmd
	input io.Closer     // its end tells the worker that we are gone, however we went
	ended chan struct{} // closed when it has
	err   error         // how it ended
	began time.Time
}

// newWorker sets up a worker. Its lease and pauses are short: on one machine a killed worker is soon missed.
func (r *runner) newWorker(id, workerd string) *worker {
	return &worker{id: id, path: workerd, out: r.Out, log: filepath.Join(r.Home, logFolder, id+".log"), env: append(
		os.Environ(),
		"DATABASE_URL="+migrations.WorkerdLogin.URL(r.DatabaseURL, r.state.WorkerdPassword),
		"DARKROOM_STORAGE="+r.storage,
		"DARKROOM_PUBLIC_URL="+r.publicURL,
		"DARKROOM_WORKER_ID="+id,
		"DARKROOM_LEASE=15s",
		"DARKROOM_REQUEUE_EVERY=5s",
		"DARKROOM_DRAIN=1s",
		"DARKROOM_TEMP="+filepath.Join(r.Home, tempFolder),
		"DARKROOM_EXIT_ON_STDIN_EOF=true",
	)}
}

// start starts the process.
func (w *worker) start() error {
	log, err := openLog(w.log)
	if err != nil {
		return err
	}
	defer log.Close()
	w.cmd = exec.Command(w.path)                            //nolint:noctx // keep ends it, in its own way
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches it through us
	w.cmd.Env, w.cmd.Stdout, w.cmd.Stderr = w.env, log, log
	if w.input, err = w.cmd.StdinPipe(); err != nil {
		return fmt.Errorf("starting %s: %w", w.id, err)
	}
	if err := w.cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", w.id, err)
	}
	w.began, w.ended = time.Now(), make(chan struct{})
	go func() {
		w.err = w.cmd.Wait()
		close(w.ended)
	}()
	return nil
}

// keep starts the worker again whenever it ends, until ctx ends; then it stops it.
func (w *worker) keep(ctx context.Context) error {
	pause := time.Second
	for {
		select {
		case <-ctx.Done():
			w.stop()
			return nil
		case <-w.ended:
			if time.Since(w.began) > steady {
				pause = time.Second
			}
			fmt.Fprintf(w.out, "worker %s ended (%s): starting it again in %s; its log is %s\n", w.id, reason(w.err, w.log), pause, w.log)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxBackOff)
		if err := w.start(); err != nil {
			return err
		}
	}
}

// stop asks the worker to end, and makes it.
func (w *worker) stop() {
	_ = w.cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended
	select {
	case <-w.ended:
	case <-time.After(workerStop):
		_ = syscall.Kill(-w.cmd.Process.Pid, syscall.SIGKILL) // with what it started
		<-w.ended
	}
	_ = w.input.Close()
}

// reason says how a process ended, with the last line of its log where it ended by itself.
func reason(err error, log string) string {
	how := "without error"
	if err != nil {
		how = err.Error()
	}
	// A signal came from outside: the log does not tell of it.
	var exit *exec.ExitError
	if errors.As(err, &exit) && !exit.Exited() {
		return how
	}
	file, openErr := os.Open(log)
	if openErr != nil {
		return how
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > logTail {
		_, _ = file.Seek(-logTail, io.SeekEnd)
	}
	data, _ := io.ReadAll(file)
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	if last := bytes.TrimSpace(lines[len(lines)-1]); len(last) > 0 {
		return how + ": " + string(last)
	}
	return how
}
