package clients_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

// connectSection returns what sql/README.md says under "Connect an app".
func connectSection(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../sql/README.md")
	must(t, err)
	_, section, _ := strings.Cut(string(text), "\n## Connect an app\n")
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// examples returns the blocks of SQL of the section: the making of the logins, and a transaction.
func examples(t *testing.T) (logins, transaction string) {
	t.Helper()
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(connectSection(t), -1)
	if len(blocks) != 2 {
		t.Fatalf("sql/README.md has %d examples of connecting, want 2", len(blocks))
	}
	return blocks[0][1], blocks[1][1]
}

// TestAnAppConnectsAsTheReadmeSays runs the examples of sql/README.md.
func TestAnAppConnectsAsTheReadmeSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	logins, transaction := examples(t)
	prefix, password := "test_"+strings.ToLower(rand.Text())+"_", rand.Text()
	w.admin(strings.ReplaceAll(strings.ReplaceAll(logins, "'…'", "'"+password+"'"), "my_", prefix))
	t.Cleanup(func() { // after the connections
		for _, name := range []string{"app", "backend", "worker"} {
			_, err := w.pg.Pool.Exec(context.WithoutCancel(ctx), "drop role "+prefix+name)
			must(t, err)
		}
	})
	connect := func(name string) *pgx.Conn {
		address, err := url.Parse(w.pg.URL)
		must(t, err)
		address.User = url.UserPassword(prefix+name, password)
		conn, err := pgx.Connect(ctx, address.String())
		must(t, err)
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) })
		return conn
	}
	code := func(err error) string {
		var pg *pgconn.PgError
		errors.As(err, &pg)
		if pg == nil {
			return "none"
		}
		return pg.Code
	}

	app := connect("app")
	for _, limit := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		var value string
		must(t, app.QueryRow(ctx, "select current_setting($1)", limit).Scan(&value))
		if value == "0" {
			t.Errorf("%s is off", limit)
		}
	}
	become := strings.NewReplacer("…the user…", w.ada.id, "…the project…", w.ada.project, `"email": "…"`, `"email": "ada@example.com"`).Replace(transaction)
	_, err := app.Exec(ctx, become)
	must(t, err)
	var tasks int
	must(t, w.pg.Pool.QueryRow(ctx, "select count(*) from tasks where owner_id = $1 and params = '{\"prompt\": \"a lighthouse\"}'", w.ada.id).Scan(&tasks))
	if tasks != 1 {
		t.Fatalf("the example made %d tasks", tasks)
	}

	// The next transaction on the same connection is nobody's, and a forgotten role is an error.
	var uid *string
	must(t, pgx.BeginFunc(ctx, app, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "set local role authenticated")
		must(t, err)
		must(t, tx.QueryRow(ctx, "select auth.uid()::text").Scan(&uid))
		must(t, tx.QueryRow(ctx, "select count(*) from tasks").Scan(&tasks))
		_, err = tx.Exec(ctx, "savepoint before")
		must(t, err)
		_, err = taskdb.New(tx).GetCredits(ctx, [16]byte{})
		if !errors.Is(err, taskdb.ErrNotSignedIn) {
			t.Errorf("nobody's credits: %v", err)
		}
		_, err = tx.Exec(ctx, "rollback to before")
		return err
	}))
	if uid != nil || tasks != 0 {
		t.Errorf("the next transaction is %v and sees %d tasks", uid, tasks)
	}
	for _, statement := range []string{
		"select * from get_credits()", "select * from tasks", "set role service_role", "set role worker", "select * from darkroom.access_tokens",
		"begin; set local role authenticated; select * from grant_credits(gen_random_uuid(), 1)",
		"begin; set local role authenticated; update tasks set status = 'Complete'",
		"begin; set local role authenticated; select darkroom.lock_owner(gen_random_uuid())",
	} {
		if _, err := app.Exec(ctx, statement); code(err) != "42501" {
			t.Errorf("%s: %v, want 42501", statement, err)
		}
		_, err := app.Exec(ctx, "rollback")
		must(t, err)
	}

	// A plain INSERT raises what create_task raises.
	err = pgx.BeginFunc(ctx, app, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)", string(w.cleo.claims))
		must(t, err)
		_, err = tx.Exec(ctx, `insert into tasks (project_id, task_type, params, cost, status) values ($1, 'single_image', '{"prompt": "a"}', 0, 'Queued')`, w.cleo.project)
		return err
	})
	if code(err) != "TD010" {
		t.Errorf("an insert without credits: %v, want TD010", err)
	}

	account, err := taskdb.New(connect("backend")).GetCredits(ctx, parse(w.ada.id))
	if err != nil || account.Available != taskdb.WholeCredits(100) {
		t.Errorf("the backend reads %+v, %v", account, err)
	}
	worker := taskdb.New(connect("worker"))
	_, err = worker.RegisterWorker(ctx, taskdb.Registration{WorkerID: "gpu-1"})
	must(t, err)
	task, found, err := worker.ClaimNextTask(ctx, "gpu-1")
	if err != nil || !found || task.OwnerID.String() != w.ada.id {
		t.Errorf("the worker claims %v, %v, %v", task.OwnerID, found, err)
	}
}

// TestTheReadmeSaysWhatEachRoleMayCall holds the table of sql/README.md to the grants.
func TestTheReadmeSaysWhatEachRoleMayCall(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.New(t)
	section := connectSection(t)
	for _, role := range []string{"anon", "authenticated", "worker", "service_role"} {
		rows, err := pg.Pool.Query(t.Context(), `
			select p.proname from pg_proc p
			where p.pronamespace = 'public'::regnamespace and p.prorettype <> 'trigger'::regtype
			  and has_function_privilege($1, p.oid, 'execute') = ($1 <> 'service_role')
			order by p.proname collate "C"`, role)
		must(t, err)
		want, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must(t, err)
		if role == "service_role" {
			if len(want) > 0 {
				t.Errorf("service_role may not call %v", want)
			}
			continue
		}
		_, line, _ := strings.Cut(section, "| `"+role+"` |")
		line, _, _ = strings.Cut(line, "\n")
		var got []string
		for _, word := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(line, -1) {
			got = append(got, word[1])
		}
		if !slices.Equal(got, want) {
			t.Errorf("sql/README.md, %s: the grants are\n| `%s` | `%s` |", role, role, strings.Join(want, "`, `"))
		}
	}
}
