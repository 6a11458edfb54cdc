package taskdb_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"darkroom/sql/taskdb"
)

// scene is a healthy database with a task in each place that a task can stand in.
type scene struct {
	*bench
	names *strings.Replacer // {done} and so on -> quoted ids
}

// newScene makes, for one owner: done (Complete, on a shot), segment (Complete, makes no generation), failed, running, ready,
// waiting (for ready), delayed, and a second owner, broke, with 20 tasks of which one runs, ready ones are parked, and some stand in
// the backlog.
func newScene(t *testing.T) *scene {
	t.Helper()
	b := setup(t, 100)
	names := []string{"{owner}", quoted(b.owner), "{project}", quoted(b.project), "{shot}", quoted(b.shot)}
	name := func(word string, id uuid.UUID) { names = append(names, "{"+word+"}", quoted(id)) }

	b.image("shot_id", b.shot)
	name("done", b.complete(b.claim(anyWorker)).ID)
	b.create(taskdb.NewTask{TaskType: "travel_segment", Params: object()})
	name("segment", b.complete(b.claim(gpuWorker)).ID)
	b.image()
	name("failed", b.fail(b.claim(anyWorker), "no").ID)
	b.image()
	retried, err := b.RetryTask(t.Context(), taskdb.HoldOf(b.claim(anyWorker)), "flaky", time.Hour)
	b.noError(err)
	name("delayed", retried.ID)
	b.image()
	name("running", b.claim(anyWorker).ID)
	broke := b.as(1)
	name("broke", broke.owner)
	var tasks []taskdb.Task
	for range 20 {
		tasks = append(tasks, broke.image())
	}
	b.claimThis(anyWorker, tasks[0])
	b.claimNothing(anyWorker)
	name("parked", tasks[1].ID)
	name("backlog", tasks[19].ID)
	ready := b.image()
	name("ready", ready.ID)
	name("waiting", b.after(ready.ID).ID)
	other, err := b.CreateProject(t.Context(), b.owner, "other")
	b.noError(err)
	foreign, err := b.CreateShot(t.Context(), other.ID, "")
	b.noError(err)
	name("project2", other.ID)
	name("shot2", foreign.ID)
	name("nobody", uuid.New())
	b.healthy()
	return &scene{b, strings.NewReplacer(names...)}
}

func quoted(id uuid.UUID) string { return "'" + id.String() + "'" }

// inTx is the scene in a transaction, which is rolled back.
func (s *scene) inTx(t *testing.T, test func(s *scene)) {
	t.Helper()
	s.bench.inTx(t, func(b *bench) { test(&scene{b, s.names}) })
}

// plant runs statements while no trigger and no foreign key works.
func (s *scene) plant(sql string) {
	s.t.Helper()
	s.exec("set local session_replication_role = replica")
	for statement := range strings.SplitSeq(s.names.Replace(sql), ";") {
		s.exec(statement)
	}
	s.exec("set local session_replication_role = origin")
}

// Each rule is proved able to fail, in each of its branches.
func TestInvariantsFire(t *testing.T) {
	t.Parallel()
	const newest = "(owner_id, seq) = (select owner_id, max(seq) from credit_ledger where owner_id = {owner} group by owner_id)"
	const generation = "insert into generations (owner_id, project_id, type, source_task_id) values ({owner}, {project}, 'image', %s)"
	const hint = "insert into darkroom.task_%s select owner_id, task_type, cost, created_at, job_no, id from tasks where id = %s"
	cases := []struct {
		name, plant string
		rule        int
		says        string
	}{
		{"available below zero", "alter table credit_ledger drop constraint available_is_never_negative; update credit_ledger set balance_after = -5 where " + newest, 1, "available is -6"},
		{"held below zero", "alter table credit_ledger drop constraint available_is_never_negative; update credit_ledger set held_after = -1 where " + newest, 1, "available is "},
		{"balance is not the sum", "update credit_ledger set balance_after = balance_after + 1 where " + newest, 1, "entries add up to"},
		{"held is not the sum", "update credit_ledger set held_after = held_after + 1 where " + newest, 1, "entries add up to"},
		{"an entry is missing", "update credit_ledger set seq = seq + 1000 where " + newest, 1, "entries add up to"},
		{"the first entry is missing", "update credit_ledger set seq = seq + 1000 where owner_id = {owner}", 1, "entries add up to"},
		{"a running task costs more than is held", "update tasks set cost = cost + 1 where id = {running}", 1, "running tasks cost 2.000, held 1.000"},
		{"a hold without running task", "update tasks set status = 'Failed' where id = {running}", 1, "running tasks cost 0, held 1.000"},
		{"a running task of an owner without account", "update tasks set owner_id = {nobody} where id = {running}", 1, "running tasks cost 1.000, held 0"},
		{"a hold of another task", "update credit_ledger set task_id = {ready} where task_id = {running}", 1, "running without its hold"},
		{"a hold of another attempt", "update credit_ledger set attempt = 7 where task_id = {running}", 1, "attempt 7 holds 1.000 and is not running"},
		{"no settle", "delete from credit_ledger where task_id = {done} and kind = 'settle'", 2, "Complete, cost 1.000, settled 0 times"},
		{"two settles", `drop index one_settle_per_task; insert into credit_ledger (owner_id, seq, kind, amount, balance_after, held_after, task_id, attempt)
			select owner_id, 900, kind, amount, balance_after, held_after, task_id, attempt from credit_ledger where task_id = {done} and kind = 'settle'`, 2, "settled 2 times"},
		{"a settle of a failed task", "update credit_ledger set kind = 'settle' where task_id = {failed} and kind = 'release'", 2, "Failed, cost 1.000, settled 1 times"},
		{"a settle of a free task", "update tasks set cost = 0 where id = {done}", 2, "Complete, cost 0.000, settled 1 times"},
		{"settled and released", `insert into credit_ledger (owner_id, seq, kind, amount, balance_after, held_after, task_id, attempt)
			select owner_id, 900, 'release', amount, balance_after, held_after, task_id, attempt from credit_ledger where task_id = {done} and kind = 'settle'`, 2, "attempt 1: hold, settle, release"},
		{"released without hold", "delete from credit_ledger where task_id = {failed} and kind = 'hold'", 2, "attempt 1: release"},
		{"settled another amount", "update credit_ledger set amount = 3 where task_id = {done} and kind = 'settle'", 2, "attempt 1: hold, settle"},
		{"no generation", "delete from generations where source_task_id = {done}", 3, "0 generations"},
		{"two generations", "alter table generations drop constraint one_generation_per_task; " + fmt.Sprintf(generation, "{done}"), 3, "2 generations"},
		{"a generation of a failed task", fmt.Sprintf(generation, "{failed}"), 3, "not Complete with an output"},
		{"a generation of a type that makes none", fmt.Sprintf(generation, "{segment}"), 3, "not Complete with an output"},
		{"a generation of no task", fmt.Sprintf(generation, "{nobody}"), 3, "not Complete with an output"},
		{"a generation without the flag", "update tasks set generation_created = false where id = {done}", 3, "not Complete with an output"},
		{"a generation without output", "update tasks set output_location = ' ' where id = {done}", 3, "not Complete with an output"},
		{"a generation in another project", "update generations set project_id = {project2} where source_task_id = {done}", 3, "or not of its project"},
		{"a generation of another owner", "update generations set owner_id = {nobody} where source_task_id = {done}", 3, "or not of its project"},
		{"on a shot of another project", "update shot_generations set shot_id = {shot2}", 3, "of another project"},
		{"a link in another project", "update shot_generations set project_id = {project2}", 3, "of another project"},
		{"no such worker", "delete from workers where id = 'worker-any'", 4, "without a registered worker"},
		{"attempts of a running task", "update tasks set attempt = 5 where id = {running}", 4, "In Progress, attempt 5, 0 ended"},
		{"attempts of an ended task", "delete from task_attempts where task_id = {done}", 4, "Complete, attempt 1, 0 ended"},
		{"attempts of a queued task", "update tasks set attempt = 1 where id = {ready}", 4, "Queued, attempt 1, 0 ended"},
		{"ready vanished", "delete from darkroom.task_ready where task_id = {ready}", 5, "stands in no place"},
		{"backlog vanished", "delete from darkroom.task_backlog where task_id = {backlog}", 5, "stands in no place"},
		{"deps vanished", "delete from darkroom.task_deps where task_id = {waiting}", 5, "stands in no place"},
		{"delayed vanished", "delete from darkroom.task_delayed where task_id = {delayed}", 5, "stands in no place"},
		{"in two places", fmt.Sprintf(hint, "backlog", "{ready}"), 5, "Queued, stands in "},
		{"ended, but ready", fmt.Sprintf(hint, "ready", "{done}"), 5, "Complete, stands in ready"},
		{"running, but in the backlog", fmt.Sprintf(hint, "backlog", "{running}"), 5, "In Progress, stands in backlog"},
		{"ended, but waits", "insert into darkroom.task_deps values ({owner}, {ready}, {failed})", 5, "Failed, stands in deps"},
		{"ended, but delayed", "insert into darkroom.task_delayed values ({owner}, {done}, now())", 5, "Complete, stands in delayed"},
		{"no task at all", "insert into darkroom.task_delayed values ({owner}, {nobody}, now())", 5, "no task, stands in delayed"},
		{"waits for what has ended", "insert into darkroom.task_deps values ({owner}, {done}, {waiting})", 5, "which has ended"},
		{"waits for no task", "insert into darkroom.task_deps values ({owner}, {nobody}, {waiting})", 5, "which has ended"},
		{"ready, but must wait", "delete from darkroom.task_deps where task_id = {waiting}; " + fmt.Sprintf(hint, "ready", "{waiting}"), 5, "does not wait for"},
		{"waits for what it does not depend on", "insert into darkroom.task_deps values ({owner}, {running}, {waiting})", 5, "without depending on it"},
		{"delayed until another time", "update darkroom.task_delayed set run_after = 'infinity'", 5, "delayed until infinity"},
		{"ready, but delayed", "delete from darkroom.task_delayed where task_id = {delayed}; " + fmt.Sprintf(hint, "ready", "{delayed}"), 5, "waits until"},
		{"a hint that differs", "update darkroom.task_ready set cost = 0 where task_id = {ready}", 5, "differs from its task"},
		{"backlog older than ready", "update darkroom.task_backlog set created_at = 'epoch' where task_id = {backlog}", 5, "not younger than every ready row"},
		{"backlog without ready", "delete from darkroom.task_ready where owner_id = {broke}", 5, "not younger than every ready row"},
		{"parked, but affordable", "update darkroom.task_ready set parked = true where task_id = {ready}", 5, "parked, but affordable"},
		{"a change that is not in the log", "update tasks set progress = '{}' where id = {running}", 6, "do not add up"},
		{"a task that is not in the log", "delete from darkroom.task_events where row_id = {ready}", 6, "do not add up"},
	}
	whole := newScene(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			whole.inTx(t, func(s *scene) {
				s.plant(c.plant)
				violations, err := s.InvariantViolations(t.Context())
				s.noError(err)
				for _, v := range violations {
					if v.Rule == c.rule && strings.Contains(v.Violation, c.says) {
						return
					}
				}
				t.Errorf("rule %d does not say %q, only %+v", c.rule, c.says, violations)
			})
		})
	}
}

// The service may read the view and the tables that the debug checklist reads, and change nothing but by the functions.
func TestServiceReadsButDoesNotWriteTables(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	b.complete(func() taskdb.Task { b.image(); return b.claim(anyWorker) }())
	conn := b.pg.Conn(t)
	if _, err := conn.Exec(t.Context(), "set role service_role"); err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]int{
		"select count(*) from invariant_violations": 0,
		"select count(*) from tasks":                1,
		"select count(*) from generations":          1,
	} {
		var got int
		if err := conn.QueryRow(t.Context(), sql).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", sql, got, err, want)
		}
	}
	_, err := conn.Exec(t.Context(), "update tasks set cost = 0")
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) || refusal.Code != "42501" {
		t.Errorf("changing a task directly: %v, want 42501", err)
	}
}
