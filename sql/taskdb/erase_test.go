package taskdb_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"darkroom/sql/taskdb"
)

// canary stands in every text that the user who is erased has written.
const canary = "Canary-7f3d"

// mentions counts the rows of each table whose text holds any of the words. The tables are those of the catalog, so that one that comes later is searched, too.
func (b *bench) mentions(words ...string) map[string]int {
	b.t.Helper()
	tables := value[[]string](b, `
		select array_agg(c.oid::regclass::text order by 1) from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`)
	if len(tables) < 20 {
		b.t.Fatalf("only %d tables", len(tables))
	}
	found := map[string]int{}
	for _, table := range tables {
		n := value[int](b, "select count(*) from "+table+" x where exists (select from unnest($1::text[]) w (word) where strpos(lower(x::text), lower(w.word)) > 0)", words)
		if n > 0 {
			found[table] = n
		}
	}
	return found
}

// wantNoTrace demands that the words are nowhere, and the ids nowhere but where an erasure and who asked for it are noted.
func (b *bench) wantNoTrace(ids []string, words ...string) {
	b.t.Helper()
	left := b.mentions(ids...)
	delete(left, "darkroom.erasures")
	delete(left, "darkroom.audit_log")
	if len(left) > 0 {
		b.t.Errorf("ids are left behind: %v", left)
	}
	if left := b.mentions(words...); len(left) > 0 {
		b.t.Errorf("texts are left behind: %v", left)
	}
}

// busy fills every kind of row that a user can have, and returns the ids of tasks in the order complete, running, queued.
func (b *bench) busy() []uuid.UUID {
	b.t.Helper()
	ctx := b.t.Context()
	b.exec("update users set email = $2 where id = $1", b.owner, canary+"@example.com")
	_, err := b.GrantCredits(ctx, b.owner, taskdb.WholeCredits(50), canary, canary)
	b.noError(err)
	_, err = b.CreateProject(ctx, b.owner, canary)
	b.noError(err)
	_, err = b.CreateShot(ctx, b.project, canary)
	b.noError(err)
	token, err := b.CreateAccessToken(ctx, "worker", canary, 0, b.owner)
	b.noError(err)
	b.exec("insert into darkroom.credentials (user_id, email, password_hash, user_metadata) values ($1, $2, 'x', jsonb_build_object('name', $2::text))", b.owner, canary+"@example.com")
	b.exec("insert into darkroom.sessions (user_id) values ($1)", b.owner)
	b.exec("insert into darkroom.refresh_tokens (hash, session_id) select sha256('x'), s.id from darkroom.sessions s where s.user_id = $1", b.owner)
	b.exec("insert into darkroom.uploads (key, owner_id, bytes) values ($1::text || '/uploads/' || $2, $1::uuid, 1)", b.owner, canary+".png")
	b.exec("insert into workers (id, token_id, name, owner_id) values ($1, $2, $1, $3)", canary, token.ID, b.owner)

	done := b.create(taskdb.NewTask{
		ProjectID: b.project, TaskType: "single_image", Params: object("prompt", canary, "shot_id", b.shot), IdempotencyKey: canary,
	})
	_, err = b.CompleteTask(ctx, taskdb.HoldOf(b.claimThis(anyWorker, done)), taskdb.Output{
		Location: canary + ".png", ThumbnailURL: canary + ".jpg", Metadata: json.RawMessage(`{"said":"` + canary + `"}`),
	})
	b.noError(err)
	for _, name := range []string{"gone", "refused"} {
		task := b.image("said", canary+name, "shot_id", uuid.New()) // no such shot: an entry of generation_errors
		b.complete(b.claimThis(anyWorker, task))
		if name == "gone" {
			b.exec("delete from generations where source_task_id = $1", task.ID)
		}
	}
	again := b.image("said", canary)
	_, err = b.RetryTask(ctx, taskdb.HoldOf(b.claimThis(anyWorker, again)), canary, time.Hour)
	b.noError(err)
	running := b.image("said", canary)
	b.claimThis(anyWorker, running)
	b.noError(b.ReportProgress(ctx, taskdb.Hold{TaskID: running.ID, WorkerID: anyWorker, Attempt: 1}, json.RawMessage(`{"phase":"`+canary+`"}`)))
	b.after(running.ID)
	var queued taskdb.Task
	for range 20 {
		queued = b.image("said", canary)
	}
	b.exec("insert into darkroom.queue_repairs (owner_id, task_id, fault) values ($1, $2, 'a test')", b.owner, queued.ID)
	return []uuid.UUID{done.ID, running.ID, queued.ID}
}

func TestS38AnErasedUserLeavesNothingButTheBooks(t *testing.T) {
	t.Parallel()
	a := setup(t, 100)
	ctx := t.Context()
	other := a.as(100)
	tasks := a.busy()
	kept := other.image()
	before := a.mentions(canary, a.owner.String())
	for _, table := range []string{
		"users", "projects", "shots", "tasks", "task_attempts", "workers", "credit_ledger", "generations", "shot_generations", "generation_errors",
		"darkroom.access_tokens", "darkroom.deleted_generations", "darkroom.task_ready", "darkroom.task_backlog", "darkroom.task_deps",
		"darkroom.task_delayed", "darkroom.queue_repairs", "darkroom.task_events", "darkroom.credentials", "darkroom.sessions", "darkroom.uploads",
		"darkroom.queue_room",
	} {
		if before[table] == 0 {
			t.Errorf("the test has put nothing into %s", table)
		}
	}
	sums := "select row(count(*), sum(amount) filter (where kind = 'grant'), sum(amount) filter (where kind = 'settle'))::text from credit_ledger"
	books := value[string](a, sums)
	others := value[string](a, "select jsonb_agg(t order by t.id)::text from tasks t where owner_id = $1", other.owner)

	erasure, err := a.EraseUser(ctx, a.owner)
	a.noError(err)
	if erasure.UserID != a.owner || erasure.SweptAt != nil {
		t.Errorf("%+v", erasure)
	}
	ids := []string{a.owner.String(), a.project.String(), a.shot.String()}
	for _, id := range tasks {
		ids = append(ids, id.String())
	}
	a.wantNoTrace(ids, canary)
	a.healthy()
	other.wantCredits(100, 0)
	if now := value[string](a, "select jsonb_agg(t order by t.id)::text from tasks t where owner_id = $1", other.owner); now != others {
		t.Error("another user's tasks have changed")
	}
	// The hold of the task that ran was released, which is one more entry; grants and settlements are as they were.
	want := strings.Replace(books, "(", "", 1)
	var entries int
	_, err = fmt.Sscanf(want, "%d,", &entries)
	a.noError(err)
	if got, want := value[string](a, sums), strings.Replace(books, strconv.Itoa(entries), strconv.Itoa(entries+1), 1); got != want {
		t.Errorf("the books say %s, want %s", got, want)
	}
	if n := value[int](a, "select count(distinct owner_id) from credit_ledger where note is null and idempotency_key is null and owner_id <> $1", other.owner); n != 1 {
		t.Errorf("%d anonymous accounts", n)
	}

	// The worker that ran it is told to stop, and what it says late changes nothing.
	if n := value[int](a, "select count(*) from darkroom.refresh_tokens"); n != 0 {
		t.Errorf("%d refresh tokens", n)
	}
	verdicts, err := a.HeartbeatWorker(ctx, anyWorker, []taskdb.Running{{TaskID: tasks[1], Attempt: 1}}, nil)
	if err != nil || len(verdicts) != 1 || verdicts[0].Verdict != "lost" {
		t.Errorf("%v %v", verdicts, err)
	}
	_, err = a.CompleteTask(ctx, taskdb.Hold{TaskID: tasks[1], WorkerID: anyWorker, Attempt: 1}, taskdb.Output{Location: canary})
	wantRefusal(t, err, taskdb.ErrTaskNotFound)
	other.claimThis(anyWorker, kept) // nothing of the erased user is before it

	if n := value[int](a, "select count(*) from darkroom.audit_log where act = 'DELETE' and object = 'users' and target = $1", a.owner); n != 1 {
		t.Errorf("the audit log has %d entries", n)
	}
	again, err := a.EraseUser(ctx, a.owner)
	if err != nil || !again.RequestedAt.Equal(erasure.RequestedAt) {
		t.Errorf("a repeat: %+v %v", again, err)
	}
	_, err = a.EraseUser(ctx, uuid.New())
	wantRefusal(t, err, taskdb.ErrUserNotFound)
}

func TestOnlyTheServiceErases(t *testing.T) {
	t.Parallel()
	a := setup(t, 0)
	for role, claims := range map[string]map[string]any{"authenticated": user(a.owner), "worker": {}, "anon": {}} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			a.inTx(t, func(b *bench) {
				b.become(role, claims)
				_, err := b.EraseUser(t.Context(), a.owner)
				b.wantError(asTD(err), &taskdb.Error{Code: "42501"})
			})
		})
	}
}

// A token that has not expired yet does not make the user anew, and neither does the service by mistake.
func TestAnErasedUserStaysAwayForADay(t *testing.T) {
	t.Parallel()
	a := setup(t, 0)
	ctx := t.Context()
	_, err := a.EraseUser(ctx, a.owner)
	a.noError(err)
	_, err = a.CreateUser(ctx, a.owner, "")
	wantRefusal(t, err, taskdb.ErrErased)
	a.inTx(t, func(b *bench) {
		b.become("authenticated", user(a.owner))
		b.wantError(b.attempt(func() error {
			_, err := b.CreateProject(ctx, uuid.Nil, "")
			return err
		}), taskdb.ErrErased)
		b.wantError(b.attempt(func() error {
			_, err := b.sql.Exec(ctx, "insert into projects (name) values ('x')")
			return asTD(err)
		}), taskdb.ErrErased)
	})
	if n, err := a.PurgeExpired(ctx); err != nil || n != 0 {
		t.Errorf("purged %d, %v", n, err)
	}
	a.exec("update darkroom.erasures set requested_at = requested_at - interval '25 hours'")
	if n, err := a.PurgeExpired(ctx); err != nil || n != 0 {
		t.Errorf("purged %d before the files were deleted, %v", n, err)
	}
	_, err = a.MarkErasureSwept(ctx, a.owner)
	a.noError(err)
	if n, err := a.PurgeExpired(ctx); err != nil || n != 1 {
		t.Errorf("purged %d, %v", n, err)
	}
	_, err = a.CreateUser(ctx, a.owner, "")
	a.noError(err)
}

func TestSessionsThatHaveEndedArePurged(t *testing.T) {
	t.Parallel()
	a := setup(t, 0)
	a.exec("insert into darkroom.credentials (user_id, email, password_hash) values ($1, 'a@example.com', 'x')", a.owner)
	a.exec("insert into darkroom.sessions (user_id, used_at) select $1, clock_timestamp() - days * interval '1 day' from unnest(array[1, 29, 31, 60]) as d (days)", a.owner)
	if n, err := a.PurgeExpired(t.Context()); err != nil || n != 2 {
		t.Errorf("purged %d, %v", n, err)
	}
}

func TestAnErasureIsDueAtOnceAndThenHourly(t *testing.T) {
	t.Parallel()
	a := setup(t, 0)
	ctx := t.Context()
	due := func() int {
		t.Helper()
		list, err := a.DueErasures(ctx)
		a.noError(err)
		return len(list)
	}
	_, err := a.MarkErasureSwept(ctx, a.owner)
	wantRefusal(t, err, taskdb.ErrUserNotFound)
	_, err = a.EraseUser(ctx, a.owner)
	a.noError(err)
	if due() != 1 {
		t.Error("not due at once")
	}
	erasure, err := a.MarkErasureSwept(ctx, a.owner)
	if err != nil || erasure.SweptAt == nil {
		t.Errorf("%+v %v", erasure, err)
	}
	if due() != 0 {
		t.Error("due again at once")
	}
	a.exec("update darkroom.erasures set swept_at = swept_at - interval '61 minutes'")
	if due() != 1 {
		t.Error("not due after an hour")
	}
}

// While users are erased, others create, claim, complete and cancel tasks of theirs: nobody is killed by a deadlock, and nothing stays.
func TestErasingAmongWorkAtFullSpeed(t *testing.T) {
	t.Parallel()
	a := setup(t, 0)
	const users = 6
	owners := make([]*bench, users)
	for i := range owners {
		owners[i] = a.as(1000)
	}
	ctx, stop := context.WithTimeout(t.Context(), awhile)
	defer stop()
	var workers, erasers sync.WaitGroup
	deadlock := func(err error) {
		var pg *pgconn.PgError
		if errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code[:2] == "XX") {
			t.Errorf("%v", err)
		}
	}
	for n := range 4 {
		workers.Go(func() {
			worker := fmt.Sprint("w", n)
			_, err := a.RegisterWorker(ctx, taskdb.Registration{WorkerID: worker})
			deadlock(err)
			for i := n; ctx.Err() == nil; i++ {
				task, err := a.CreateTask(ctx, imageTask(owners[i%users].project))
				deadlock(err)
				if err == nil && i%3 == 0 {
					_, err = a.CancelTask(ctx, task.ID, "")
					deadlock(err)
				}
				tasks, err := a.ClaimNextTasks(ctx, worker, 2, nil)
				deadlock(err)
				for _, task := range tasks {
					_, err = a.CompleteTask(ctx, taskdb.HoldOf(task), taskdb.Output{Location: "out/" + task.ID.String()})
					deadlock(err)
				}
			}
		})
	}
	var tries int
	erasers.Go(func() {
		for _, owner := range owners {
			for time.Sleep(200 * time.Millisecond); ctx.Err() == nil; tries++ {
				_, err := a.EraseUser(ctx, owner.owner)
				if err == nil {
					break
				}
				deadlock(err)
			}
		}
	})
	erasers.Wait()
	done := ctx.Err() == nil
	stop()
	workers.Wait()
	if !done {
		t.Fatal("the users could not be erased")
	}
	t.Logf("%d tries for %d users", tries+users, users)
	for _, owner := range owners {
		a.wantNoTrace([]string{owner.owner.String(), owner.project.String()})
	}
	a.healthy()
}

// A task that is being created holds the project and waits at its commit for the owner's lock, which the erasure has: the erasure gives way.
func TestAnErasureGivesWayToATaskThatIsBeingCreated(t *testing.T) {
	t.Parallel()
	a := setup(t, 100)
	ctx := t.Context()
	tx, err := a.pg.Pool.Begin(ctx)
	a.noError(err)
	_, err = taskdb.New(tx).CreateTask(ctx, imageTask(a.project))
	a.noError(err)
	erased := make(chan error, 1)
	go func() {
		_, err := a.EraseUser(ctx, a.owner)
		erased <- err
	}()
	select {
	case err := <-erased:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	a.noError(tx.Commit(ctx))
	a.noError(<-erased)
	if n := value[int](a, "select count(*) from tasks"); n != 0 {
		t.Errorf("%d tasks are left", n)
	}
	a.healthy()
}

func TestErasingTenThousandTasks(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("makes 10,000 tasks")
	}
	a := setup(t, 20_000)
	ctx := t.Context()
	for range 10 {
		list := make([]taskdb.NewTask, 1000)
		for i := range list {
			list[i] = imageTask(a.project, "said", canary)
		}
		_, err := a.CreateTasks(ctx, list)
		a.noError(err)
	}
	for range 10 {
		tasks, err := a.ClaimNextTasks(ctx, anyWorker, 300, nil)
		a.noError(err)
		done := make([]taskdb.Completion, 0, len(tasks))
		for _, task := range tasks[:len(tasks)/2] {
			done = append(done, taskdb.Completion{TaskID: task.ID, Attempt: task.Attempt, OutputLocation: canary})
		}
		_, err = a.CompleteTasks(ctx, anyWorker, done)
		a.noError(err)
	}
	began := time.Now()
	// as the service does over HTTP, under its limit
	a.noError(pgx.BeginFunc(ctx, a.pg.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local role service_role; set local statement_timeout = '12s'; set local lock_timeout = '5s'"); err != nil {
			return err
		}
		_, err := taskdb.New(tx).EraseUser(ctx, a.owner)
		return err
	}))
	t.Logf("10,000 tasks, 1,500 of them running, 1,500 complete: %s", time.Since(began).Round(time.Millisecond))
	a.wantNoTrace([]string{a.owner.String(), a.project.String()}, canary)
	a.healthy()
}
