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
	"sync"
	"syscall"
	"time"

	"darkroom/migrations"
)

const (
	workerLease = 10 * time.Second // how long a silent worker holds its tasks: on one machine a killed one is soon missed
	// missed is how long a killed worker stays away. One that starts anew gives back at once what it held, so nobody would see its lease run out.
	missed       = workerLease + 5*time.Second
	requeueEvery = time.Second
	maxRequeued  = 100             // tasks at a time
	workerStop   = 8 * time.Second // for a worker to give back its tasks
	steady       = time.Minute     // a worker that ran this long is started again at once
	maxBackOff   = 30 * time.Second
	logTail      = 4 << 10 // bytes of a log that are searched for its last line
)

// worker is a workerd process that is started again when it ends.
type worker struct {
	id, path, log string
	env           []string
	out           io.Writer

	mu    sync.Mutex // of cmd and ended: the console looks, too
	cmd   *exec.Cmd
	input io.Closer     // its end tells the worker that we are gone, however we went
	ended chan struct{} // closed when it has
	err   error         // how it ended
	began time.Time
}

// newWorker sets up a worker, which is not started.
func (r *runner) newWorker(id, workerd string) *worker {
	return &worker{id: id, path: workerd, out: r.Out, log: filepath.Join(r.Home, logFolder, id+".log"), env: append(
		os.Environ(),
		"DATABASE_URL="+migrations.WorkerdLogin.URL(r.DatabaseURL, r.state.WorkerdPassword),
		"DARKROOM_STORAGE="+r.storage,
		"DARKROOM_PUBLIC_URL="+r.publicURL,
		"DARKROOM_WORKER_ID="+id,
		"DARKROOM_LEASE="+workerLease.String(),
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
	cmd := exec.Command(w.path)                           //nolint:noctx // keep ends it, in its own way
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches it through us
	cmd.Env, cmd.Stdout, cmd.Stderr = w.env, log, log
	input, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("starting %s: %w", w.id, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", w.id, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ended := make(chan struct{})
	w.cmd, w.input, w.began, w.ended = cmd, input, time.Now(), ended
	go func() {
		w.err = cmd.Wait()
		close(ended)
	}()
	return nil
}

func (w *worker) state() workerState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return workerState{w.id, w.cmd.Process.Pid, w.isAlive()}
}

// isAlive is for those who have the lock.
func (w *worker) isAlive() bool {
	select {
	case <-w.ended:
		return false
	default:
		return true
	}
}

// kill kills the process with what it started, waits until it has ended, and reports how it was and whether it ran.
func (w *worker) kill() (workerState, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.isAlive() {
		return workerState{}, false
	}
	pid := w.cmd.Process.Pid
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
		return workerState{}, false
	}
	<-w.ended
	return workerState{w.id, pid, false}, true
}

// keep starts the worker again whenever it ends, until ctx ends; then it stops it.
func (w *worker) keep(ctx context.Context) error {
	pause := time.Second
	for {
		var wait time.Duration
		select {
		case <-ctx.Done():
			w.stop()
			return nil
		case <-w.ended:
			if time.Since(w.began) > steady {
				pause = time.Second
			}
			if wait = pause; wasKilled(w.err) {
				wait = missed
			}
			pause = min(2*pause, maxBackOff)
			fmt.Fprintf(w.out, "worker %s ended (%s): starting it again in %s; its log is %s\n", w.id, reason(w.err, w.log), wait, w.log)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if err := w.start(); err != nil {
			return err
		}
	}
}

// requeue takes tasks from silent workers until ctx ends. The workers do so as well, but one of them leads in that, and when it is the one that was
// killed the next leader is found only after 20 s.
func (r *runner) requeue(ctx context.Context) error {
	tick := time.NewTicker(requeueEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_, _ = r.db.RequeueExpiredTasks(ctx, maxRequeued) // next time, or the workers
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

// wasKilled reports whether a process was ended from outside, so that it could say no goodbye.
func wasKilled(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, known := exit.Sys().(syscall.WaitStatus)
	return known && status.Signaled() && status.Signal() == syscall.SIGKILL
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
