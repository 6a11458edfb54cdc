package worker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
	"darkroom/workerd/engine"
)

const (
	// tripAfter is how many runs in a row may fail by the fault of an engine that says it is well.
	tripAfter    = 3
	longestRest  = 5 * time.Minute
	idleChecks   = 12 // an engine that is up and idle is asked how it is this much more seldom than one that is down
	checkTimeout = 10 * time.Second

	maxRemembered = 1000 // tasks for which memory ran out
)

// State says whether tasks of an engine are claimed.
type State string

// States of an engine.
const (
	Up      State = "up"      // as many as it has slots
	Down    State = "down"    // none
	Probing State = "probing" // one at a time, until one succeeds
)

// EngineStatus is what a worker says of one of its engines, in workers.info and at GET /healthz.
type EngineStatus struct {
	Name        string    `json:"name"`
	Kind        string    `json:"kind"`         // native, media, exec, comfyui, openai, cog
	Device      string    `json:"device"`       // such as "cpu" or "cuda:0"
	MemoryBytes int64     `json:"memory_bytes"` // of the device; 0 when unknown
	Models      []string  `json:"models"`
	TaskTypes   []string  `json:"task_types"` // those that it does here: another engine may have been first
	Slots       int       `json:"slots"`
	Busy        int       `json:"busy"`
	State       State     `json:"state"`
	Since       time.Time `json:"since"`            // when it came into that state
	Reason      string    `json:"reason,omitempty"` // why it is not up
}

// Status is what a worker says of itself, in workers.info and at GET /healthz.
type Status struct {
	Slots   int            `json:"slots"`
	Busy    int            `json:"busy"`
	Engines []EngineStatus `json:"engines"`
}

// station is an engine with its slots and its state.
type station struct {
	Engine

	info  engine.Info
	types []string // that it does here

	busy     int
	state    State
	since    time.Time
	reason   string
	failures int                // by its fault, in a row, not counting those of one time that it was down
	rest     time.Duration      // before it is asked how it is
	backOff  time.Duration      // the rest after it last failed while it said it was well
	fallen   chan struct{}      // it is down
	starved  bool               // a claim left its types out for lack of a slot
	waiting  int                // who waits for a slot besides claims, and goes first
	ranOut   map[uuid.UUID]bool // tasks for which it ran out of memory
}

// roster knows the engines of a worker: which does what, which slots are free, which engine is well.
type roster struct {
	log        *slog.Logger
	checkEvery time.Duration
	wake       chan struct{} // want may say more than it did
	changed    chan struct{} // an engine came into another state
	byType     map[string]*station
	expands    bool // orchestrators, too

	mu          sync.Mutex
	stations    []*station
	slots, busy int
	waiting     int           // as of the stations, together
	starved     bool          // a claim wanted nothing for lack of a slot
	freed       chan struct{} // closed when a slot or an engine may have become free
}

// newRoster gives each task type to the first engine that does it. slots limits all engines together.
func newRoster(log *slog.Logger, engines []Engine, slots int, checkEvery time.Duration) *roster {
	r := &roster{
		log: log, checkEvery: checkEvery, slots: slots, byType: map[string]*station{},
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1), freed: make(chan struct{}),
	}
	for _, e := range engines {
		s := &station{
			Engine: e, info: e.Info(), types: []string{}, state: Down, since: time.Now(), reason: "It has not been asked yet.",
			fallen: make(chan struct{}, 1), ranOut: map[uuid.UUID]bool{},
		}
		s.fallen <- struct{}{} // so that it is asked
		offers := s.info.TaskTypes
		if e.TaskTypes != nil {
			offers = e.TaskTypes
		}
		for _, taskType := range offers {
			if first := r.byType[taskType]; first != nil {
				log.Info("two engines do one task type: the first one gets its tasks", "task_type", taskType, "first", first.info.Name, "second", s.info.Name)
				continue
			}
			r.byType[taskType] = s
			s.types = append(s.types, taskType)
			r.expands = r.expands || taskType == segment || taskType == stitch
		}
		r.stations = append(r.stations, s)
	}
	return r
}

// taskTypes lists what the worker does, sorted.
func (r *roster) taskTypes() []string {
	types := []string{}
	if r.expands {
		types = append(types, orchestrator)
	}
	for taskType := range r.byType {
		types = append(types, taskType)
	}
	slices.Sort(types)
	return types
}

// free is how many more tasks may run on the engine.
func (s *station) free() int {
	switch s.state {
	case Up:
		return max(0, s.info.Slots-s.busy)
	case Probing:
		return max(0, 1-s.busy)
	case Down:
	}
	return 0
}

// want says what to claim now: up to n tasks, all of which may be of any one of the types.
func (r *roster) want(room int) (types []string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = min(room, r.slots-r.busy-r.waiting)
	if n <= 0 {
		r.starved = true
		return nil, 0
	}
	if r.expands {
		types = append(types, orchestrator)
	}
	for _, s := range r.stations {
		switch free := s.free() - s.waiting; {
		case len(s.types) == 0:
		case free <= 0:
			s.starved = true
		default:
			types = append(types, s.types...)
			n = min(n, free)
		}
	}
	if len(types) == 0 {
		return nil, 0
	}
	return types, n
}

// reserve takes the slots of tasks that were claimed.
func (r *roster) reserve(tasks []taskdb.Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, task := range tasks {
		r.take(r.byType[task.TaskType])
	}
}

func (r *roster) take(s *station) {
	r.busy++
	if s != nil {
		s.busy++
	}
}

// borrow takes a slot for work that was not claimed. It waits for one, before the next claim, but not for an engine that is down.
func (r *roster) borrow(ctx context.Context, s *station) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting++
	s.waiting++
	defer func() {
		r.waiting--
		s.waiting--
	}()
	for s.state != Down && (s.free() == 0 || r.busy >= r.slots) {
		freed := r.freed
		r.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
		}
		r.mu.Lock()
		if err := engine.Stopped(ctx); err != nil {
			r.hunger(s)
			return err
		}
	}
	if s.state == Down {
		return &engine.Error{Class: engine.EngineDown, Message: "The engine is down. " + s.reason}
	}
	r.take(s)
	return nil
}

// hunger lets claims look again when they got less for lack of a slot.
func (r *roster) hunger(s *station) {
	hungry := r.starved
	r.starved = false
	if s != nil {
		hungry = hungry || s.starved
		s.starved = false
	}
	if hungry {
		ring(r.wake)
	}
	close(r.freed)
	r.freed = make(chan struct{})
}

// release gives a slot back.
func (r *roster) release(taskType string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy--
	s := r.byType[taskType]
	if s != nil {
		s.busy--
	}
	r.hunger(s)
}

// status says how the worker and its engines are.
func (r *roster) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := Status{Slots: r.slots, Busy: r.busy, Engines: []EngineStatus{}}
	for _, s := range r.stations {
		status.Engines = append(status.Engines, EngineStatus{
			Name: s.info.Name, Kind: s.Kind, Device: s.info.Device, MemoryBytes: s.info.MemoryBytes, Models: append([]string{}, s.info.Models...),
			TaskTypes: s.types, Slots: s.info.Slots, Busy: s.busy, State: s.state, Since: s.since.UTC().Truncate(time.Millisecond), Reason: s.reason,
		})
	}
	return status
}

// report takes how a run on an engine ended. One that fails by its fault is asked how it is: when it is not well, or fails again and again, no
// task is given to it.
func (r *roster) report(ctx context.Context, s *station, class engine.Class, message string) {
	switch class {
	case "", engine.BadInput: // it works
		r.mu.Lock()
		defer r.mu.Unlock()
		s.failures, s.backOff = 0, 0
		if s.state == Probing {
			r.enter(s, Up, "")
		}
	case engine.EngineDown, engine.Timeout:
		ill := s.ask(context.WithoutCancel(ctx))
		r.mu.Lock()
		defer r.mu.Unlock()
		if s.state == Down {
			return
		}
		s.failures++
		reason := fmt.Sprintf("It says it is well, but the last tasks failed (%d in a row): %s", s.failures, message)
		if ill != nil {
			reason = engine.MessageOf(ill)
		}
		switch {
		case s.state == Probing || s.failures >= tripAfter:
			s.backOff = min(max(2*s.backOff, r.checkEvery), longestRest)
			r.fall(s, s.backOff, reason)
		case ill != nil:
			r.fall(s, r.checkEvery, reason)
		}
	case engine.OutOfMem, engine.Cancelled: // says nothing of the next task
	}
}

// outOfMemory notes that the engine had too little memory for the task, and returns whether that has happened before.
func (r *roster) outOfMemory(s *station, task uuid.UUID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.ranOut[task] {
		delete(s.ranOut, task)
		return true
	}
	if len(s.ranOut) >= maxRemembered {
		clear(s.ranOut)
	}
	s.ranOut[task] = true
	return false
}

func (s *station) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return s.Health(ctx)
}

// watch asks the engine how it is while it is down, and now and then while it is idle, until ctx ends.
func (r *roster) watch(ctx context.Context, s *station) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(idleChecks * r.checkEvery):
			r.miss(s, s.ask(ctx))
			continue
		case <-s.fallen:
		}
		r.mu.Lock()
		rest := s.rest
		r.mu.Unlock()
		for ; ; rest = r.checkEvery {
			select {
			case <-ctx.Done():
				return
			case <-time.After(rest):
			}
			ill := s.ask(ctx)
			if ctx.Err() != nil {
				return
			}
			if r.recover(s, ill) {
				break
			}
		}
	}
}

// miss takes the answer of an engine that was up: so one that went away while it had nothing to do costs no task an attempt. The answer of one
// that works says nothing new.
func (r *roster) miss(s *station, ill error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.state == Up && s.busy == 0 && engine.ClassOf(ill) == engine.EngineDown {
		r.fall(s, r.checkEvery, engine.MessageOf(ill))
	}
}

// recover takes the answer of an engine that is down, and returns whether it is not any more.
func (r *roster) recover(s *station, ill error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case ill == nil && s.backOff > 0:
		r.enter(s, Probing, s.reason)
	case ill == nil:
		r.enter(s, Up, "")
	default:
		if reason := engine.MessageOf(ill); reason != s.reason {
			r.log.Warn("an engine is down: none of its tasks is claimed until it is up", "engine", s.info.Name, "error", ill)
			s.reason = reason
			ring(r.changed)
		}
		return false
	}
	return true
}

func (r *roster) fall(s *station, rest time.Duration, reason string) {
	r.enter(s, Down, reason)
	s.rest = rest
	ring(s.fallen)
}

// enter brings an engine into a state.
func (r *roster) enter(s *station, state State, reason string) {
	s.state, s.since, s.reason = state, time.Now(), reason
	level := slog.LevelInfo
	if state == Down {
		level = slog.LevelError
	}
	r.log.Log(context.Background(), level, "an engine is "+string(state), "engine", s.info.Name, "task_types", s.types, "reason", reason)
	ring(r.changed)
	close(r.freed) // who waits for a slot must not wait for an engine that is down
	r.freed = make(chan struct{})
	if state != Down {
		ring(r.wake)
	}
}

// ring says something to whoever listens next; twice is as good as once.
func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}
