package taskdb_test

import (
	"context"
	"testing"

	"darkroom/sql/taskdb"
)

// The log says the same whatever the time zone of the connection that changed a row: its events, folded, give the row (rule 6).
func TestEventsDoNotDependOnTheTimeZoneOfAConnection(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	for _, zone := range []string{"America/New_York", "Asia/Kolkata", "UTC"} {
		conn := b.pg.Conn(t)
		if _, err := conn.Exec(t.Context(), "select set_config('timezone', $1, false)", zone); err != nil {
			t.Fatal(err)
		}
		db := taskdb.New(conn)
		_, err := db.CreateTask(t.Context(), imageTask(b.project))
		b.noError(err)
		task, _, err := db.ClaimNextTask(t.Context(), anyWorker)
		b.noError(err)
		_, err = db.CompleteTask(t.Context(), taskdb.HoldOf(task), taskdb.Output{Location: "x"})
		b.noError(err)
		b.healthy()
		violations, err := db.InvariantViolations(t.Context())
		if err != nil || len(violations) != 0 {
			t.Errorf("seen from %s: %v, %v", zone, violations, err)
		}
	}
}

// "useWebSocket automatically reconnects": each change is in the log, once, with its project, and a listener that armed the bell is
// woken.
func TestEventsAreLoggedAndTheListenerIsWoken(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	ctx, stop := context.WithTimeout(t.Context(), awhile)
	defer stop()
	seen := make(chan int, 1000)
	ended := make(chan error, 1)
	go func() {
		ended <- taskdb.Listen(ctx, b.pg.URL, func(ctx context.Context) error {
			var n int
			if err := b.pg.Pool.QueryRow(ctx, "select count(*) from darkroom.task_events").Scan(&n); err != nil {
				return err
			}
			seen <- n
			return nil
		})
	}()
	wait := func(n int) {
		t.Helper()
		for {
			select {
			case got := <-seen:
				if got >= n {
					return
				}
			case <-ctx.Done():
				t.Fatalf("the listener was not woken for event %d", n)
			}
		}
	}
	wait(3) // at once: project, shot, grant
	b.image("shot_id", b.shot)
	wait(4)
	b.complete(b.claim(anyWorker))
	wait(10)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the listener ended with %v", err)
	}
	got := value[[]string](b, `select array_agg(e.table_name || ' ' || e.kind || coalesce(' ' || (e.record ->> 'status'), '') || coalesce(' ' || (e.record ->> 'kind'), '')
		|| case when e.project_id = $1 then ' here' else '' end order by e.id)
		from auth.read_events(auth.event_epoch(), '3:3:') e where e.table_name is not null`, b.project)
	want := map[string]int{
		"projects INSERT here": 1, "shots INSERT here": 1, "credit_ledger INSERT grant": 1, "tasks INSERT Queued here": 1, "tasks UPDATE In Progress here": 1, "credit_ledger INSERT hold": 1,
		"generations INSERT here": 1, "shot_generations INSERT here": 1, "tasks UPDATE Complete here": 1, "credit_ledger INSERT settle": 1,
	}
	for _, event := range got {
		want[event]--
	}
	for event, n := range want {
		if n != 0 {
			t.Errorf("%q is logged %d times too few in %q", event, n, got)
		}
	}
}
