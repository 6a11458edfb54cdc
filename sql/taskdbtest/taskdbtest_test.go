package taskdbtest_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"darkroom/migrations"
	"darkroom/sql/taskdbtest"
)

func TestEachTestHasItsOwnMigratedDatabase(t *testing.T) {
	t.Parallel()
	first, second := taskdbtest.New(t), taskdbtest.New(t)
	if _, err := first.Pool.Exec(t.Context(), "create table only_here ()"); err != nil {
		t.Fatal(err)
	}
	for db, want := range map[*taskdbtest.DB]bool{first: true, second: false} {
		var there bool
		if err := db.Pool.QueryRow(t.Context(), "select to_regclass('only_here') is not null").Scan(&there); err != nil {
			t.Fatal(err)
		}
		if there != want {
			t.Errorf("%s: table there: %v, want %v", db.URL, there, want)
		}
		pending, err := migrations.Pending(t.Context(), db.Pool, migrations.FS)
		if err != nil || len(pending) > 0 {
			t.Errorf("pending migrations: %v, %v", pending, err)
		}
	}
}

func TestAnEmptyDatabaseHasNoMigrations(t *testing.T) {
	t.Parallel()
	pending, err := migrations.Pending(t.Context(), taskdbtest.NewEmpty(t).Pool, migrations.FS)
	if err != nil || len(pending) == 0 || pending[0] != "00001_tables.sql" {
		t.Errorf("pending migrations: %v, %v", pending, err)
	}
}

func TestTheDatabaseGoesWithItsTest(t *testing.T) {
	t.Parallel()
	watcher := taskdbtest.NewEmpty(t)
	var name string
	t.Run("inner", func(t *testing.T) {
		db := taskdbtest.New(t)
		db.Conn(t)
		if err := db.Pool.QueryRow(t.Context(), "select current_database()").Scan(&name); err != nil {
			t.Fatal(err)
		}
	})
	var left bool
	if err := watcher.Pool.QueryRow(t.Context(), "select exists (select from pg_database where datname = $1)", name).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if left {
		t.Errorf("database %s was left", name)
	}
}

func TestKillEndsAConnection(t *testing.T) {
	t.Parallel()
	db := taskdbtest.New(t)
	conn := db.Conn(t)
	db.Kill(t, conn.PgConn().PID())
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the killed connection answers")
	}
}

// TestTheServerEndsWithAPanickingProgram runs this program again as one whose test panics.
func TestTheServerEndsWithAPanickingProgram(t *testing.T) {
	t.Parallel()
	const env = "TASKDBTEST_PANIC"
	if os.Getenv(env) != "" {
		db := taskdbtest.New(t)
		var data string
		if err := db.Pool.QueryRow(t.Context(), "show data_directory").Scan(&data); err != nil {
			t.Fatal(err)
		}
		panic("data directory: " + data + ".")
	}
	if os.Getenv(taskdbtest.EnvURL) != "" {
		t.Skip("a server that is not ours does not end")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), env+"=1")
	out, err := cmd.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); !failed {
		t.Fatalf("the program did not fail: %v\n%s", err, out)
	}
	_, rest, found := strings.Cut(string(out), "data directory: ")
	data, _, complete := strings.Cut(rest, ".")
	if !found || !complete {
		t.Fatalf("no data directory in %s", out)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := os.Stat(data)
		if errors.Is(err, syscall.ENOENT) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still there: %v", data, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
