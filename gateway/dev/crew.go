package dev

import (
	"sync"

	"darkroom/gateway/problem"
)

// crew is the workers of a run, by id. Its zero value has none.
type crew struct {
	mu      sync.Mutex
	workers []*worker
}

// workerState is a worker as the console shows it.
type workerState struct {
	ID    string `json:"id"`
	PID   int    `json:"pid"`
	Alive bool   `json:"alive"`
}

func (c *crew) add(w *worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers = append(c.workers, w)
}

func (c *crew) states() []workerState {
	c.mu.Lock()
	defer c.mu.Unlock()
	states := make([]workerState, 0, len(c.workers))
	for _, w := range c.workers {
		states = append(states, w.state())
	}
	return states
}

// kill kills a worker that runs, with what it started, and returns how it was.
func (c *crew) kill(id string) (workerState, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.workers {
		if w.id != id {
			continue
		}
		if state, killed := w.kill(); killed {
			return state, nil
		}
		return workerState{}, problem.Refuse(problem.Unavailable, "The worker has ended, and is started again in a few seconds.")
	}
	return workerState{}, problem.New("TD022", "Unknown worker", "This run started no worker of that id.", "GET /dev/info lists them.")
}
