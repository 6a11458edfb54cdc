package taskdb_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"darkroom/sql/taskdb"
)

// machine runs random calls on the database and on the model, and compares what they answer and what they leave.
type machine struct {
	model

	ctx   context.Context //nolint:containedctx // of the one test it belongs to
	bench *bench
}

var modelWorkers = []string{anyWorker, gpuWorker, "second-gpu"}

// check compares the refusal of a call with the model's; it reports whether the call was accepted.
func check(t *rapid.T, err error, want *taskdb.Error) bool {
	t.Helper()
	switch {
	case want == nil && err != nil:
		t.Fatalf("refused with %v", err)
	case want != nil && !errors.Is(err, want):
		t.Fatalf("answered %v, want %v", err, want)
	}
	return want == nil
}

// try runs a call in a savepoint, because a refusal would end the transaction.
func try[T any](m *machine, t *rapid.T, call func() (T, error)) (T, error) {
	t.Helper()
	m.bench.exec("savepoint call")
	v, err := call()
	if err != nil {
		m.bench.exec("rollback to savepoint call")
	}
	m.bench.exec("release savepoint call")
	return v, err
}

func (m *machine) owner(t *rapid.T) *modelOwner { return rapid.SampledFrom(m.owners).Draw(t, "owner") }

func (m *machine) task(t *rapid.T) *modelTask {
	if len(m.tasks) == 0 {
		t.Skip("no task yet")
	}
	return m.tasks[rapid.IntRange(0, len(m.tasks)-1).Draw(t, "task")]
}

// hold is the fence of a task, mostly the holder's, sometimes an old one or somebody else's.
func (m *machine) hold(t *rapid.T) (*modelTask, taskdb.Hold) {
	task := m.task(t)
	running := slices.DeleteFunc(slices.Clone(m.tasks), func(t *modelTask) bool { return t.status != taskdb.StatusInProgress })
	if len(running) > 0 && rapid.IntRange(0, 3).Draw(t, "running") > 0 {
		task = rapid.SampledFrom(running).Draw(t, "which")
	}
	hold := taskdb.Hold{TaskID: task.id, WorkerID: task.worker, Attempt: task.attempt}
	switch {
	case rapid.IntRange(0, 9).Draw(t, "stale") == 0:
		hold.Attempt--
	case rapid.IntRange(0, 9).Draw(t, "stranger") == 0:
		hold.WorkerID = rapid.SampledFrom(modelWorkers).Draw(t, "worker")
	}
	if ended, ok := task.ended[hold.Attempt]; ok && hold.WorkerID == "" {
		hold.WorkerID = ended.worker // of a task that was given back since
	}
	if hold.WorkerID == "" || hold.Attempt < 1 {
		hold.WorkerID, hold.Attempt = anyWorker, max(1, hold.Attempt)
	}
	return task, hold
}

func (m *machine) create(t *rapid.T, task *modelTask, request taskdb.NewTask) {
	t.Helper()
	request.ProjectID = task.owner.bench.project
	for _, dep := range task.waitsFor {
		request.DependantOn = append(request.DependantOn, dep.id)
	}
	var want *taskdb.Error
	if task.cost > 0 && task.owner.available() < task.cost {
		want = taskdb.ErrInsufficientCredits
	}
	made, err := try(m, t, func() (taskdb.Task, error) { return m.bench.CreateTask(m.ctx, request) })
	if check(t, err, want) {
		task.id, task.kind = made.ID, made.TaskType
		m.add(task)
	}
}

// actions are the calls.
func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"create": func(t *rapid.T) { m.create(t, &modelTask{owner: m.owner(t), cost: 1}, imageTask(uuid.Nil)) },
		"create segment": func(t *rapid.T) {
			m.create(t, &modelTask{owner: m.owner(t), cost: 5}, taskdb.NewTask{TaskType: "travel_segment", Params: object()})
		},
		"create travel": func(t *rapid.T) {
			n := rapid.IntRange(1, 3).Draw(t, "segments")
			m.create(t, &modelTask{owner: m.owner(t), cost: int64(5 * n), segments: n}, travelTask(uuid.Nil, uuid.Nil, n))
		},
		"create waiting": func(t *rapid.T) {
			task := &modelTask{owner: m.task(t).owner, cost: 1}
			for range rapid.IntRange(1, 3).Draw(t, "dependencies") {
				if dep := m.task(t); dep.owner == task.owner {
					task.waitsFor = append(task.waitsFor, dep)
				}
			}
			m.create(t, task, imageTask(uuid.Nil))
		},
		"create many": func(t *rapid.T) { // more than a lane's window
			owner, n := m.owner(t), rapid.IntRange(2, 20).Draw(t, "tasks")
			requests := make([]taskdb.NewTask, n)
			for i := range requests {
				requests[i] = imageTask(owner.bench.project)
			}
			var want *taskdb.Error
			if owner.available() < 1 {
				want = taskdb.ErrInsufficientCredits
			}
			made, err := try(m, t, func() ([]taskdb.Task, error) { return m.bench.CreateTasks(m.ctx, requests) })
			if check(t, err, want) {
				for _, task := range made {
					m.add(&modelTask{id: task.ID, owner: owner, kind: task.TaskType, cost: 1})
				}
			}
		},
		"claim":       m.claimSome,
		"claim again": m.claimSome,
		"expand":      m.expand,
		"complete": func(t *rapid.T) {
			task, hold := m.hold(t)
			want, repeat := task.refusal(hold.WorkerID, hold.Attempt), task.repeats(hold.WorkerID, hold.Attempt, "complete")
			if repeat {
				want = nil
			}
			_, err := try(m, t, func() (taskdb.Task, error) { return m.bench.CompleteTask(m.ctx, hold, taskdb.Output{Location: "x"}) })
			if check(t, err, want) && !repeat {
				m.complete(task)
			}
		},
		"fail": func(t *rapid.T) {
			task, hold := m.hold(t)
			retry, pause := rapid.Bool().Draw(t, "retry"), rapid.SampledFrom([]time.Duration{time.Hour, -time.Hour}).Draw(t, "pause")
			want, repeat := task.refusal(hold.WorkerID, hold.Attempt), task.repeats(hold.WorkerID, hold.Attempt, "failed")
			if repeat {
				want = nil
			}
			_, err := try(m, t, func() (taskdb.Task, error) {
				if retry {
					return m.bench.RetryTask(m.ctx, hold, "no", pause)
				}
				return m.bench.FailTask(m.ctx, hold, "no")
			})
			switch {
			case !check(t, err, want) || repeat:
			case retry:
				m.requeue(task, "failed", pause > 0)
			default:
				m.end(task, taskdb.StatusFailed, "failed")
			}
		},
		"release": func(t *rapid.T) {
			task, hold := m.hold(t)
			_, err := try(m, t, func() (taskdb.Task, error) { return m.bench.ReleaseTask(m.ctx, hold, "") })
			if check(t, err, task.refusal(hold.WorkerID, hold.Attempt)) {
				m.requeue(task, "released", false)
			}
		},
		"progress": func(t *rapid.T) {
			task, hold := m.hold(t)
			_, err := try(m, t, func() (any, error) { return nil, m.bench.ReportProgress(m.ctx, hold, object("percent", 1)) })
			check(t, err, task.refusal(hold.WorkerID, hold.Attempt))
		},
		"heartbeat": m.heartbeat,
		"cancel": func(t *rapid.T) {
			task := m.task(t)
			var want *taskdb.Error
			if task.status == taskdb.StatusComplete || task.status == taskdb.StatusFailed {
				want = taskdb.ErrTaskEnded
			}
			_, err := try(m, t, func() (taskdb.Task, error) { return m.bench.CancelTask(m.ctx, task.id, "") })
			if check(t, err, want) && task.live() {
				m.end(task, taskdb.StatusCancelled, "cancelled")
			}
		},
		"grant": func(t *rapid.T) {
			owner, amount := m.owner(t), rapid.Int64Range(1, 8).Draw(t, "amount")
			_, err := m.bench.GrantCredits(m.ctx, owner.bench.owner, taskdb.WholeCredits(amount), "", "")
			check(t, err, nil)
			owner.balance += amount
		},
		"worker starts anew": func(t *rapid.T) {
			worker := rapid.SampledFrom(modelWorkers[1:]).Draw(t, "worker")
			_, err := m.bench.RegisterWorker(m.ctx, taskdb.Registration{WorkerID: worker, Capabilities: []string{"wan2gp"}})
			check(t, err, nil)
			m.lose(worker, "lost")
		},
		"worker falls silent": func(t *rapid.T) {
			worker := rapid.SampledFrom(modelWorkers).Draw(t, "worker")
			m.bench.age(worker, time.Hour)
			_, err := m.bench.RequeueExpiredTasks(m.ctx, 1000)
			check(t, err, nil)
			m.lose(worker, "expired")
		},
		"retries are due": func(t *rapid.T) {
			m.bench.exec("update tasks set run_after = now() where status = 'Queued' and run_after > now()")
			m.bench.exec("update darkroom.task_delayed set run_after = now()")
			want := 0
			for _, task := range m.tasks {
				if task.delayed {
					task.delayed = false
					want++
				}
			}
			if n, err := m.bench.AdmitDueTasks(m.ctx, 1000); err != nil || n != want {
				t.Fatalf("admitted %d, %v; want %d", n, err, want)
			}
		},
		"sweep": func(t *rapid.T) {
			if report, err := m.bench.SweepTasks(m.ctx, 1000); err != nil || report != (taskdb.SweepReport{}) {
				t.Fatalf("the sweep found %+v, %v", report, err)
			}
		},
		"": m.compare,
	}
}

func (m *machine) claimSome(t *rapid.T) {
	worker := rapid.SampledFrom(modelWorkers).Draw(t, "worker")
	n := rapid.SampledFrom([]int{1, 1, 1, 2, 5, 20}).Draw(t, "batch")
	var want []uuid.UUID
	for len(want) < n {
		task := m.next(worker != anyWorker)
		if task == nil {
			break
		}
		m.claim(task, worker)
		want = append(want, task.id)
	}
	got, err := m.bench.ClaimNextTasks(m.ctx, worker, n, nil)
	check(t, err, nil)
	place := func(a, b taskdb.Task) int { return int(a.JobNo - b.JobNo) }
	slices.SortFunc(got, place) // a batch is in order per round
	if !slices.Equal(ids(got), want) {
		t.Fatalf("%s claimed %v, want %v", worker, ids(got), want)
	}
}

func (m *machine) expand(t *rapid.T) {
	task, hold := m.hold(t)
	want := task.refusal(hold.WorkerID, hold.Attempt)
	if want == nil && task.segments == 0 {
		want = taskdb.ErrInvalidParams
	}
	made, err := try(m, t, func() ([]taskdb.Task, error) { return m.bench.ExpandTravelOrchestrator(m.ctx, hold) })
	if !check(t, err, want) {
		return
	}
	if len(m.children(task)) == 0 {
		var segments []*modelTask
		for _, child := range made {
			added := &modelTask{id: child.ID, owner: task.owner, kind: child.TaskType, parent: task}
			if child.TaskType == "travel_stitch" {
				added.waitsFor = segments
			}
			m.add(added)
			segments = append(segments, added)
		}
	}
	if children := m.children(task); len(children) != task.segments+1 || len(made) != len(children) {
		t.Fatalf("%d children, %d returned, want %d", len(children), len(made), task.segments+1)
	}
}

func (m *machine) heartbeat(t *rapid.T) {
	task, hold := m.hold(t)
	var want []taskdb.Verdict
	switch {
	case task.status == taskdb.StatusInProgress && task.worker == hold.WorkerID && task.attempt == hold.Attempt:
	case !task.live() && task.attempt == hold.Attempt:
		want = []taskdb.Verdict{{TaskID: task.id, Attempt: hold.Attempt, Verdict: "cancelled"}}
	default:
		want = []taskdb.Verdict{{TaskID: task.id, Attempt: hold.Attempt, Verdict: "lost"}}
	}
	got, err := m.bench.HeartbeatWorker(m.ctx, hold.WorkerID, []taskdb.Running{{TaskID: task.id, Attempt: hold.Attempt}}, nil)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("the heartbeat said %v, %v; want %v", got, err, want)
	}
}

// compare holds the rows against the model.
func (m *machine) compare(t *rapid.T) {
	for _, owner := range m.owners {
		got, err := m.bench.GetCredits(m.ctx, owner.bench.owner)
		if err != nil || got.Balance != taskdb.WholeCredits(owner.balance) || got.Held != taskdb.WholeCredits(owner.held) || got.Available < 0 {
			t.Fatalf("credits are %+v, %v; want %d, %d", got, err, owner.balance, owner.held)
		}
	}
	rows, err := m.bench.sql.Query(m.ctx, "select * from tasks order by created_at, job_no")
	check(t, err, nil)
	tasks, err := pgx.CollectRows(rows, pgx.RowToStructByName[taskdb.Task])
	check(t, err, nil)
	if len(tasks) != len(m.tasks) {
		t.Fatalf("%d tasks, want %d", len(tasks), len(m.tasks))
	}
	for i, got := range tasks {
		want := m.tasks[i]
		if got.ID != want.id || got.Status != want.status || got.Attempt != want.attempt || got.FailedAttempts != want.failed ||
			got.Cost != taskdb.WholeCredits(want.cost) || got.OwnerID != want.owner.bench.owner ||
			got.Status != taskdb.StatusCancelled && got.Status != taskdb.StatusFailed && text(got.WorkerID) != want.worker ||
			got.GenerationCreated != (want.status == taskdb.StatusComplete && (want.kind == "single_image" || want.kind == "travel_stitch")) {
			t.Fatalf("task %d is %+v, want %+v", i, got, *want)
		}
	}
}

// The whole API, in random order, does what the model says.
func TestModel(t *testing.T) {
	t.Parallel()
	outer := setup(t, 0)
	outer.register("second-gpu", "wan2gp")
	rapid.Check(t, func(rt *rapid.T) {
		outer.inTx(t, func(b *bench) {
			m := &machine{ctx: t.Context(), bench: b}
			for range 2 {
				owner := &modelOwner{bench: b.as(12), balance: 12}
				m.owners = append(m.owners, owner)
			}
			rt.Repeat(m.actions())
			violations, err := b.InvariantViolations(t.Context())
			if err != nil || len(violations) != 0 {
				rt.Fatalf("invariants: %+v, %v", violations, err)
			}
		})
	})
}
