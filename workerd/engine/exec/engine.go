// Package exec is the engine that has a program of the operator do the work: a long-lived child process that speaks JSON lines
// and keeps its model loaded between tasks. README.md has the protocol and the configuration; examples has programs.
package exec

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"darkroom/workerd/engine"
)

const (
	defaultStartTimeout = 5 * time.Minute
	defaultHungAfter    = time.Minute
	firstPause          = time.Second
	longestPause        = time.Minute
)

// Config says which program to run, and how.
type Config struct {
	// Command is the program and its arguments. There is no shell. Needed.
	Command []string `yaml:"command"`
	// Env are variables for the program, besides the few that it inherits; see README.md.
	Env map[string]string `yaml:"env"`
	// Dir is where it runs; workerd's own folder when empty.
	Dir string `yaml:"dir"`
	// Tasks are the task types that it is to do; it must announce all of them. Needed.
	Tasks []string `yaml:"tasks"`
	// Slots is how many tasks it does at a time, 1 when 0; it must announce as many.
	Slots int `yaml:"slots"`
	// Device, Models and MemoryBytes are advertised; see [engine.Info]. Device is "unknown" when empty.
	Device      string   `yaml:"device"`
	Models      []string `yaml:"models"`
	MemoryBytes int64    `yaml:"memory_bytes"`
	// StartTimeout is how long it may load before it is ready, 5 minutes when 0.
	StartTimeout time.Duration `yaml:"start_timeout"`
	// HungAfter is how long it may be silent, though it is asked for signs of life, before it is killed; a minute when 0.
	HungAfter time.Duration `yaml:"hung_after"`

	pause time.Duration // after the first failure; tests shorten it
}

// check fills in what is missing and says what is wrong.
func (c *Config) check() error {
	c.Slots = max(c.Slots, 1)
	c.StartTimeout = cmp.Or(c.StartTimeout, defaultStartTimeout)
	c.HungAfter = cmp.Or(c.HungAfter, defaultHungAfter)
	c.pause = cmp.Or(c.pause, firstPause)
	c.Device = cmp.Or(c.Device, "unknown")
	switch {
	case len(c.Command) == 0 || c.Command[0] == "":
		return errors.New("command is missing: name the program and its arguments as a list")
	case len(c.Tasks) == 0 || slices.Contains(c.Tasks, ""):
		return errors.New("tasks is missing: list the task types that the program does")
	case c.StartTimeout < 0:
		return errors.New("start_timeout must be above 0")
	case c.HungAfter < time.Millisecond:
		return errors.New("hung_after must be above 0")
	case c.MemoryBytes < 0:
		return errors.New("memory_bytes must not be negative")
	}
	for name, value := range c.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return fmt.Errorf("env cannot have the variable %q", name)
		}
	}
	return nil
}

// Engine is the [engine.Engine] that runs a child. While the child loads or restarts, the engine is not healthy.
type Engine struct {
	info   engine.Info
	config Config
	log    *slog.Logger
	slots  chan struct{}
	stop   context.CancelFunc
	over   chan struct{}

	mu      sync.Mutex
	child   *child        // nil while none is ready
	why     error         // why there is none: an [*engine.Error]
	failed  bool          // the last one did not get ready, and the next is not yet started
	changed chan struct{} // closed when any of these changes
}

// New starts the program and returns without waiting until it is ready. What it prints goes to the default log with the name of
// the engine. It lives until Close, whatever becomes of ctx.
func New(ctx context.Context, name string, c Config) (*Engine, error) {
	c.Tasks = slices.Compact(slices.Sorted(slices.Values(c.Tasks)))
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("engine %s: %w", name, err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	e := &Engine{
		info: engine.Info{
			Name: name, TaskTypes: c.Tasks, Device: c.Device, Slots: c.Slots, Models: slices.Clone(c.Models), MemoryBytes: c.MemoryBytes,
		},
		config: c, log: slog.Default().With("engine", name), slots: make(chan struct{}, c.Slots),
		stop: stop, over: make(chan struct{}), why: loading(), changed: make(chan struct{}),
	}
	go e.keep(ctx)
	return e, nil
}

// Close ends the program and whatever it runs.
func (e *Engine) Close() error {
	e.stop()
	<-e.over
	return nil
}

// Info implements [engine.Engine].
func (e *Engine) Info() engine.Info { return e.info }

// Health implements [engine.Engine]: the program is ready and answers.
func (e *Engine) Health(ctx context.Context) error {
	if err := engine.Stopped(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.child == nil:
		return e.why
	case e.child.dying():
		return loading()
	}
	return nil
}

// Run implements [engine.Engine]. It waits for a child that is loading, but not for one that failed to.
func (e *Engine) Run(ctx context.Context, task engine.Task, sink engine.Sink) (engine.Result, error) {
	if err := engine.Stopped(ctx); err != nil {
		return engine.Result{}, err
	}
	if !slices.Contains(e.info.TaskTypes, task.Type) {
		return engine.Result{}, engine.Errorf(engine.BadInput, "The engine %s does not do tasks of this type.", e.info.Name)
	}
	line, err := runLine(task)
	if err != nil {
		return engine.Result{}, err
	}
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return engine.Result{}, engine.Stopped(ctx)
	}
	c, err := e.await(ctx)
	if err != nil {
		return engine.Result{}, err
	}
	answer, run, err := c.run(ctx, task, line, sink)
	if err != nil {
		return engine.Result{}, err
	}
	if answer.Type == "error" {
		return engine.Result{}, failure(task, answer)
	}
	result, err := collect(task.OutDir, answer)
	if err != nil {
		return engine.Result{}, err
	}
	if run.last.Max == 0 || run.last.Value < run.last.Max {
		most := max(run.last.Max, 1)
		sink.Progress(engine.Progress{Value: most, Max: most, Phase: "done"})
	}
	return result, nil
}

// await returns a child that is ready.
func (e *Engine) await(ctx context.Context) (*child, error) {
	for {
		e.mu.Lock()
		c, why, failed, changed := e.child, e.why, e.failed, e.changed
		e.mu.Unlock()
		switch {
		case c != nil && !c.dying():
			return c, nil
		case failed:
			return nil, why
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, engine.Stopped(ctx)
		}
	}
}

// set says how things stand.
func (e *Engine) set(c *child, why error, failed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.child, e.why, e.failed = c, why, failed
	close(e.changed)
	e.changed = make(chan struct{})
}

func loading() error {
	return engine.Errorf(engine.EngineDown, "The engine's program is still loading its model.")
}

// keep keeps a child running until ctx ends: whenever one ends it starts another, after a pause that grows while none of them
// brings a run to an end.
func (e *Engine) keep(ctx context.Context) {
	defer close(e.over)
	for pause := e.config.pause; ; pause = min(2*pause, longestPause) {
		c, err := e.start(ctx)
		if err == nil {
			e.set(c, nil, false)
			<-c.done
			c.mu.Lock()
			err = c.reason
			if c.proved {
				pause = e.config.pause
			}
			c.mu.Unlock()
			e.set(nil, err, false)
		} else {
			e.set(nil, err, true)
		}
		if ctx.Err() != nil {
			e.set(nil, err, true)
			return
		}
		e.log.Error("the engine's program has ended", "error", err, "restart_in", pause.String())
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			e.set(nil, loading(), false)
		}
	}
}

// start starts a child and waits until it is ready. When it does not get ready nothing of it is left.
func (e *Engine) start(ctx context.Context) (*child, error) {
	c, err := start(ctx, &e.config, e.log)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(e.config.StartTimeout)
	defer timer.Stop()
	select {
	case <-c.ready:
		return c, nil
	case <-timer.C:
		c.kill(&engine.Error{
			Class: engine.EngineDown, Message: "The engine's program did not get ready in time; it is started again.",
			Err: fmt.Errorf("not ready after %s", e.config.StartTimeout),
		})
	case <-c.done:
	}
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	return nil, c.reason
}
