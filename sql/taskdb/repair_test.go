package taskdb_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// sabotages of the queue: hints deleted, flipped to another place, and planted. healthy is where nothing is wrong: a repair that is not
// needed finds nothing.
var sabotages = map[string]struct {
	sql string
	// faults are on record after the repair, each of them a prefix.
	faults []string
}{
	"ready deleted":                  {"delete from darkroom.task_ready where task_id = {ready}", []string{"Queued, but nowhere"}},
	"all of ready deleted":           {"delete from darkroom.task_ready", []string{"Queued, but nowhere", "backlog, but as old as ready"}},
	"parked deleted":                 {"delete from darkroom.task_ready where task_id = {parked}", []string{"Queued, but nowhere"}},
	"backlog deleted":                {"delete from darkroom.task_backlog where task_id = {backlog}", []string{"Queued, but nowhere"}},
	"all of the backlog deleted":     {"delete from darkroom.task_backlog", []string{"Queued, but nowhere"}},
	"deps deleted":                   {"delete from darkroom.task_deps where task_id = {waiting}", []string{"does not wait for all it must"}},
	"delayed deleted":                {"delete from darkroom.task_delayed where task_id = {delayed}", []string{"Queued, but nowhere"}},
	"everything deleted":             {"delete from darkroom.task_ready; delete from darkroom.task_backlog; delete from darkroom.task_deps; delete from darkroom.task_delayed", []string{"Queued, but nowhere", "does not wait for all it must"}},
	"ready flipped to the backlog":   {"insert into darkroom.task_backlog {hint} {ready}; delete from darkroom.task_ready where task_id = {ready}", []string{"backlog, but as old as ready"}},
	"ready flipped to deps":          {"insert into darkroom.task_deps values ({owner}, {running}, {ready}); delete from darkroom.task_ready where task_id = {ready}", []string{"waits for nothing"}},
	"ready flipped to delayed":       {"insert into darkroom.task_delayed values ({owner}, {ready}, 'infinity'); delete from darkroom.task_ready where task_id = {ready}", []string{"delayed, but not"}},
	"backlog flipped to ready":       {"insert into darkroom.task_ready {hint} {backlog}; delete from darkroom.task_backlog where task_id = {backlog}", []string{"backlog, but as old as ready"}},
	"waiting flipped to ready":       {"insert into darkroom.task_ready {hint} {waiting}; delete from darkroom.task_deps where task_id = {waiting}", []string{"ready, but cannot run", "does not wait"}},
	"waiting flipped to the backlog": {"insert into darkroom.task_backlog {hint} {waiting}; delete from darkroom.task_deps where task_id = {waiting}", []string{"backlog, but cannot run", "does not wait"}},
	"waiting flipped to delayed":     {"insert into darkroom.task_delayed values ({owner}, {waiting}, now()); delete from darkroom.task_deps where task_id = {waiting}", []string{"delayed, but not", "does not wait"}},
	"delayed flipped to ready":       {"insert into darkroom.task_ready {hint} {delayed}; delete from darkroom.task_delayed where task_id = {delayed}", []string{"ready, but cannot run"}},
	"ready parked":                   {"update darkroom.task_ready set parked = true where task_id = {ready}", []string{"parked, but affordable"}},
	"an ended task planted in ready": {"insert into darkroom.task_ready {hint} {done}", []string{"ready, but cannot run"}},
	"a running task in the backlog":  {"insert into darkroom.task_backlog {hint} {running}", []string{"backlog, but cannot run"}},
	"an ended task in deps":          {"insert into darkroom.task_deps values ({owner}, {ready}, {done})", []string{"waits for nothing"}},
	"an ended task in delayed":       {"insert into darkroom.task_delayed values ({owner}, {done}, now())", []string{"delayed, but not"}},
	"no task in ready":               {"insert into darkroom.task_ready values ({owner}, 'single_image', 1, 'epoch', 1, {nobody})", []string{"ready, but cannot run"}},
	"a wrong price in ready":         {"update darkroom.task_ready set cost = 0 where task_id = {ready}", []string{"ready, but cannot run", "Queued, but nowhere"}},
	"a wrong age in ready":           {"update darkroom.task_ready set created_at = 'epoch' where task_id = {ready}", []string{"ready, but cannot run", "Queued, but nowhere"}},
	"ready and in the backlog":       {"insert into darkroom.task_backlog {hint} {ready}", []string{"backlog, but cannot run or is also ready"}},
	"ready and waiting":              {"insert into darkroom.task_deps values ({owner}, {running}, {ready})", []string{"waits for nothing"}},
	"ready and delayed":              {"insert into darkroom.task_delayed values ({owner}, {ready}, now())", []string{"delayed, but not"}},
	"waiting and ready":              {"insert into darkroom.task_ready {hint} {waiting}", []string{"ready, but cannot run"}},
	"delayed and ready":              {"insert into darkroom.task_ready {hint} {delayed}", []string{"ready, but cannot run"}},
	"waits for what has ended":       {"insert into darkroom.task_deps values ({owner}, {done}, {waiting})", []string{"waits for nothing"}},
	"due, but at another time":       {"update darkroom.task_delayed set run_after = 'infinity'", []string{"delayed, but not", "Queued, but nowhere"}},
}

// Wrong hints are mended by admit_tasks and found by sweep_tasks, counted, and put on record.
func TestSabotageIsMended(t *testing.T) {
	t.Parallel()
	whole := newScene(t)
	for name, c := range sabotages {
		for _, how := range []string{"admit", "sweep"} {
			t.Run(name+", "+how, func(t *testing.T) {
				whole.inTx(t, func(s *scene) {
					s.sabotage(c.sql)
					if violations, err := s.InvariantViolations(t.Context()); err != nil || len(violations) == 0 {
						t.Fatalf("the sabotage is no violation, %v", err)
					}
					repaired := s.repair(how)
					onRecord := value[[]string](s.bench, "select coalesce(array_agg(fault), '{}') from darkroom.queue_repairs")
					if repaired == 0 || repaired != len(onRecord) {
						t.Errorf("mended %d faults, %d are on record", repaired, len(onRecord))
					}
					for _, fault := range c.faults {
						if !strings.Contains("\n"+strings.Join(onRecord, "\n"), "\n"+fault) {
							t.Errorf("%q is not on record, only %q", fault, onRecord)
						}
					}
					s.healthy()
				})
			})
		}
	}
}

func (s *scene) repair(how string) int {
	s.t.Helper()
	if how == "sweep" {
		report, err := s.SweepTasks(s.t.Context(), 1000)
		s.noError(err)
		return report.Repaired
	}
	repaired := 0
	for _, owner := range []string{"owner", "broke"} {
		n, err := s.AdmitTasks(s.t.Context(), s.id(owner))
		s.noError(err)
		repaired += n
	}
	return repaired
}

func (s *scene) sabotage(sql string) {
	s.t.Helper()
	s.plant(strings.ReplaceAll(sql, "{hint}", "select owner_id, task_type, cost, created_at, job_no, id from tasks where id ="))
}

// "The queue is a hint, the row is the truth": whatever the hints say, a claim hands out nothing that cannot run, nothing for another
// price, and comes to an end. (A retry before its pause is over does no harm.)
func TestWrongHintsDoNoHarm(t *testing.T) {
	t.Parallel()
	whole := newScene(t)
	for name, c := range sabotages {
		t.Run(name, func(t *testing.T) {
			whole.inTx(t, func(s *scene) {
				s.sabotage(c.sql)
				s.claimAll()
				_, err := s.SweepTasks(t.Context(), 1000)
				s.noError(err)
				s.healthy()
			})
		})
	}
}

// claimAll claims until there is nothing left, and looks at what it is given.
func (s *scene) claimAll() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), awhile)
	defer cancel()
	for {
		tasks, err := s.ClaimNextTasks(ctx, gpuWorker, 3, nil)
		s.noError(err)
		if len(tasks) == 0 {
			return
		}
		for _, task := range tasks {
			if task.ID == s.id("waiting") || task.ID == s.id("done") || task.ID == s.id("running") || task.Cost != taskdb.WholeCredits(1) {
				s.t.Errorf("handed out %+v", task)
			}
		}
	}
}

func (s *scene) id(word string) uuid.UUID {
	return uuid.MustParse(strings.Trim(s.names.Replace("{"+word+"}"), "'"))
}

// The sweep leaves alone what is right, and who is busy; it makes missing generations.
func TestTheSweepSkipsBusyOwners(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.exec("delete from darkroom.task_ready where task_id = $1", s.id("ready"))
	tx, err := s.pg.Pool.Begin(t.Context())
	s.noError(err)
	_, err = tx.Exec(t.Context(), "select darkroom.lock_owner($1)", s.owner)
	s.noError(err)
	report, err := s.SweepTasks(t.Context(), 1000)
	s.noError(err)
	if report != (taskdb.SweepReport{Checked: 1}) {
		t.Errorf("the sweep reports %+v while the owner is busy", report)
	}
	s.noError(tx.Rollback(t.Context()))
	report, err = s.SweepTasks(t.Context(), 1000)
	s.noError(err)
	if report != (taskdb.SweepReport{Checked: 1, Repaired: 1}) {
		t.Errorf("the sweep reports %+v", report)
	}
	s.healthy()
}

// The sweep takes no owner's lock out of order: it cannot deadlock with those who take several.
func TestTheSweepTakesLocksInOrder(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	low, high := s.bench, s.as(10)
	if low.owner.String() > high.owner.String() {
		low, high = high, low
	}
	low.image()
	s.exec("alter table generations add constraint no check (false) not valid")
	for range 40 { // all that can be claimed, so that low's is among it
		tasks, err := s.ClaimNextTasks(t.Context(), anyWorker, 10, nil)
		s.noError(err)
		for _, task := range tasks {
			if task.OwnerID == low.owner {
				s.complete(task)
			}
		}
		if len(tasks) == 0 {
			break
		}
	}
	s.exec("alter table generations drop constraint no") // low lacks a generation
	made := high.image()
	s.exec("delete from darkroom.task_ready where task_id = $1", made.ID) // high's queue is broken

	tx, err := s.pg.Pool.Begin(t.Context())
	s.noError(err)
	_, err = tx.Exec(t.Context(), "select darkroom.lock_owner($1)", low.owner)
	s.noError(err)
	swept := make(chan error, 1)
	go func() {
		_, err := s.SweepTasks(t.Context(), 1000)
		swept <- err
	}()
	s.await("select exists (select from pg_locks where locktype = 'advisory' and not granted)")
	_, err = tx.Exec(t.Context(), "select darkroom.lock_owner($1)", high.owner) // in order of ids
	s.noError(err)
	s.noError(tx.Commit(t.Context()))
	s.noError(<-swept)
	_, err = s.SweepTasks(t.Context(), 1000)
	s.noError(err)
	s.healthy()
}

// await waits until a query answers true.
func (b *bench) await(query string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), awhile)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !value[bool](b, query) {
		select {
		case <-ctx.Done():
			b.t.Fatalf("still not: %s", query)
		case <-ticker.C:
		}
	}
}
