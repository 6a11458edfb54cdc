package taskdb_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"darkroom/sql/taskdb"
)

// "SET status = 'In Progress', worker_id = worker_identifier, claimed_at = NOW() ... RETURNING *".
func TestSpecClaimSetsStatusWorkerAndTime(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	created := b.image()
	before := value[time.Time](b, "select clock_timestamp()")

	task := b.claimThis(anyWorker, created)

	if task.Status != taskdb.StatusInProgress || text(task.WorkerID) != anyWorker || task.Attempt != 1 ||
		task.ClaimedAt == nil || task.ClaimedAt.Before(before) || time.Since(*task.ClaimedAt) > awhile {
		t.Errorf("claimed %+v", task)
	}
	stored := b.wantStatus(task.ID, taskdb.StatusInProgress)
	if text(stored.WorkerID) != anyWorker || !stored.ClaimedAt.Equal(*task.ClaimedAt) {
		t.Errorf("stored %+v", stored)
	}
	b.wantCredits(10, 1) // held, not deducted
	b.claimNothing(anyWorker)
	b.healthy()
}

// "AND cost <= available_credits": and a task that is too dear does not keep others from running.
func TestSpecClaimTakesOnlyWhatTheOwnerCanPay(t *testing.T) {
	t.Parallel()
	b := setup(t, 11)
	first, second := b.create(travelTask(b.project, b.shot, 2)), b.create(travelTask(b.project, b.shot, 2))
	cheap, cheap2 := b.image(), b.image()
	rich := b.as(1)
	last := rich.image()

	b.claimThis(gpuWorker, first) // 10 of 11 held
	b.claimThis(gpuWorker, cheap) // second is older and cannot be paid
	b.claimThis(gpuWorker, last)  // cheap2 cannot be paid either; another owner's can
	b.claimNothing(gpuWorker)
	b.wantCredits(11, 11)
	b.wantStatus(second.ID, taskdb.StatusQueued)
	b.wantStatus(cheap2.ID, taskdb.StatusQueued)
	b.healthy()

	b.grant(1) // "available": exactly the cost is enough
	b.claimThis(gpuWorker, cheap2)
	b.claimNothing(gpuWorker)
	b.grant(9)
	b.claimNothing(gpuWorker)
	b.grant(1)
	b.claimThis(gpuWorker, second)
	b.healthy()
}

// "ORDER BY created_at ASC": across owners, types and prices.
func TestSpecClaimTakesTheOldestFirst(t *testing.T) {
	t.Parallel()
	b := setup(t, 1000)
	others := []*bench{b, b.as(1000), b.as(1000)}
	var want []uuid.UUID
	for i := range 60 { // more than a lane's window
		o := others[i%3]
		task := o.image()
		if i%5 == 0 {
			task = o.create(taskdb.NewTask{TaskType: "travel_segment", Params: object()})
			want = append(want, value[uuid.UUID](b, "select id from tasks where id <> $1 order by created_at desc limit 1", task.ID))
		}
		want = append(want, task.ID)
	}
	for i, id := range want {
		if got := b.claim(gpuWorker); got.ID != id {
			t.Fatalf("claim %d took %s, want %s", i, got.ID, id)
		}
	}
	b.claimNothing(gpuWorker)
	b.healthy()
}

// A task that comes back stands in its old place: before what is younger.
func TestClaimTakesAReturnedTaskInItsOldPlace(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	var tasks []taskdb.Task
	for range 40 {
		tasks = append(tasks, b.image())
	}
	held := make([]taskdb.Task, 20)
	for i := range held {
		held[i] = b.claimThis(anyWorker, tasks[i])
	}
	for _, i := range []int{17, 3, 0, 11} {
		b.release(held[i])
	}
	b.healthy()
	for _, i := range []int{0, 3, 11, 17, 20, 21} {
		b.claimThis(anyWorker, tasks[i])
	}
	b.healthy()
}

// "Task Type Routing": who may run what.
func TestSpecClaimRoutesByTaskType(t *testing.T) {
	t.Parallel()
	segment := taskdb.NewTask{TaskType: "travel_segment", Params: object()}
	stitch := taskdb.NewTask{TaskType: "travel_stitch", Params: object()}
	for name, c := range map[string]struct {
		sentence string
		task     taskdb.NewTask
		anybody  bool
	}{
		"single_image":        {"single_image -> Can be handled by any worker", imageTask(uuid.Nil), true},
		"travel_orchestrator": {"travel_orchestrator -> Requires Headless-Wan2GP", travelTask(uuid.Nil, uuid.Nil, 2), false},
		"travel_segment":      {"travel_segment -> Requires Headless-Wan2GP", segment, false},
		"travel_stitch":       {"travel_stitch -> Requires Headless-Wan2GP", stitch, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, 100)
			task := b.create(c.task)
			_, byAny, err := b.ClaimNextTask(t.Context(), anyWorker)
			b.noError(err)
			if byAny != c.anybody {
				t.Errorf("a worker without capability got it: %v; the spec says %q", byAny, c.sentence)
			}
			if byAny {
				task = b.create(c.task)
			}
			b.claimThis(gpuWorker, task)
			b.healthy()
		})
	}
}

// A worker can say which types it wants; it then gets no other, even of those it could run.
func TestClaimGivesAWorkerOnlyTheTypesItWants(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	_, err := b.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: "stitcher", Capabilities: []string{"wan2gp"}, TaskTypes: []string{"travel_stitch"}})
	b.noError(err)
	_, err = b.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: "liar", TaskTypes: []string{"travel_stitch"}})
	b.noError(err)
	b.image()
	stitch := b.create(taskdb.NewTask{TaskType: "travel_stitch", Params: object()})

	b.claimNothing("liar")
	b.claimThis("stitcher", stitch)
	b.claimNothing("stitcher")
}

// A claim can want fewer types than the worker registered, and never gets more than those.
func TestAClaimCanWantFewerTypes(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	_, err := b.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: "both", Capabilities: []string{"wan2gp"}, TaskTypes: []string{"single_image", "travel_stitch"}})
	b.noError(err)
	image := b.image()
	stitch := b.create(taskdb.NewTask{TaskType: "travel_stitch", Params: object()})
	b.create(taskdb.NewTask{TaskType: "travel_segment", Params: object()})

	for _, c := range []struct {
		wanted []string
		want   []uuid.UUID
	}{
		{[]string{}, nil},
		{[]string{"travel_segment", "no_such_type"}, nil}, // one not registered, one not known
		{[]string{"travel_stitch"}, []uuid.UUID{stitch.ID}},
		{nil, []uuid.UUID{image.ID}},
	} {
		tasks, err := b.ClaimNextTasks(t.Context(), "both", 10, c.wanted)
		b.noError(err)
		var got []uuid.UUID
		for _, task := range tasks {
			got = append(got, task.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("wanting %v it got %v, want %v", c.wanted, got, c.want)
		}
	}
	b.healthy()
}

// A worker cannot offer what the database does not know: nobody could create such a task.
func TestAWorkerCannotOfferAnUnknownType(t *testing.T) {
	t.Parallel()
	b := setup(t, 0)
	_, err := b.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: "w", TaskTypes: []string{"single_image", "dancing"}})
	wantRefusal(t, err, taskdb.ErrUnknownType)
	if err == nil || !strings.Contains(err.Error(), `"dancing"`) {
		t.Errorf("%v", err)
	}
}

func TestClaimRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	b.image()
	_, _, err := b.ClaimNextTask(t.Context(), "nobody")
	wantRefusal(t, err, taskdb.ErrUnknownWorker)
	for _, n := range []int{0, -1, 1001} {
		_, err = b.ClaimNextTasks(t.Context(), anyWorker, n, nil)
		wantRefusal(t, err, taskdb.ErrInvalidParams)
	}
}

// Every function that decides under the owner's lock demands READ COMMITTED: under another isolation it would decide on a snapshot
// taken before the lock was had.
func TestReadCommittedIsDemanded(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	b.image()
	held := b.claim(anyWorker)
	b.image()
	calls := map[string]func(db *taskdb.DB) error{
		"claim": func(db *taskdb.DB) error {
			_, _, err := db.ClaimNextTask(t.Context(), anyWorker)
			return err
		},
		"complete": func(db *taskdb.DB) error {
			_, err := db.CompleteTask(t.Context(), taskdb.HoldOf(held), taskdb.Output{Location: "x"})
			return err
		},
		"fail": func(db *taskdb.DB) error {
			_, err := db.FailTask(t.Context(), taskdb.HoldOf(held), "x")
			return err
		},
		"release": func(db *taskdb.DB) error {
			_, err := db.ReleaseTask(t.Context(), taskdb.HoldOf(held), "x")
			return err
		},
		"cancel": func(db *taskdb.DB) error {
			_, err := db.CancelTask(t.Context(), held.ID, "x")
			return err
		},
		"grant": func(db *taskdb.DB) error {
			_, err := db.GrantCredits(t.Context(), b.owner, taskdb.WholeCredits(1), "", "")
			return err
		},
		"admit": func(db *taskdb.DB) error {
			_, err := db.AdmitTasks(t.Context(), b.owner)
			return err
		},
	}
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		for name, call := range calls {
			tx, err := b.pg.Pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
			b.noError(err)
			err = call(taskdb.New(tx))
			b.noError(tx.Rollback(t.Context()))
			t.Run(string(level)+" "+name, func(t *testing.T) {
				wantRefusal(t, err, taskdb.ErrIsolation)
			})
		}
		tx, err := b.pg.Pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
		b.noError(err)
		_, err = taskdb.New(tx).CreateTask(t.Context(), imageTask(b.project))
		b.noError(err)
		if err = tx.Commit(t.Context()); err == nil {
			t.Errorf("a task was created under %s", level)
		}
	}
	b.claim(anyWorker)
	b.claimNothing(anyWorker)
	// The answer does not depend on whether there is anything to claim.
	tx, err := b.pg.Pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	b.noError(err)
	_, _, err = taskdb.New(tx).ClaimNextTask(t.Context(), anyWorker)
	b.noError(tx.Rollback(t.Context()))
	wantRefusal(t, err, taskdb.ErrIsolation)
}

// A batch hands out what that many single claims would.
func TestABatchEqualsSingles(t *testing.T) {
	t.Parallel()
	fill := func(b *bench) []uuid.UUID {
		var list []uuid.UUID
		for i := range 50 {
			switch i % 7 {
			case 2:
				list = append(list, b.create(taskdb.NewTask{TaskType: "travel_segment", Params: object()}).ID)
			case 5:
				list = append(list, b.create(travelTask(b.project, b.shot, 3)).ID)
			default:
				list = append(list, b.image().ID)
			}
		}
		return list
	}
	// Each task's place in the order of creation is what can be compared between two databases.
	places := func(created, claimed []uuid.UUID) []int {
		list := make([]int, len(claimed))
		for i, id := range claimed {
			list[i] = slices.Index(created, id)
		}
		return list
	}
	for _, credits := range []int64{36, 100, 100_000} {
		single, batch := setup(t, 100), setup(t, 100)
		order, batchOrder := fill(single), fill(batch)
		for _, b := range []*bench{single, batch} { // what is available is the difference
			b.exec("select darkroom.append_ledger($1, 'hold', 100, gen_random_uuid(), 1)", b.owner)
			b.grant(credits)
		}
		var singles, batches []uuid.UUID
		for {
			task, found, err := single.ClaimNextTask(t.Context(), gpuWorker)
			single.noError(err)
			if !found {
				break
			}
			singles = append(singles, task.ID)
		}
		for {
			tasks, err := batch.ClaimNextTasks(t.Context(), gpuWorker, 9, nil)
			batch.noError(err)
			if len(tasks) == 0 {
				break
			}
			batches = append(batches, ids(tasks)...)
		}
		if got, want := places(batchOrder, batches), places(order, singles); !slices.Equal(got, want) {
			t.Errorf("with %d credits batches took %v, singles %v", credits, got, want)
		}
		if single.credits().Available != batch.credits().Available {
			t.Errorf("credits differ: %v, %v", single.credits(), batch.credits())
		}
	}
}

// Lanes that could not be paid are shown again as soon as they can be, the oldest first, whatever stands in their window.
func TestParkedLanesAreShownAfterAGrant(t *testing.T) {
	t.Parallel()
	b := setup(t, 1)
	var tasks []taskdb.Task
	for range 40 {
		tasks = append(tasks, b.image())
	}
	b.claimThis(anyWorker, tasks[0])
	b.claimNothing(anyWorker)
	if n := value[int](b, "select count(*) from darkroom.task_ready where not parked"); n != 0 {
		t.Errorf("%d rows of a broke owner are in the claim's sight", n)
	}
	b.healthy()
	for i := range 39 {
		b.grant(1)
		b.claimThis(anyWorker, tasks[i+1])
		b.claimNothing(anyWorker)
	}
	b.healthy()
}

// A release or failure gives credits back, and what they can pay runs.
func TestParkedLanesAreShownAfterARelease(t *testing.T) {
	t.Parallel()
	b := setup(t, 1)
	first, second := b.image(), b.image()
	held := b.claimThis(anyWorker, first)
	b.claimNothing(anyWorker)
	b.release(held)
	held = b.claimThis(anyWorker, first)
	b.claimNothing(anyWorker)
	b.fail(held, "no")
	held = b.claimThis(anyWorker, second)
	_, err := b.CancelTask(t.Context(), held.ID, "")
	b.noError(err)
	b.wantCredits(1, 0)
	b.healthy()
}

// A broke owner's backlog costs the others nothing: a claim sees none of it.
func TestABrokeOwnersBacklogHidesNobody(t *testing.T) {
	t.Parallel()
	b := setup(t, 1)
	tasks := make([]taskdb.NewTask, 2000)
	for i := range tasks {
		tasks[i] = imageTask(b.project)
	}
	_, err := b.CreateTasks(t.Context(), tasks)
	b.noError(err)
	b.claim(anyWorker)
	other := b.as(10)
	var want []taskdb.Task
	for range 10 {
		want = append(want, other.image())
	}
	for _, task := range want {
		b.claimThis(anyWorker, task)
	}
	b.claimNothing(anyWorker)
	b.grant(2)
	b.claim(anyWorker)
	b.claim(anyWorker)
	b.claimNothing(anyWorker)
	b.healthy()
}
