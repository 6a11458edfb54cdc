package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"darkroom/workerd/engine"
	"darkroom/workerd/engine/process"
)

const (
	// cancelGrace is how long a child may take to end a run that was cancelled. With killGrace it keeps the promise of
	// [engine.Engine.Run] to end within a second.
	cancelGrace = 500 * time.Millisecond
	// killGrace is how long a killed child is waited for. What hangs in the kernel longer writes nothing any more.
	killGrace = 400 * time.Millisecond
	// drainGrace is how long the protocol's file is read on when a child has ended and left children behind.
	drainGrace = 300 * time.Millisecond
	// remembered is of how many ended runs a child may speak again without harm.
	remembered = 64
)

// channel is a stream from the child.
type channel string

const (
	undecided channel = ""
	stdout    channel = "stdout"
	file3     channel = "fd 3"
)

// child is one process, from its start until nothing of it is left.
type child struct {
	config *Config
	log    *slog.Logger
	gate   gate
	kill   context.CancelCauseFunc // ends the process; the cause says why
	ctx    context.Context         //nolint:containedctx // it lives as long as the process, whichever call comes
	orders chan []byte             // lines on their way to the child
	ready  chan struct{}           // closed when it can work
	done   chan struct{}           // closed when it has ended; then reason is set

	mu      sync.Mutex
	speaks  channel // where the protocol is spoken
	runs    map[string]*running
	ended   []string // ids of the last runs that have ended
	heard   time.Time
	proved  bool // it has brought a run to an end
	words   process.Tail
	reason  error
	greeted bool
}

// start starts the program. It returns when the process runs, or an [*engine.Error] tells why not.
func start(ctx context.Context, config *Config, log *slog.Logger) (*child, error) {
	ctx, kill := context.WithCancelCause(ctx)
	c := &child{
		config: config, log: log, kill: kill, ctx: ctx, orders: make(chan []byte, 16),
		ready: make(chan struct{}), done: make(chan struct{}), runs: map[string]*running{},
	}
	started := make(chan error, 1)
	go c.live(started)
	if err := <-started; err != nil {
		kill(err)
		return nil, &engine.Error{Class: engine.EngineDown, Message: "The engine's program cannot be started; look at its command.", Err: err}
	}
	return c, nil
}

// live is the life of the process.
func (c *child) live(started chan<- error) {
	runtime.LockOSThread() // see [process.Command]
	defer runtime.UnlockOSThread()
	defer close(c.done)

	cmd := process.Command(c.ctx, c.config.Command[0], c.config.Command[1:]...)
	cmd.Dir, cmd.Env = c.config.Dir, environment(c.config.Env)
	out := &lines{limit: maxLine, each: func(line []byte, whole bool) { c.receive(stdout, line, whole) }}
	text := &lines{limit: maxText, each: func(line []byte, _ bool) { c.text(line) }}
	cmd.Stdout, cmd.Stderr = out, text
	stdin, err := cmd.StdinPipe()
	if err != nil {
		started <- fmt.Errorf("connect to the program: %w", err)
		return
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		started <- fmt.Errorf("connect to the program: %w", err)
		return
	}
	defer reader.Close()
	cmd.ExtraFiles = []*os.File{writer}
	err = cmd.Start()
	_ = writer.Close()
	if err != nil {
		_ = stdin.Close()
		started <- fmt.Errorf("start the program: %w", err)
		return
	}

	var group sync.WaitGroup
	read := make(chan struct{})
	group.Go(func() {
		defer close(read)
		extra := &lines{limit: maxLine, each: func(line []byte, whole bool) { c.receive(file3, line, whole) }}
		_, _ = io.Copy(extra, reader) // ends with the process
		extra.end()
	})
	ending, end := context.WithCancel(c.ctx)
	group.Go(func() { c.write(ending, stdin) })
	group.Go(func() { c.watch(ending) })
	started <- nil

	err = cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left behind
	select {
	case <-read:
	case <-time.After(drainGrace):
		_ = reader.Close()
	}
	end()
	group.Wait()
	out.end()
	text.end()

	c.mu.Lock()
	defer c.mu.Unlock()
	c.reason = context.Cause(c.ctx)
	switch {
	case c.reason == nil:
		c.reason = &engine.Error{Class: engine.EngineDown, Message: "The engine's program ended by itself; it is started again.", Err: c.last(err)}
	case engine.ClassOf(c.reason) != engine.EngineDown:
		c.reason = &engine.Error{Class: engine.EngineDown, Message: "The engine is being closed.", Err: c.reason}
	}
	c.kill(nil)
}

// dying says whether the child has ended or is about to.
func (c *child) dying() bool { return c.ctx.Err() != nil }

// last adds the program's last words to an error.
func (c *child) last(err error) error {
	if err == nil {
		err = errors.New("exit status 0")
	}
	if words := c.words.String(); words != "" {
		err = fmt.Errorf("%w: %s", err, words)
	}
	return err
}

// write writes lines to the child.
func (c *child) write(ctx context.Context, stdin io.Writer) {
	for {
		select {
		case <-ctx.Done():
			return
		case line := <-c.orders:
			if _, err := stdin.Write(line); err != nil {
				return // it has ended, which others see
			}
		}
	}
}

// watch asks the child for signs of life once it is ready, and kills it when there are none.
func (c *child) watch(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-c.ready:
	}
	ticker := time.NewTicker(c.config.HungAfter / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		c.mu.Lock()
		silent := time.Since(c.heard)
		c.mu.Unlock()
		if silent > c.config.HungAfter {
			c.kill(&engine.Error{
				Class: engine.EngineDown, Message: "The engine's program did not answer any more; it is started again.",
				Err: fmt.Errorf("silent for %s", silent.Round(time.Millisecond)),
			})
			return
		}
		select {
		case c.orders <- orderLine("ping", ""):
		default: // it does not even read
		}
	}
}

// receive takes a line of a stream that may hold the protocol.
func (c *child) receive(from channel, line []byte, whole bool) {
	if c.dying() {
		return
	}
	c.mu.Lock()
	speaks := c.speaks
	c.mu.Unlock()
	if speaks != undecided && speaks != from {
		c.text(line)
		return
	}
	if !whole && (speaks == from || from == file3) {
		c.breach("a line of more than 1 MiB", nil)
		return
	}
	m, err := parse(line)
	switch {
	case speaks == undecided && err == nil && m.Type == "ready":
		c.hello(from, m)
	case speaks == undecided && from == stdout: // libraries print while they load
		c.text(line)
	case speaks == undecided:
		c.breach("its first line on fd 3 is not \"ready\"", err)
	case err != nil:
		c.breach(fmt.Sprintf("a line that is no message: %q", plain(string(line[:min(len(line), maxText)]), 200)), err)
	default:
		c.handle(m)
	}
}

// breach ends a child that does not keep to the protocol: what it says after is worth nothing.
func (c *child) breach(what string, err error) {
	cause := errors.New(what)
	if err != nil {
		cause = fmt.Errorf("%s: %w", what, err)
	}
	c.kill(&engine.Error{
		Class: engine.EngineDown, Message: "The engine's program broke its protocol; it is started again. Its operator finds the line in the worker's log.", Err: cause,
	})
}

// hello checks what the child announces.
func (c *child) hello(from channel, m message) {
	missing := slices.DeleteFunc(slices.Clone(c.config.Tasks), func(task string) bool { return slices.Contains(m.TaskTypes, task) })
	unfit := func(format string, args ...any) {
		c.kill(&engine.Error{Class: engine.EngineDown, Message: "The engine's program does not fit its configuration.", Err: fmt.Errorf(format, args...)})
	}
	switch {
	case m.Protocol != protocolVersion:
		unfit("it speaks version %d of the protocol, workerd speaks %d", m.Protocol, protocolVersion)
		return
	case len(missing) > 0:
		unfit("it does not do %s, only %s", strings.Join(missing, ", "), strings.Join(m.TaskTypes, ", "))
		return
	case max(m.Slots, 1) < c.config.Slots:
		unfit("it has %d slots, %d are configured", max(m.Slots, 1), c.config.Slots)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.greeted { // the other channel was first
		return
	}
	c.greeted, c.speaks, c.heard = true, from, time.Now()
	c.log.Info("the engine's program is ready", "channel", string(from), "device", m.Device, "slots", max(m.Slots, 1))
	close(c.ready)
}

// handle takes a message.
func (c *child) handle(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = time.Now()
	run := c.runs[m.ID]
	switch m.Type {
	case "pong":
	case "progress", "preview":
		if run == nil {
			c.note("a message of a run that is over is ignored", "type", m.Type, "id", plain(m.ID, 40))
			return
		}
		if m.Type == "preview" {
			run.preview(m)
		} else {
			run.progress(m)
		}
	case "log":
		text := plain(m.Message, maxText)
		switch {
		case run == nil:
			c.note("the engine's program says", "line", text)
		case c.gate.open(c.log):
			run.sink.Log(text)
		}
	case "result", "error":
		switch {
		case run != nil:
			delete(c.runs, m.ID)
			c.ended = append(c.ended, m.ID)
			c.ended = c.ended[max(0, len(c.ended)-remembered):]
			c.proved = true
			run.ended <- m
		case slices.Contains(c.ended, m.ID):
			c.note("a second end of a run is ignored", "type", m.Type, "id", m.ID)
		default:
			c.breach(fmt.Sprintf("%q for the id %q, which it was not given", m.Type, plain(m.ID, 40)), nil)
		}
	default:
		c.note("a message of an unknown type is ignored", "type", plain(m.Type, 40))
	}
}

// text takes a line that is not of the protocol.
func (c *child) text(line []byte) {
	text := plain(string(line[:min(len(line), maxText)]), maxText)
	if text == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.words.Write([]byte(text + "\n"))
	c.note("the engine's program says", "line", text)
}

// note writes a line to the log, unless there are too many.
func (c *child) note(text string, args ...any) {
	if c.gate.open(c.log) {
		c.log.Info(text, args...)
	}
}

// gate bounds how much a child writes to the log.
type gate struct {
	since   time.Time
	count   int
	skipped int
}

// open says whether one more line may be written.
func (g *gate) open(log *slog.Logger) bool {
	const most, period = 200, 10 * time.Second
	if now := time.Now(); now.Sub(g.since) > period {
		if g.skipped > 0 {
			log.Info("lines of the engine's program were left out", "count", g.skipped)
		}
		*g = gate{since: now}
	}
	if g.count >= most {
		g.skipped++
		return false
	}
	g.count++
	return true
}
