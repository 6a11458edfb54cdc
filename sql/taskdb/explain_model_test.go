package taskdb_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"darkroom/sql/taskdb"
)

// claimable lists, in order, what a worker's claims hand out one after the other when each task that was handed out costs its owner nothing and is gone. It
// leaves nothing behind.
func (m *machine) claimable(t *rapid.T, worker string, claims map[string]any) []uuid.UUID {
	t.Helper()
	m.bench.exec("savepoint claims")
	var list []uuid.UUID
	for {
		m.bench.exec("savepoint call") // for the role
		if claims != nil {
			m.bench.become("worker", claims)
		}
		task, found, err := m.bench.ClaimNextTask(m.ctx, worker)
		check(t, err, nil)
		m.bench.exec("select set_config('role', 'none', true), set_config('request.jwt.claims', '', true)")
		if !found {
			break
		}
		list = append(list, task.ID)
		m.bench.exec("delete from credit_ledger where task_id = $1 and attempt = $2 and kind = 'hold'", task.ID, task.Attempt)
		m.bench.exec("update tasks set status = 'Cancelled' where id = $1", task.ID)
	}
	m.bench.exec("rollback to savepoint claims")
	return list
}

// sabotage does to the queue what only a fault of ours could do.
func (m *machine) sabotage(t *rapid.T) {
	hurt := rapid.SampledFrom([]string{
		"update darkroom.task_ready set parked = not parked where job_no % 4 = $1",
		"update darkroom.task_ready set parked = true where job_no % 4 >= $1",
		"delete from darkroom.task_ready where job_no % 5 = $1",
		"delete from darkroom.task_backlog where job_no % 5 = $1",
		"delete from darkroom.task_deps d using tasks t where t.id = d.task_id and t.job_no % 3 = $1",
		"update darkroom.task_delayed set run_after = now() from tasks t where t.id = task_id and t.job_no % 2 = $1",
	}).Draw(t, "fault")
	m.bench.exec(hurt, rapid.IntRange(0, 3).Draw(t, "which"))
}

// compareExplanations holds what explain_task says of every task against what claims do.
func (m *machine) compareExplanations(t *rapid.T, own map[string]any) {
	t.Helper()
	alive := map[string]bool{}
	workers, err := m.bench.ListWorkers(m.ctx)
	check(t, err, nil)
	for _, w := range workers {
		alive[w.ID] = w.Alive
	}
	orders := map[string][]uuid.UUID{"": m.claimable(t, gpuWorker, nil)} // "": what some worker could run, if one were alive
	for _, worker := range append([]string{"segments", "orchestrators"}, modelWorkers...) {
		orders[worker] = m.claimable(t, worker, nil)
	}
	ownID := value[string](m.bench, "select id from workers where owner_id is not null")
	orders[ownID] = m.claimable(t, "own", own)

	for i, task := range m.tasks {
		if i%(1+len(m.tasks)/40) != 0 {
			continue // some are enough
		}
		got, err := m.bench.ExplainTask(m.ctx, task.id)
		check(t, err, nil)
		runnable := slices.Contains(orders[""], task.id)
		if got.Runnable != runnable || got.Status != task.status {
			t.Fatalf("%s %s: runnable %v, claims hand it out: %v: %+v", got.Status, task.kind, got.Runnable, runnable, got)
		}
		// Its turn with the worker that comes to it first.
		first := int64(0)
		for worker, order := range orders {
			if place := slices.Index(order, task.id) + 1; place > 0 && alive[worker] && (first == 0 || int64(place) < first) {
				first = int64(place)
			}
		}
		switch {
		case !runnable:
			if got.QueuePosition != nil || len(got.Reasons) == 0 {
				t.Fatalf("%s %s is not runnable and has position %v, %+v", got.Status, task.kind, got.QueuePosition, got.Reasons)
			}
		case first == 0: // nobody is alive
			if codes := codesOf(got); got.QueuePosition == nil || got.ExpectedStart != nil || got.Reasons[0].Code != "workers_silent" {
				t.Fatalf("nobody can run it: position %v, start %v, %s", got.QueuePosition, got.ExpectedStart, codes)
			}
		case *got.QueuePosition != first:
			t.Fatalf("%s: position %d, want %d: %+v\n%v", task.kind, *got.QueuePosition, first, got.Reasons, orders)
		}
	}
}

// In any state that the API can leave, and in states that faults could leave: explain_task says that a task is runnable exactly when claims hand it out, and
// of the workers that are alive the first to come to it does so at its position. So it is at 1 exactly when some worker's next claim gives it.
func TestExplanationEqualsTheClaim(t *testing.T) {
	t.Parallel()
	outer := setup(t, 0)
	outer.register("second-gpu", "wan2gp")
	for worker, types := range map[string][]string{"segments": {"travel_segment", "travel_stitch"}, "orchestrators": {"travel_segment", "travel_orchestrator"}} {
		_, err := outer.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: worker, Capabilities: []string{"wan2gp"}, TaskTypes: types})
		outer.noError(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		outer.inTx(t, func(b *bench) {
			m := &machine{ctx: t.Context(), bench: b}
			for range 2 {
				m.owners = append(m.owners, &modelOwner{bench: b.as(12), balance: 12})
			}
			own := b.workerToken(m.owners[0].bench.owner)
			b.exec("savepoint worker")
			b.become("worker", own)
			_, err := b.RegisterWorker(m.ctx, taskdb.Registration{WorkerID: "own"})
			check(rt, err, nil)
			b.exec("select set_config('role', 'none', true), set_config('request.jwt.claims', '', true)")

			if _, err := m.bench.TickReadyMark(m.ctx, true); err != nil {
				rt.Fatal(err)
			}
			actions := m.actions()
			for range rapid.SampledFrom([]int{0, 0, 4}).Draw(rt, "full") { // a window and a backlog
				actions["create many"](rt)
			}
			rt.Repeat(actions)
			if rapid.Bool().Draw(rt, "faulty") {
				m.sabotage(rt)
				m.sabotage(rt)
			}
			m.compareExplanations(rt, own)
		})
	})
}
