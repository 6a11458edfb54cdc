package taskdb_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

const (
	anyWorker = "worker-any" // registered with no capability
	gpuWorker = "worker-gpu" // registered with wan2gp
	awhile    = 20 * time.Second
)

// bench is one test's database with a user, a project, a shot and two workers in it.
type bench struct {
	*taskdb.DB
	t       testing.TB
	pg      *taskdbtest.DB
	sql     querier // where statements of the tests themselves run: the pool, or a transaction
	owner   uuid.UUID
	project uuid.UUID
	shot    uuid.UUID
}

// querier is *pgxpool.Pool or pgx.Tx.
type querier interface {
	taskdb.Querier
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// inTx gives a function the same database in a transaction, which is rolled back. New tasks are filed at once.
func (b *bench) inTx(t testing.TB, test func(b *bench)) {
	t.Helper()
	tx, err := b.pg.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }() // nothing to keep
	inside := *b
	inside.DB, inside.t, inside.sql = taskdb.New(tx), t, tx
	inside.exec("set constraints all immediate")
	test(&inside)
}

// setup makes a database whose user has that many credits.
func setup(t testing.TB, credits int64) *bench {
	t.Helper()
	pg := taskdbtest.New(t)
	b := &bench{DB: taskdb.New(pg.Pool), t: t, pg: pg, sql: pg.Pool}
	b.register(anyWorker)
	b.register(gpuWorker, "wan2gp")
	return b.as(credits)
}

// as is the same database seen by a new user with that many credits, a project and a shot.
func (b *bench) as(credits int64) *bench {
	b.t.Helper()
	user, err := b.CreateUser(b.t.Context(), uuid.Nil, "")
	b.noError(err)
	project, err := b.CreateProject(b.t.Context(), user.ID, "test")
	b.noError(err)
	shot, err := b.CreateShot(b.t.Context(), project.ID, "test")
	b.noError(err)
	other := &bench{DB: b.DB, t: b.t, pg: b.pg, sql: b.sql, owner: user.ID, project: project.ID, shot: shot.ID}
	if credits > 0 {
		other.grant(credits)
	}
	return other
}

func (b *bench) noError(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// exec runs a statement as the superuser.
func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.sql.Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

// value reads one value as the superuser.
func value[T any](b *bench, sql string, args ...any) T {
	b.t.Helper()
	rows, err := b.sql.Query(b.t.Context(), sql, args...)
	b.noError(err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func (b *bench) register(worker string, capabilities ...string) {
	b.t.Helper()
	_, err := b.RegisterWorker(b.t.Context(), taskdb.Registration{WorkerID: worker, Capabilities: capabilities})
	b.noError(err)
}

func (b *bench) grant(credits int64) {
	b.t.Helper()
	_, err := b.GrantCredits(b.t.Context(), b.owner, taskdb.WholeCredits(credits), "", "")
	b.noError(err)
}

func (b *bench) credits() taskdb.CreditAccount {
	b.t.Helper()
	account, err := b.GetCredits(b.t.Context(), b.owner)
	b.noError(err)
	return account
}

// wantCredits compares balance and held, in whole credits.
func (b *bench) wantCredits(balance, held int64) {
	b.t.Helper()
	got := b.credits()
	if got.Balance != taskdb.WholeCredits(balance) || got.Held != taskdb.WholeCredits(held) ||
		got.Available != taskdb.WholeCredits(balance-held) {
		b.t.Fatalf("credits are balance %v, held %v, available %v; want %d, %d", got.Balance, got.Held, got.Available, balance, held)
	}
}

func (b *bench) create(task taskdb.NewTask) taskdb.Task {
	b.t.Helper()
	if task.ProjectID == uuid.Nil {
		task.ProjectID = b.project
	}
	created, err := b.CreateTask(b.t.Context(), task)
	b.noError(err)
	return created
}

// image creates a single_image, which costs 1 credit, with these params beside a prompt.
func (b *bench) image(params ...any) taskdb.Task {
	b.t.Helper()
	return b.create(imageTask(b.project, params...))
}

// imageTask is a single_image; params are keys and values.
func imageTask(project uuid.UUID, params ...any) taskdb.NewTask {
	return taskdb.NewTask{ProjectID: project, TaskType: "single_image", Params: object(append([]any{"prompt", "a lighthouse"}, params...)...)}
}

// after is a task that waits for others.
func (b *bench) after(deps ...uuid.UUID) taskdb.Task {
	b.t.Helper()
	task := imageTask(b.project)
	task.DependantOn = deps
	return b.create(task)
}

// object is the JSON of keys and values.
func object(pairs ...any) json.RawMessage {
	fields := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		fields[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	data, err := json.Marshal(fields)
	if err != nil {
		panic(err) // the test's own literal
	}
	return data
}

// travelTask is a travel_orchestrator of n segments, which costs 5 credits each.
func travelTask(project, shot uuid.UUID, n int) taskdb.NewTask {
	images := make([]string, n+1)
	for i := range images {
		images[i] = fmt.Sprintf("image-%d", i)
	}
	return taskdb.NewTask{ProjectID: project, TaskType: "travel_orchestrator", Params: object("orchestrator_details", map[string]any{
		"num_new_segments_to_generate": n, "input_image_paths_resolved": images, "shot_id": shot,
	})}
}

// claim has a worker claim a task, which must be there.
func (b *bench) claim(worker string) taskdb.Task {
	b.t.Helper()
	task, found, err := b.ClaimNextTask(b.t.Context(), worker)
	b.noError(err)
	if !found {
		b.t.Fatalf("%s found nothing to claim", worker)
	}
	return task
}

func (b *bench) claimThis(worker string, task taskdb.Task) taskdb.Task {
	b.t.Helper()
	claimed := b.claim(worker)
	if claimed.ID != task.ID {
		b.t.Fatalf("%s claimed %s %s, want %s %s", worker, claimed.TaskType, claimed.ID, task.TaskType, task.ID)
	}
	return claimed
}

func (b *bench) claimNothing(worker string) {
	b.t.Helper()
	task, found, err := b.ClaimNextTask(b.t.Context(), worker)
	b.noError(err)
	if found {
		b.t.Fatalf("%s claimed %s %s, want nothing", worker, task.TaskType, task.ID)
	}
}

func (b *bench) complete(task taskdb.Task) taskdb.Task {
	b.t.Helper()
	done, err := b.CompleteTask(b.t.Context(), taskdb.HoldOf(task), taskdb.Output{Location: "out/" + task.ID.String()})
	b.noError(err)
	return done
}

func (b *bench) fail(task taskdb.Task, message string) taskdb.Task {
	b.t.Helper()
	failed, err := b.FailTask(b.t.Context(), taskdb.HoldOf(task), message)
	b.noError(err)
	return failed
}

func (b *bench) release(task taskdb.Task) taskdb.Task {
	b.t.Helper()
	released, err := b.ReleaseTask(b.t.Context(), taskdb.HoldOf(task), "stopping")
	b.noError(err)
	return released
}

func (b *bench) expand(task taskdb.Task) []taskdb.Task {
	b.t.Helper()
	children, err := b.ExpandTravelOrchestrator(b.t.Context(), taskdb.HoldOf(task))
	b.noError(err)
	return children
}

func (b *bench) get(id uuid.UUID) taskdb.Task {
	b.t.Helper()
	task, err := b.GetTask(b.t.Context(), id)
	b.noError(err)
	return task
}

// wantStatus compares a task's status and returns the task.
func (b *bench) wantStatus(id uuid.UUID, status string) taskdb.Task {
	b.t.Helper()
	task := b.get(id)
	if task.Status != status {
		b.t.Fatalf("%s %s is %s (%s), want %s", task.TaskType, id, task.Status, text(task.ErrorMessage), status)
	}
	return task
}

// generations lists the project's, newest first.
func (b *bench) generations() []taskdb.Generation {
	b.t.Helper()
	list, err := b.ListGenerations(b.t.Context(), taskdb.Gallery{ProjectID: b.project, MaxRows: 1000})
	b.noError(err)
	return list
}

// age makes the claims and heartbeats of a worker that much older, and the watch over leases long-running.
func (b *bench) age(worker string, by time.Duration) {
	b.t.Helper()
	b.exec("update tasks set claimed_at = claimed_at - $2::interval where worker_id = $1 and status = 'In Progress'", worker, by)
	b.exec("update workers set last_heartbeat = last_heartbeat - $2::interval where id = $1", worker, by)
	b.watched()
}

// watched makes it so that leases were looked at without a gap.
func (b *bench) watched() {
	b.t.Helper()
	b.exec("update darkroom.lease_watch set last_run = clock_timestamp(), resumed_at = '-infinity'")
}

// requeueExpired returns the ids of the tasks whose lease had run out.
func (b *bench) requeueExpired() []uuid.UUID {
	b.t.Helper()
	tasks, err := b.RequeueExpiredTasks(b.t.Context(), 1000)
	b.noError(err)
	return ids(tasks)
}

// healthy demands that no invariant is violated and that the sweep finds nothing to mend.
func (b *bench) healthy() {
	b.t.Helper()
	violations, err := b.InvariantViolations(b.t.Context())
	b.noError(err)
	for i, v := range violations {
		if i == 20 {
			b.t.Errorf("... and %d more", len(violations)-i)
			break
		}
		b.t.Errorf("invariant %d: owner %v, task %v: %s", v.Rule, v.OwnerID, v.TaskID, v.Violation)
	}
	report, err := b.SweepTasks(b.t.Context(), 100_000)
	b.noError(err)
	if report.Repaired != 0 {
		b.t.Errorf("the sweep mended %d faults: %v", report.Repaired,
			value[string](b, "select string_agg(distinct fault, '; ') from darkroom.queue_repairs"))
	}
}

// wantRefusal demands an error of that code, with a sentence of detail.
func wantRefusal(t testing.TB, err error, want *taskdb.Error) {
	t.Helper()
	var refusal *taskdb.Error
	switch {
	case !errors.Is(err, want):
		t.Fatalf("error is %v, want %v", err, want)
	case !errors.As(err, &refusal):
		t.Fatalf("error is a %T", err)
	case refusal.Message != want.Message || refusal.Detail == "":
		t.Fatalf("message is %q, detail %q; want message %q and a detail", refusal.Message, refusal.Detail, want.Message)
	}
}

func ids(tasks []taskdb.Task) []uuid.UUID {
	list := make([]uuid.UUID, len(tasks))
	for i := range tasks {
		list[i] = tasks[i].ID
	}
	return list
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
