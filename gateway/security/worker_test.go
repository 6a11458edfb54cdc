package security_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"darkroom/sql/taskdb"
)

// TestS11WorkersReachOnlyTheirTasks: "Worker credentials reach only worker RPCs; they cannot read params beyond claimed tasks; a worker cannot complete a
// task it does not hold." Which functions they reach at all, and with what effect, stands in the matrix of S1.
func TestS11WorkersReachOnlyTheirTasks(t *testing.T) {
	t.Parallel()
	none(t, maliciousFindings(newLab(t)))
}

// TestS39MaliciousWorker: "A malicious worker cannot inflate cost, forge another task's output, or link an output to another project."
func TestS39MaliciousWorker(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	none(t, maliciousFindings(l))
	l.healthy()
}

// maliciousFindings lets A's worker, which runs one task, and B's, which runs none, try everything with tasks that they do not run.
func maliciousFindings(l *lab) (findings []string) {
	l.t.Helper()
	ctx := l.t.Context()
	found := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	theirs := l.image(l.b).ID
	// A second worker of A's, by another token, holds a task of A's: the same owner, and still not the first worker's.
	token, err := l.db.CreateAccessToken(ctx, "worker", "second", 0, l.a.id)
	l.must(err)
	second := caller{"A's second worker", "worker", map[string]any{"role": "worker", "sub": l.a.id.String(), "token_id": token.ID.String()}}
	l.callers = append(l.callers, second)
	var other taskdb.Task
	l.as(second.name, func(tx pgx.Tx) {
		db := taskdb.New(tx)
		_, err := db.RegisterWorker(ctx, taskdb.Registration{WorkerID: workerOfA}) // of the same name
		l.must(err)
		other, _, err = db.ClaimNextTask(ctx, workerOfA)
		l.must(err)
	})
	if other.ID != l.queued {
		l.t.Fatalf("claimed %v, want %v", other.ID, l.queued)
	}

	for _, who := range []string{"A's worker", "B's worker", "worker of nobody"} {
		for _, target := range []uuid.UUID{other.ID, theirs, l.done, l.failed, uuid.New()} {
			// What it ended itself it may report again, and is answered as before.
			if who != "A's worker" || target != l.done && target != l.failed {
				for name, call := range map[string]func(db *taskdb.DB, tx pgx.Tx) error{
					"complete": func(db *taskdb.DB, _ pgx.Tx) error {
						_, err := db.CompleteTask(ctx, taskdb.Hold{TaskID: target}, taskdb.Output{Location: "https://x.test/forged"})
						return err
					},
					"complete as its holder": func(db *taskdb.DB, _ pgx.Tx) error {
						_, err := db.CompleteTask(ctx, taskdb.Hold{TaskID: target, WorkerID: workerOfA, Attempt: 1}, taskdb.Output{Location: "https://x.test/forged"})
						return err
					},
					"complete as its holder's row": func(db *taskdb.DB, _ pgx.Tx) error {
						_, err := db.CompleteTask(ctx, taskdb.Hold{TaskID: target, WorkerID: *other.WorkerID, Attempt: 1}, taskdb.Output{Location: "https://x.test/forged"})
						return err
					},
					"fail": func(db *taskdb.DB, _ pgx.Tx) error {
						_, err := db.FailTask(ctx, taskdb.Hold{TaskID: target}, "no")
						return err
					},
					"release": func(db *taskdb.DB, _ pgx.Tx) error {
						_, err := db.ReleaseTask(ctx, taskdb.Hold{TaskID: target, WorkerID: workerOfA, Attempt: 1}, "")
						return err
					},
					"progress": func(db *taskdb.DB, _ pgx.Tx) error {
						return db.ReportProgress(ctx, taskdb.Hold{TaskID: target, WorkerID: workerOfA, Attempt: 1}, json.RawMessage(`{"percent":1}`))
					},
					"inputs": func(db *taskdb.DB, _ pgx.Tx) error { _, err := db.GetDependencyOutputs(ctx, target); return err },
					"cancel": func(db *taskdb.DB, _ pgx.Tx) error { _, err := db.CancelTask(ctx, target, ""); return err },
					"expand": func(db *taskdb.DB, _ pgx.Tx) error {
						_, err := db.ExpandTravelOrchestrator(ctx, taskdb.Hold{TaskID: target, WorkerID: workerOfA, Attempt: 1})
						return err
					},
					"read": func(_ *taskdb.DB, tx pgx.Tx) error {
						var params string
						return tx.QueryRow(ctx, "select params::text from tasks where id = $1", target).Scan(&params)
					},
				} {
					l.try(l.caller(who), func(tx pgx.Tx) {
						err := call(taskdb.New(tx), tx)
						if got := code(err); got != "TD021" && got != "TD031" && got != "TD032" && got != "TD041" && !strings.Contains(got, "no rows") {
							found("%s, %s of a task that it does not run: %v", who, name, err)
						}
						if err != nil && strings.Contains(err.Error(), canary) {
							found("%s, %s: the refusal tells a text of A's: %v", who, name, err)
						}
					})
				}
			}
		}
	}

	// What it runs it may complete, but neither with another price, nor with somebody else's file, nor for another project.
	l.try(l.caller("A's worker"), func(tx pgx.Tx) {
		db := taskdb.New(tx)
		hold := taskdb.Hold{TaskID: l.running, WorkerID: workerOfA, Attempt: 1}
		err := attempt(ctx, tx, func(tx pgx.Tx) error {
			_, err := taskdb.New(tx).CompleteTask(ctx, hold, taskdb.Output{Location: "https://x.test/storage/v1/object/public/image_uploads/" + l.b.id.String() + "/tasks/x.png"})
			return err
		})
		if code(err) != "TD041" {
			found("a worker's output is somebody else's file: %v", err)
		}
		done, err := db.CompleteTask(ctx, hold, taskdb.Output{Location: "https://x.test/1", Metadata: json.RawMessage(
			fmt.Sprintf(`{"cost":1000,"project_id":%q,"owner_id":%q,"shot_id":%q,"status":"Failed"}`, l.b.project, l.b.id, l.b.shot),
		)})
		if err != nil || done.Cost != taskdb.WholeCredits(1) || done.ProjectID != l.a.project {
			found("completed as %v, %v", done, err)
			return
		}
		become(l.t, tx, caller{})
		var charged string
		var elsewhere int
		if err := tx.QueryRow(ctx, "select sum(amount)::text from credit_ledger where kind = 'settle' and task_id = $1", l.running).Scan(&charged); err != nil || charged != "1.000" {
			found("charged %s, %v", charged, err)
		}
		err = tx.QueryRow(ctx, `select count(*) from generations g left join shot_generations s on s.generation_id = g.id
			where g.source_task_id = $1 and (g.project_id <> $2 or g.owner_id <> $3 or s.shot_id <> $4)`, l.running, l.a.project, l.a.id, l.a.shot).Scan(&elsewhere)
		if err != nil || elsewhere != 0 {
			found("the output landed in another project: %d, %v", elsewhere, err)
		}
	})
	return findings
}

// TestS39AShotOfAnotherProjectIsNotLinked: a task whose params name a stranger's shot gets its generation, and no link.
func TestS39AShotOfAnotherProjectIsNotLinked(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ctx := t.Context()
	task, err := l.db.CreateTask(ctx, taskdb.NewTask{
		ProjectID: l.b.project, TaskType: "single_image", Params: json.RawMessage(fmt.Sprintf(`{"prompt":"x","shot_id":%q}`, l.a.shot)),
	})
	l.must(err)
	for {
		claimed, found, err := l.db.ClaimNextTask(ctx, "trusted worker")
		l.must(err)
		if !found {
			t.Fatal("the task was not claimed")
		}
		if claimed.ID == task.ID {
			break
		}
	}
	_, err = l.db.CompleteTask(ctx, taskdb.Hold{TaskID: task.ID}, taskdb.Output{Location: "https://x.test/1"})
	l.must(err)
	if n := value[int](l, "select count(*) from shot_generations s join generations g on g.id = s.generation_id where g.source_task_id = $1", task.ID); n != 0 {
		t.Error("a stranger's shot shows it")
	}
	if n := value[int](l, "select count(*) from generations where source_task_id = $1 and owner_id = $2", task.ID, l.b.id); n != 1 {
		t.Errorf("%d generations", n)
	}
	l.healthy()
}

// TestS39ZombieCompletion is the scenario of River and pg-boss, permanently: A claims, its lease is taken away, B claims; A completes late, then B does.
// There A's completion is accepted (River 0.51.1, pg-boss 12.38.0); here it changes nothing, and B's output is the task's.
func TestS39ZombieCompletion(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	none(t, zombieFindings(l))
	l.healthy()
}

func zombieFindings(l *lab) (findings []string) {
	l.t.Helper()
	ctx := l.t.Context()
	found := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	project := l.person("zombies", 10)
	task := l.image(project)
	_, err := l.db.RegisterWorker(ctx, taskdb.Registration{WorkerID: "zombie"})
	l.must(err)
	claim := func() taskdb.Task {
		for {
			claimed, there, err := l.db.ClaimNextTask(ctx, "zombie")
			l.must(err)
			if !there {
				l.t.Fatal("nothing to claim")
			}
			if claimed.ID == task.ID {
				return claimed
			}
		}
	}
	first := taskdb.HoldOf(claim())
	l.exec("update workers set last_heartbeat = clock_timestamp() - interval '1 day' where id = 'zombie'")
	l.exec("update tasks set claimed_at = clock_timestamp() - interval '1 day' where id = $1", task.ID)
	l.exec("update darkroom.lease_watch set last_run = clock_timestamp(), resumed_at = '-infinity'")
	_, err = l.db.RequeueExpiredTasks(ctx, 100)
	l.must(err)
	second := taskdb.HoldOf(claim()) // the same worker, so that only the attempt tells them apart
	if first.Attempt != 1 || second.Attempt != 2 {
		l.t.Fatalf("attempts %d, %d", first.Attempt, second.Attempt)
	}
	for name, call := range map[string]func() error{
		"complete": func() error {
			_, err := l.db.CompleteTask(ctx, first, taskdb.Output{Location: "https://x.test/zombie"})
			return err
		},
		"fail":     func() error { _, err := l.db.FailTask(ctx, first, "zombie"); return err },
		"release":  func() error { _, err := l.db.ReleaseTask(ctx, first, "zombie"); return err },
		"progress": func() error { return l.db.ReportProgress(ctx, first, json.RawMessage(`{"percent":99}`)) },
	} {
		before := value[string](l, "select t::text from tasks t where id = $1", task.ID)
		if err := call(); code(err) != "TD031" {
			found("%s by the zombie: %v", name, err)
		}
		if value[string](l, "select t::text from tasks t where id = $1", task.ID) != before {
			found("%s by the zombie changed the task", name)
			return findings
		}
	}
	done, err := l.db.CompleteTask(ctx, second, taskdb.Output{Location: "https://x.test/alive"})
	if err != nil || done.OutputLocation == nil || *done.OutputLocation != "https://x.test/alive" {
		found("completion by the holder: %v, %v", done, err)
	}
	if _, err := l.db.CompleteTask(ctx, first, taskdb.Output{Location: "https://x.test/zombie"}); err == nil {
		found("the zombie completes what is Complete")
	}
	if n := value[int](l, "select count(*) from credit_ledger where task_id = $1 and kind = 'settle'", task.ID); n != 1 {
		found("%d settlements", n)
	}
	return findings
}
