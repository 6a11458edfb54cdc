package exec

import (
	"context"
	"fmt"
	"strings"
	"time"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine"
)

// running is a run that the child works on. Its methods are called under the lock of the child, and not once it has ended, so
// that nothing reaches a sink after its run.
type running struct {
	sink  engine.Sink
	last  engine.Progress
	ended chan message // takes one: its result or error
}

// progress tells how far the run is. What does not fit [engine.Progress] is left out.
func (r *running) progress(m message) {
	if m.Max <= 0 || m.Value < r.last.Value || m.Value > m.Max {
		return
	}
	phase := strings.ToLower(plain(m.Phase, 40))
	if phase == "" {
		phase = "working"
	}
	r.last = engine.Progress{Value: m.Value, Max: m.Max, Phase: phase}
	r.sink.Progress(r.last)
}

// preview shows an unfinished result, if it is a picture.
func (r *running) preview(m message) {
	if mediaType := storage.MediaType(m.Data); strings.HasPrefix(mediaType, "image/") {
		r.sink.Preview(m.Data, mediaType)
	}
}

// run has the child do a task, and returns its result or error.
func (c *child) run(ctx context.Context, task engine.Task, line []byte, sink engine.Sink) (message, *running, error) {
	id := task.ID.String()
	r := &running{sink: sink, ended: make(chan message, 1)}
	c.mu.Lock()
	if c.runs[id] != nil {
		c.mu.Unlock()
		return message{}, nil, engine.Errorf(engine.EngineDown, "The engine still works on this task.")
	}
	c.runs[id] = r
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.runs[id] == r {
			delete(c.runs, id)
		}
	}()

	select {
	case c.orders <- line:
	case <-c.done:
		return message{}, nil, c.lost()
	case <-ctx.Done(): // the child will not be given the line
		return message{}, nil, engine.Stopped(ctx)
	}
	select {
	case m := <-r.ended:
		if err := engine.Stopped(ctx); err != nil {
			return message{}, nil, err
		}
		return m, r, nil
	case <-c.done:
		select {
		case m := <-r.ended: // its last act
			return m, r, nil
		default:
		}
		return message{}, nil, c.lost()
	case <-ctx.Done():
		return message{}, nil, c.cancel(ctx, r, id)
	}
}

// lost is the error of a run whose child has ended.
func (c *child) lost() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Errorf("a run was lost: %w", c.reason)
}

// cancel tells the child to end a run, and kills it when it does not: the slot must be free.
func (c *child) cancel(ctx context.Context, r *running, id string) error {
	grace := time.NewTimer(cancelGrace)
	defer grace.Stop()
	select {
	case c.orders <- orderLine("cancel", id):
	case <-c.done:
		return engine.Stopped(ctx)
	case <-grace.C:
		c.disobeyed()
		return engine.Stopped(ctx)
	}
	select {
	case <-r.ended:
	case <-c.done:
	case <-grace.C:
		c.disobeyed()
	}
	return engine.Stopped(ctx)
}

// disobeyed kills the child. That is no failure of its own: many models cannot stop in the middle of a step.
func (c *child) disobeyed() {
	c.mu.Lock()
	c.proved = true
	c.mu.Unlock()
	c.kill(&engine.Error{
		Class: engine.EngineDown, Message: "The engine's program did not stop a cancelled task; it is started again.",
		Err: fmt.Errorf("no end of the run within %s", cancelGrace),
	})
	select {
	case <-c.done:
	case <-time.After(killGrace):
	}
}
