package taskdb_test

import (
	"cmp"
	"slices"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// modelTask is what the contract says about one task.
type modelTask struct {
	id       uuid.UUID
	owner    *modelOwner
	kind     string
	cost     int64
	status   string
	attempt  int
	failed   int
	worker   string
	waitsFor []*modelTask
	parent   *modelTask
	segments int // of an orchestrator
	delayed  bool
	// ended is, by attempt, who ran it and how it ended.
	ended map[int]modelEnd
}

type modelEnd struct{ worker, outcome string }

type modelOwner struct {
	bench         *bench
	balance, held int64
}

func (o *modelOwner) available() int64 { return o.balance - o.held }

// model is the contract of the database core in plain Go: what each call does to the tasks, in the order of their creation, and to the
// credits. One call at a time.
type model struct {
	owners []*modelOwner
	tasks  []*modelTask
}

const modelMaxAttempts = 3

func (m *model) add(task *modelTask) {
	task.status, task.ended = taskdb.StatusQueued, map[int]modelEnd{}
	m.tasks = append(m.tasks, task)
	for _, dep := range task.waitsFor {
		if dep.status == taskdb.StatusFailed || dep.status == taskdb.StatusCancelled {
			m.end(task, taskdb.StatusFailed, "failed")
			return
		}
	}
}

func (t *modelTask) live() bool {
	return t.status == taskdb.StatusQueued || t.status == taskdb.StatusInProgress
}

func (m *model) children(parent *modelTask) []*modelTask {
	return slices.DeleteFunc(slices.Clone(m.tasks), func(t *modelTask) bool { return t.parent != parent })
}

func (m *model) hasLiveChildren(parent *modelTask) bool {
	return slices.ContainsFunc(m.children(parent), (*modelTask).live)
}

// next is the task that a single claim gives, or nil.
func (m *model) next(anyRoute bool) *modelTask {
	for _, task := range m.tasks {
		waits := slices.ContainsFunc(task.waitsFor, func(dep *modelTask) bool { return dep.status != taskdb.StatusComplete })
		if task.status == taskdb.StatusQueued && !task.delayed && !waits && (anyRoute || task.kind == "single_image") &&
			task.cost <= max(0, task.owner.available()) {
			return task
		}
	}
	return nil
}

func (m *model) claim(task *modelTask, worker string) {
	task.status, task.worker = taskdb.StatusInProgress, worker
	task.attempt++
	task.owner.held += task.cost
}

// refusal is what a call with this fence is answered: nil when it is the holder's.
func (t *modelTask) refusal(worker string, attempt int) *taskdb.Error {
	switch {
	case t.status == taskdb.StatusInProgress && t.worker == worker && t.attempt == attempt:
		return nil
	case t.live() || t.worker != worker || t.attempt != attempt:
		return taskdb.ErrLeaseLost
	default:
		return taskdb.ErrTaskEnded
	}
}

// repeats says whether this attempt ended so already and nothing came after it.
func (t *modelTask) repeats(worker string, attempt int, outcome string) bool {
	return t.status != taskdb.StatusInProgress && t.attempt == attempt && t.ended[attempt] == modelEnd{worker, outcome}
}

func (t *modelTask) endAttempt(outcome string) {
	t.ended[t.attempt] = modelEnd{t.worker, outcome}
	t.owner.held -= t.cost
	if outcome == "complete" {
		t.owner.balance -= t.cost
	}
}

func (m *model) complete(task *modelTask) {
	task.endAttempt("complete")
	task.status = taskdb.StatusComplete
	if task.kind == "travel_stitch" && task.parent != nil && task.parent.status == taskdb.StatusInProgress {
		m.complete(task.parent)
	}
}

// end ends a task as Failed or Cancelled, with its tree; what waits for any of those fails.
func (m *model) end(task *modelTask, status, outcome string) {
	seeds := []*modelTask{task}
	for len(seeds) > 0 {
		var closed []*modelTask
		for _, seed := range seeds {
			root := seed
			if seed.parent != nil {
				root = seed.parent
			}
			for _, t := range append([]*modelTask{root}, m.children(root)...) {
				if !t.live() {
					continue
				}
				if t.status == taskdb.StatusInProgress {
					if t == task && (outcome == "failed" || outcome == "expired" || outcome == "lost") {
						t.failed++
					}
					t.endAttempt(map[bool]string{true: outcome, false: "cancelled"}[t == task])
				}
				t.status, t.delayed = status, false
				closed = append(closed, t)
			}
		}
		seeds = nil
		for _, t := range m.tasks {
			if t.status == taskdb.StatusQueued && slices.ContainsFunc(t.waitsFor, func(dep *modelTask) bool { return slices.Contains(closed, dep) }) {
				seeds = append(seeds, t)
			}
		}
		status = taskdb.StatusFailed
	}
}

// requeue gives a task back after its attempt was lost, failed or released.
func (m *model) requeue(task *modelTask, outcome string, delayed bool) {
	counted := outcome != "released"
	switch {
	case m.hasLiveChildren(task):
		if counted {
			m.end(task, taskdb.StatusFailed, outcome)
		}
	case counted && task.failed+1 >= modelMaxAttempts:
		m.end(task, taskdb.StatusFailed, outcome)
	default:
		task.endAttempt(outcome)
		task.status, task.worker, task.delayed = taskdb.StatusQueued, "", delayed
		if counted {
			task.failed++
		}
	}
}

// lose gives back all that a worker holds, in the order of owner and id.
func (m *model) lose(worker, outcome string) {
	held := slices.DeleteFunc(slices.Clone(m.tasks), func(t *modelTask) bool { return t.status != taskdb.StatusInProgress || t.worker != worker })
	slices.SortFunc(held, func(a, b *modelTask) int {
		return cmp.Or(slices.Compare(a.owner.bench.owner[:], b.owner.bench.owner[:]), slices.Compare(a.id[:], b.id[:]))
	})
	skipped := map[*modelTask]bool{}
	for _, task := range held {
		skipped[task] = m.hasLiveChildren(task) // an expiry looks at all of them first
	}
	for _, task := range held {
		if task.status == taskdb.StatusInProgress && task.worker == worker && !m.hasLiveChildren(task) && (outcome == "lost" || !skipped[task]) {
			m.requeue(task, outcome, false)
		}
	}
}
