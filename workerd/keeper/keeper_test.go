package keeper_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
	"darkroom/workerd/keeper"
)

const patience = 30 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, db *taskdb.DB) *keeper.Loop {
	t.Helper()
	loop := keeper.NewLoop(db, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { loop.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	return loop
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s not %s", patience, what)
		}
	}
}

func TestTheLoopLetsADueRetryIn(t *testing.T) {
	t.Parallel()
	test := taskdbtest.New(t)
	db := taskdb.New(test.Pool)
	user, err := db.CreateUser(t.Context(), uuid.Nil, "")
	must(t, err)
	_, err = db.GrantCredits(t.Context(), user.ID, taskdb.WholeCredits(10), "", "")
	must(t, err)
	project, err := db.CreateProject(t.Context(), user.ID, "")
	must(t, err)
	_, err = db.CreateTask(t.Context(), taskdb.NewTask{ProjectID: project.ID, TaskType: "single_image", Params: json.RawMessage(`{"prompt":"a cat"}`)})
	must(t, err)
	_, err = db.RegisterWorker(t.Context(), taskdb.Registration{WorkerID: "w"})
	must(t, err)
	task, ok, err := db.ClaimNextTask(t.Context(), "w")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	_, err = db.RetryTask(t.Context(), taskdb.HoldOf(task), "again", 500*time.Millisecond)
	must(t, err)
	if _, ok, err := db.ClaimNextTask(t.Context(), "w"); ok || err != nil {
		t.Fatalf("claimed without a keeper: %v %v", ok, err)
	}
	run(t, db)
	eventually(t, "claimed", func() bool {
		_, ok, err := db.ClaimNextTask(t.Context(), "w")
		must(t, err)
		return ok
	})
}

func TestTheLoopMovesTheMarkAfterClaims(t *testing.T) {
	t.Parallel()
	test := taskdbtest.New(t)
	loop := run(t, taskdb.New(test.Pool))
	mark := func() (value int64) {
		must(t, test.Pool.QueryRow(t.Context(), "select last_value from darkroom.ready_mark").Scan(&value))
		return value
	}
	// By itself it moves every 2 s only.
	moved := map[int64]bool{}
	began := time.Now()
	eventually(t, "moved 10 times", func() bool {
		loop.Claimed()
		moved[mark()] = true
		return len(moved) > 10
	})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("10 moves took %s", took)
	}
}

func TestTheLoopGoesOnAfterErrors(t *testing.T) {
	t.Parallel()
	test := taskdbtest.New(t)
	loop := run(t, taskdb.New(test.Pool))
	loop.Claimed()
	conn := test.Conn(t)
	_, err := conn.Exec(t.Context(), "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
	must(t, err)
	mark := func() (value int64) {
		must(t, conn.QueryRow(t.Context(), "select last_value from darkroom.ready_mark").Scan(&value))
		return value
	}
	for range 2 {
		before := mark()
		eventually(t, "moved", func() bool {
			loop.Claimed()
			return mark() > before
		})
	}
}
