package security_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"darkroom/sql/taskdb"
)

// TestS13ABalanceForKPaysForK: "1,000 parallel creates with a balance for k tasks admit exactly k." Here a creation reserves nothing: it is refused while the
// available credits (balance less holds) are below its cost, and the hold is taken at the claim. So with nobody claiming all creates of one credit are
// admitted, and exactly k of them can ever be claimed, run and charged; the others wait, Queued, for the next grant. What S13 wants of the money holds at
// the claim, whatever the concurrency: 32 claimers get exactly k tasks between them, available is never negative, and from then on a create is refused.
// Holding at creation would tie up the credits of tasks that wait for hours; the number of those has a limit of its own (S25).
func TestS13ABalanceForKPaysForK(t *testing.T) {
	t.Parallel()
	const tries, k, clients = 1000, 37, 20
	l := newLab(t)
	l.drain()
	payer := l.person("payer", k)
	var admitted, claimed atomic.Int64
	inParallel(clients, func(int) {
		for range tries / clients {
			_, err := l.db.CreateTask(t.Context(), taskdb.NewTask{ProjectID: payer.project, TaskType: "single_image", Params: json.RawMessage(`{"prompt":"x"}`)})
			if err != nil {
				t.Error(err)
				return
			}
			admitted.Add(1)
		}
	})
	if admitted.Load() != tries {
		t.Errorf("%d of %d creates were admitted while all k credits were available", admitted.Load(), tries)
	}
	var negative atomic.Bool
	inParallel(clients, func(n int) {
		name := fmt.Sprintf("claimer-%d", n)
		if _, err := l.db.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: name}); err != nil {
			t.Error(err)
			return
		}
		for misses := 0; misses < 10; {
			tasks, err := l.db.ClaimNextTasks(t.Context(), name, 2, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if len(tasks) == 0 {
				misses++
			}
			claimed.Add(int64(len(tasks)))
			account, err := l.db.GetCredits(t.Context(), payer.id)
			if err != nil || account.Available < 0 {
				negative.Store(true)
			}
		}
	})
	if claimed.Load() != k || negative.Load() {
		t.Errorf("%d tasks were claimed with a balance for %d; available was negative: %v", claimed.Load(), k, negative.Load())
	}
	var refused atomic.Int64
	inParallel(clients, func(int) {
		_, err := l.db.CreateTask(t.Context(), taskdb.NewTask{ProjectID: payer.project, TaskType: "single_image", Params: json.RawMessage(`{"prompt":"x"}`)})
		if errors.Is(err, taskdb.ErrInsufficientCredits) {
			refused.Add(1)
		}
	})
	if refused.Load() != clients {
		t.Errorf("%d of %d creates were refused with all credits held", refused.Load(), clients)
	}
	for _, id := range l.texts("select id::text from tasks where owner_id = $1 and status = 'In Progress'", payer.id) {
		_, err := l.db.CompleteTask(t.Context(), taskdb.Hold{TaskID: uuid.MustParse(id)}, taskdb.Output{Location: "https://x.test/1"})
		l.must(err)
	}
	account, err := l.db.GetCredits(t.Context(), payer.id)
	if err != nil || account.Balance != 0 || account.Held != 0 {
		t.Errorf("%v, %v", account, err)
	}
	l.healthy()
}

func inParallel(n int, do func(int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

// TestS14CostsThatAreNoAmounts: "Negative, NaN, huge and fractional-overflow costs are refused." A client names no cost; what it names are the units that one
// is made of, and the service names amounts and prices.
func TestS14CostsThatAreNoAmounts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ctx := t.Context()
	balance := value[string](l, "select balance_after::text from credit_ledger where owner_id = $1 order by seq desc limit 1", l.a.id)
	for _, amount := range []string{"0", "-1", "-0.001", "'NaN'", "'Infinity'", "'-Infinity'", "1e30", "100000000.001", "0.0001", "1.0005", "null"} {
		_, err := l.pg.Pool.Exec(ctx, "select grant_credits($1, "+amount+"::numeric)", l.a.id)
		if got := code(err); got != "TD005" && got != "22003" {
			t.Errorf("granting %s: %v", amount, err)
		}
	}
	for _, units := range []string{"-1", "0", "1.5", "1e3", "201", "1000000000000000000000", `"NaN"`, `"1; drop table tasks"`, "null", "{}", "[3]", "true", `"x"`, `""`, `"-3"`, `"1e2"`} {
		_, err := l.db.CreateTask(ctx, taskdb.NewTask{ProjectID: l.a.project, TaskType: "travel_orchestrator", Params: json.RawMessage(
			`{"orchestrator_details":{"num_new_segments_to_generate":` + units + `}}`,
		)})
		if got := code(err); got != "TD003" && got != "TD001" {
			t.Errorf("%s segments: %v", units, err)
		}
	}
	for _, change := range []string{"base_price = -1", "unit_price = -1", "base_price = 'NaN'", "base_price = 'Infinity'", "base_price = 1e12"} {
		if _, err := l.pg.Pool.Exec(ctx, "update task_types set "+change+" where name = 'travel_orchestrator'"); code(err) != "23514" && code(err) != "22003" {
			t.Errorf("a price of %s: %v", change, err)
		}
	}
	if got := value[string](l, "select balance_after::text from credit_ledger where owner_id = $1 order by seq desc limit 1", l.a.id); got != balance {
		t.Errorf("the balance went from %s to %s", balance, got)
	}
}

// TestS15Idempotency: "Same idempotency key and same body: same answer, one charge. Same key and another body: 409." TD030 is answered with 409.
func TestS15Idempotency(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.drain()
	payer := l.person("payer", 10)
	task := taskdb.NewTask{ProjectID: payer.project, TaskType: "single_image", Params: json.RawMessage(`{"prompt":"x"}`), IdempotencyKey: "k"}
	var ids sync.Map
	inParallel(16, func(int) {
		created, err := l.db.CreateTask(t.Context(), task)
		if err != nil {
			t.Error(err)
		}
		ids.Store(created.ID, true)
	})
	n := 0
	ids.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d tasks for one key", n)
	}
	for name, other := range map[string]taskdb.NewTask{
		"params": {ProjectID: payer.project, TaskType: "single_image", Params: json.RawMessage(`{"prompt":"y"}`), IdempotencyKey: "k"},
		"type": {ProjectID: payer.project, TaskType: "travel_orchestrator", Params: json.RawMessage(
			`{"orchestrator_details":{"num_new_segments_to_generate":1,"input_image_paths_resolved":["a","b"]}}`,
		), IdempotencyKey: "k"},
	} {
		if _, err := l.db.CreateTask(t.Context(), other); code(err) != "TD030" {
			t.Errorf("another %s: %v", name, err)
		}
	}
	// Somebody else's key of the same name is another key.
	if _, err := l.db.CreateTask(t.Context(), taskdb.NewTask{ProjectID: l.b.project, TaskType: "single_image", Params: json.RawMessage(`{"prompt":"z"}`), IdempotencyKey: "k"}); err != nil {
		t.Error(err)
	}
	claimed := l.claimOf(payer)
	done, err := l.db.CompleteTask(t.Context(), taskdb.HoldOf(claimed), taskdb.Output{Location: "https://x.test/1"})
	l.must(err)
	again, err := l.db.CreateTask(t.Context(), task)
	if err != nil || again.ID != done.ID || again.Status != taskdb.StatusComplete {
		t.Errorf("repeated after its end: %v %v %v", again.ID, again.Status, err)
	}
	if account, err := l.db.GetCredits(t.Context(), payer.id); err != nil || account.Balance != taskdb.WholeCredits(9) || account.Held != 0 {
		t.Errorf("%v, %v", account, err)
	}
	l.healthy()
}

// claimOf claims until it gets a task of the person's.
func (l *lab) claimOf(of person) taskdb.Task {
	l.t.Helper()
	for {
		task, found, err := l.db.ClaimNextTask(l.t.Context(), "trusted worker")
		l.must(err)
		if !found {
			l.t.Fatal("nothing to claim")
		}
		if task.OwnerID == of.id {
			return task
		}
	}
}

// TestS16ReplaysChangeNothing: "A replayed or duplicated settle or refund changes nothing." By the functions, many at once, and by the constraints of the
// ledger beneath them.
func TestS16ReplaysChangeNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.drain()
	payer := l.person("payer", 10)
	for name, end := range map[string]func(hold taskdb.Hold) error{
		"complete": func(hold taskdb.Hold) error {
			_, err := l.db.CompleteTask(context.WithoutCancel(t.Context()), hold, taskdb.Output{Location: "https://x.test/1"})
			return err
		},
		"fail":   func(hold taskdb.Hold) error { _, err := l.db.FailTask(t.Context(), hold, "no"); return err },
		"cancel": func(hold taskdb.Hold) error { _, err := l.db.CancelTask(t.Context(), hold.TaskID, ""); return err },
	} {
		before, err := l.db.GetCredits(t.Context(), payer.id)
		l.must(err)
		l.image(payer)
		hold := taskdb.HoldOf(l.claimOf(payer))
		inParallel(12, func(int) {
			if err := end(hold); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		after, err := l.db.GetCredits(t.Context(), payer.id)
		l.must(err)
		want := before.Balance
		if name == "complete" {
			want -= taskdb.WholeCredits(1)
		}
		if after.Balance != want || after.Held != before.Held {
			t.Errorf("%s twelve times: %v, before %v", name, after, before)
		}
		if n := value[int](l, "select count(*) from credit_ledger where task_id = $1 and kind in ('settle', 'release')", hold.TaskID); n != 1 {
			t.Errorf("%s twelve times made %d entries", name, n)
		}
	}
	for _, kind := range []string{"settle", "release"} {
		_, err := l.pg.Pool.Exec(t.Context(), `insert into credit_ledger (owner_id, seq, kind, amount, balance_after, held_after, task_id, attempt)
			select owner_id, seq + 1000, kind, amount, balance_after, held_after, task_id, attempt from credit_ledger where owner_id = $1 and kind = $2 limit 1`, payer.id, kind)
		if code(err) != "23505" {
			t.Errorf("a second %s in the ledger: %v", kind, err)
		}
	}
	l.healthy()
}

// TestS12StrangersThingsLookLikeMissingOnes: "The timing and message for an unknown or expired token do not reveal whether an id exists (404 and 403 have one
// shape)." Every call of the matrix that names something of A's is answered to B as the same call with an id that does not exist, but for the id.
func TestS12StrangersThingsLookLikeMissingOnes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	compared := 0
	for name, probe := range functions {
		for _, who := range []string{"B", "B's token", "B's worker"} {
			findings := l.compareRefusals(name, probe.call, l.caller(who))
			compared++
			none(t, findings)
		}
	}
	for name, probe := range tables {
		if probe.forge != "" {
			none(t, l.compareRefusals(name, probe.forge, l.caller("B")))
			compared++
		}
	}
	if compared < 100 {
		t.Errorf("only %d calls were compared", compared)
	}
}

func (l *lab) compareRefusals(name, call string, c caller) (findings []string) {
	l.t.Helper()
	if strings.Contains(call, "{worker}") && !strings.Contains(call, "{running}") || strings.Contains(call, "NAME") || strings.Contains(call, "{erased}") {
		return nil // a name of the caller's own
	}
	ask := func(known bool) (answer string) {
		l.try(caller{}, func(tx pgx.Tx) {
			text := l.fill(l.extra(tx, call, c))
			for _, id := range []uuid.UUID{l.a.id, l.a.project, l.a.shot, l.queued, l.running, l.done, l.generation, l.token, l.link} {
				if !known {
					text = strings.ReplaceAll(text, id.String(), uuid.NewSHA1(uuid.Nil, id[:]).String())
				}
			}
			become(l.t, tx, c)
			_, err := tx.Exec(l.t.Context(), text)
			answer = masked(err)
		})
		return answer
	}
	if got, want := ask(true), ask(false); got != want {
		findings = append(findings, fmt.Sprintf("%s, %s: A's is answered with %q, an unknown one with %q", name, c.name, got, want))
	}
	return findings
}
