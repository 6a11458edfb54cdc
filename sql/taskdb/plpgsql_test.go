package taskdb_test

import (
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// envRequireCheck makes the tests that need the extension plpgsql_check fail where they would be skipped.
const envRequireCheck = "DARKROOM_REQUIRE_PLPGSQL_CHECK"

// needCheck installs plpgsql_check, or skips the test where the server does not have it.
func (b *bench) needCheck() {
	b.t.Helper()
	switch available := value[bool](b, "select exists (select from pg_available_extensions where name = 'plpgsql_check')"); {
	case available:
		b.exec("create extension plpgsql_check")
	case os.Getenv(envRequireCheck) == "1":
		b.t.Fatalf("the server has no extension plpgsql_check, and %s is set", envRequireCheck)
	default:
		b.t.Skip("the server has no extension plpgsql_check")
	}
}

// plpgsql_check finds nothing in any function: no error, no warning, nothing about security or performance.
func TestPlpgsqlCheckFindsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, 0)
	b.needCheck()
	findings := value[[]string](b, `
		select coalesce(array_agg(format('%s line %s: %s %s %s %s', p.oid::regproc, c.lineno, c.level, c.message, c.detail, c.hint)), '{}')
		from pg_proc p join pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
		left join (
		  select distinct on (tgfoid) tgfoid, tgrelid, coalesce(tgnewtable, tgoldtable) as changed from pg_trigger where not tgisinternal
		  order by tgfoid, coalesce(tgnewtable, tgoldtable) is null, tgrelid <> 'generations'::regclass -- which has the columns of all that log_row_change logs
		) t on t.tgfoid = p.oid
		cross join lateral plpgsql_check_function_tb(p.oid, coalesce(t.tgrelid, 0), newtable => t.changed, other_warnings => true, extra_warnings => true,
		  security_warnings => true, performance_warnings => true, compatibility_warnings => true) c
		where p.pronamespace in ('public'::regnamespace, 'darkroom'::regnamespace, 'auth'::regnamespace) and p.proname not like 'plpgsql%'
		  and c.message is distinct from 'never read variable "v_ignored"' -- what is called by assignment, see sql/README.md`)
	for _, finding := range findings {
		t.Error(finding)
	}
	if n := value[int](b, "select count(*) from pg_proc where pronamespace = 'darkroom'::regnamespace"); n < 20 {
		t.Errorf("only %d functions were looked at", n)
	}
}

// coverageFloor is the share of branches that the scenarios must reach, of each of the functions that decide about a task.
const coverageFloor = 0.9

var covered = []string{
	"public.claim_next_tasks", "public.complete_task", "public.create_generation_on_task_complete",
	"darkroom.close_tasks", "darkroom.drop_from_queue", "darkroom.end_attempt", "darkroom.file_task", "darkroom.find_shot",
	"darkroom.finish_orchestrator", "darkroom.insert_generations", "darkroom.lock_held_task", "darkroom.lock_owner", "darkroom.refill_lane",
	"darkroom.check_output", "darkroom.holds_task", "darkroom.known_task", "darkroom.revive_task", "public.update_task_status",
	"darkroom.refuse_hold", "darkroom.release_dependents", "darkroom.requeue_task", "darkroom.unpark_lanes",
}

// The scenarios reach nearly every branch of claim, complete, the trigger, and what they call.
func TestBranchCoverage(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	b.needCheck()
	conn := b.pg.Conn(t) // the profile is kept in the session
	if _, err := conn.Exec(t.Context(), "load 'plpgsql_check'; set plpgsql_check.profiler = on"); err != nil {
		t.Fatal(err)
	}
	profiled := *b
	profiled.DB, profiled.sql = taskdb.New(conn), conn
	for _, scenario := range []func(b *bench){coverClaims, coverEnds, coverGenerations, coverFiling, coverTrees, coverIdentity} {
		scenario(profiled.as(100))
		for left := 1; left > 0; { // for the next one
			tasks, err := profiled.ClaimNextTasks(t.Context(), gpuWorker, 100, nil)
			b.noError(err)
			left = len(tasks)
		}
	}
	for _, function := range covered {
		if !value[bool](&profiled, "select exists (select from pg_proc p join pg_language l on l.oid = p.prolang where p.oid = $1::regproc and l.lanname = 'plpgsql')", function) {
			continue // plain SQL has no branches
		}
		share := value[float64](&profiled, "select plpgsql_coverage_branches($1::regproc::oid)", function)
		t.Logf("%s: %.0f %% of the branches", function, share*100)
		if share < coverageFloor {
			t.Errorf("%s: %.0f %% of the branches are reached, want %.0f", function, share*100, coverageFloor*100)
		}
	}
}

// refused makes a call that must be refused.
func (b *bench) refused(want *taskdb.Error, call func() error) {
	b.t.Helper()
	wantRefusal(b.t, call(), want)
}

func coverClaims(b *bench) {
	ctx := b.t.Context()
	claim := func(worker string, n int) func() error {
		return func() error {
			_, err := b.ClaimNextTasks(ctx, worker, n, nil)
			return err
		}
	}
	b.claimNothing(gpuWorker) // arms the bell
	b.claimNothing(gpuWorker) // it is armed
	b.refused(taskdb.ErrInvalidParams, claim(anyWorker, 0))
	b.refused(taskdb.ErrUnknownWorker, claim("nobody", 1))
	b.exec("begin isolation level repeatable read")
	b.refused(taskdb.ErrIsolation, claim(anyWorker, 1))
	b.exec("rollback")
	b.exec("begin isolation level repeatable read")
	b.refused(taskdb.ErrIsolation, func() error {
		_, err := b.GrantCredits(ctx, b.owner, taskdb.WholeCredits(1), "", "")
		return err
	})
	b.exec("rollback")

	for range 40 { // more than a window, and two types
		b.image()
	}
	for range 3 {
		b.create(taskdb.NewTask{TaskType: "travel_segment", Params: object()})
	}
	_, err := b.ClaimNextTasks(ctx, gpuWorker, 30, nil)
	b.noError(err)
	for {
		tasks, err := b.ClaimNextTasks(ctx, gpuWorker, 7, nil)
		b.noError(err)
		if len(tasks) == 0 {
			break
		}
	}

	// a hint that is wrong, an owner who cannot pay, and owners who are busy
	stale := b.image()
	_, err = b.CancelTask(ctx, stale.ID, "")
	b.noError(err)
	b.exec("insert into darkroom.task_ready select owner_id, task_type, cost, created_at, job_no, id from tasks where id = $1", stale.ID)
	b.claimNothing(gpuWorker)
	broke := b.as(1)
	broke.image()
	broke.image()
	b.claim(gpuWorker)
	b.claimNothing(gpuWorker)
	broke.grant(1)
	b.claim(gpuWorker)

	busy, other := b.as(10), b.as(10)
	other.image()
	busy.image()
	other.image()
	tx, err := b.pg.Pool.Begin(ctx)
	b.noError(err)
	_, err = tx.Exec(ctx, "select darkroom.lock_owner($1)", busy.owner)
	b.noError(err)
	_, err = b.ClaimNextTasks(ctx, gpuWorker, 2, nil) // holds the other owner, so it does not wait for the busy one
	b.noError(err)
	b.claimNothing(gpuWorker)            // waits in vain
	report, err := b.SweepTasks(ctx, 10) // does not wait
	b.noError(err)
	if report.Repaired != 0 {
		b.t.Errorf("the sweep mended %d", report.Repaired)
	}
	granted := make(chan error, 1)
	go func() {
		_, err := b.GrantCredits(ctx, busy.owner, taskdb.WholeCredits(1), "", "") // waits as long as it takes
		granted <- err
	}()
	observer := *b
	observer.sql = b.pg.Pool
	observer.await("select exists (select from pg_locks where locktype = 'advisory' and not granted)")
	b.noError(tx.Rollback(ctx))
	b.noError(<-granted)
	b.claim(gpuWorker)
}

func coverEnds(b *bench) {
	ctx := b.t.Context()
	output := taskdb.Output{Location: "x"}
	complete := func(hold taskdb.Hold, out taskdb.Output) func() error {
		return func() error {
			_, err := b.CompleteTask(ctx, hold, out)
			return err
		}
	}
	b.image()
	task := b.claim(anyWorker)
	b.refused(taskdb.ErrInvalidParams, complete(taskdb.HoldOf(task), taskdb.Output{Location: "x", Metadata: []byte("[]")}))
	b.refused(taskdb.ErrMissingOutput, complete(taskdb.HoldOf(task), taskdb.Output{}))
	b.refused(taskdb.ErrTaskNotFound, complete(taskdb.Hold{TaskID: uuid.New()}, output))
	b.refused(taskdb.ErrLeaseLost, complete(taskdb.Hold{TaskID: task.ID, WorkerID: "x", Attempt: 1}, output))
	waits := b.after(task.ID)
	other := b.image()
	both := b.after(task.ID, other.ID).ID
	b.complete(task)
	b.noError(complete(taskdb.HoldOf(task), output)())
	b.refused(taskdb.ErrTaskEnded, complete(taskdb.Hold{TaskID: task.ID}, output))
	b.complete(b.claimThis(anyWorker, waits))
	b.fail(b.claimThis(anyWorker, other), "no")
	b.wantStatus(both, taskdb.StatusFailed)
	b.refused(taskdb.ErrTaskEnded, func() error {
		_, err := b.ReleaseTask(ctx, taskdb.HoldOf(b.get(other.ID)), "")
		return err
	})
	b.create(taskdb.NewTask{TaskType: "travel_segment", Params: object()})
	_, err := b.CompleteTask(ctx, taskdb.HoldOf(b.claim(gpuWorker)), output) // makes no generation
	b.noError(err)
}

func coverGenerations(b *bench) {
	finish := func(shot any) taskdb.Task {
		b.image("shot_id", shot)
		return b.complete(b.claim(anyWorker))
	}
	finish(nil)
	done := finish(b.shot)
	b.exec("update tasks set generation_created = false where id = $1", done.ID) // it is there
	finish("no uuid")
	finish(uuid.New())
	b.exec("alter table shot_generations add constraint refused check (position is not null) not valid")
	finish(b.shot) // only the link is refused
	b.exec("alter table shot_generations drop constraint refused")
	b.exec("alter table generations add constraint refused check (location is null) not valid")
	spoiled := finish(b.shot)
	b.exec("alter table generations drop constraint refused")
	b.exec("update tasks set status = status where id = $1", spoiled.ID)
	b.exec("alter table shot_generations add constraint refused check (position is not null) not valid")
	b.exec("create sequence public.tries")
	b.exec(`create function public.second_time() returns trigger language plpgsql security definer as $$ begin
		if nextval('public.tries') > 1 then raise check_violation; end if; return new; end $$`)
	b.exec("create trigger second_time before insert on generations for each row execute function public.second_time()")
	finish(b.shot) // the link is refused, and then the generation
	b.exec("alter table shot_generations drop constraint refused; drop trigger second_time on generations")
	b.image()
	late := b.claim(anyWorker)
	b.exec("update tasks set status = 'Complete' where id = $1", late.ID)
	b.exec("update tasks set output_location = 'x' where id = $1", late.ID)
}

func coverFiling(b *bench) {
	ctx := b.t.Context()
	first := b.image()
	_, err := b.RetryTask(ctx, taskdb.HoldOf(b.claimThis(anyWorker, first)), "flaky", time.Hour)
	b.noError(err)
	_, err = b.CancelTask(ctx, first.ID, "") // while it is delayed
	b.noError(err)
	b.after(first.ID) // fails at once

	broke := b.as(1)
	var tasks []taskdb.Task
	for range 20 {
		tasks = append(tasks, broke.image())
	}
	held := b.claimThis(anyWorker, tasks[0])
	b.claimNothing(anyWorker) // parks the lane
	for _, i := range []int{19, 5} {
		_, err = b.CancelTask(ctx, tasks[i].ID, "") // in the backlog, and in the parked window
		b.noError(err)
	}
	b.exec("update darkroom.task_ready set parked = false where owner_id = $1", broke.owner)
	b.exec("update darkroom.task_ready set parked = true where task_id = $1", tasks[16].ID)
	b.release(held) // gives back the credit while a row of the lane stands parked
	b.exec("update darkroom.task_ready set parked = true where owner_id = $1", broke.owner)
	broke.image() // into a parked lane that can be paid
	_, err = b.AdmitTasks(ctx, broke.owner)
	b.noError(err)
}

func coverTrees(b *bench) {
	ctx := b.t.Context()
	_, segments, stitch := b.tree(2)
	b.complete(b.claimThis(gpuWorker, segments[0]))
	b.complete(b.claimThis(gpuWorker, segments[1]))
	b.complete(b.claimThis(gpuWorker, stitch))

	orchestrator, segments, _ := b.tree(2)
	b.release(orchestrator) // stays
	segment := b.claimThis(gpuWorker, segments[0])
	_, err := b.RetryTask(ctx, taskdb.HoldOf(segment), "flaky", time.Nanosecond)
	b.noError(err)
	_, err = b.RetryTask(ctx, taskdb.HoldOf(orchestrator), "no", 0) // ends the tree
	b.noError(err)

	task := b.image()
	for range 3 {
		_, err = b.RetryTask(ctx, taskdb.HoldOf(b.claimThis(anyWorker, task)), "flaky", time.Nanosecond)
		b.noError(err)
	}
	b.wantStatus(task.ID, taskdb.StatusFailed)
	b.exec("update task_types set max_attempts = 1 where name = 'travel_segment'")
	_, segments, _ = b.tree(1)
	_, err = b.RetryTask(ctx, taskdb.HoldOf(b.claimThis(gpuWorker, segments[0])), "no", 0)
	b.noError(err)
	b.exec("update task_types set max_attempts = 3")

	// a tree without stitch
	orchestrator = b.claimThis(gpuWorker, b.create(travelTask(b.project, b.shot, 2)))
	child := taskdb.NewTask{TaskType: "travel_segment", Params: object("orchestrator_task_id_ref", orchestrator.ID)}
	for range 2 {
		b.complete(b.claimThis(gpuWorker, b.create(child)))
	}
	b.report(orchestrator.ID, taskdb.StatusInProgress, "Made 2 segments.")
	b.wantStatus(orchestrator.ID, taskdb.StatusComplete)
}
