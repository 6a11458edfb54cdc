package security_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/identity"
	"darkroom/gateway/server"
	"darkroom/sql/localpg"
	"darkroom/sql/taskdb"
)

// TestS04ManagedPostgreSQL: a managed PostgreSQL gives no superuser. Everything is migrated by a plain owner (CREATEROLE, no superuser, no BYPASSRLS), for
// whom row security holds, too; the gateway and workerd log in as members of authenticator and worker. A task then goes through its life.
func TestS04ManagedPostgreSQL(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// A server of its own: the roles of the tests' server were made by its superuser.
	cluster, err := localpg.Start(ctx, localpg.Config{Log: os.Stderr})
	must(err)
	t.Cleanup(func() {
		if err := cluster.Stop(t.Context()); err != nil {
			t.Log(err)
		}
	})
	exec := func(address, sql string) {
		t.Helper()
		conn, err := pgx.Connect(ctx, address)
		must(err)
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(cluster.URL(), "create role owner login createrole")
	exec(cluster.URL(), "create database app owner owner")
	login := func(role string) string {
		t.Helper()
		address, err := url.Parse(cluster.URL())
		must(err)
		address.User, address.Path = url.User(role), "/app"
		return address.String()
	}
	must(server.Migrate(ctx, login("owner")))
	exec(login("owner"), "create role gateway login in role authenticator; create role workerd login in role worker; create role backend login in role service_role")

	connect := func(role string) *pgxpool.Pool {
		t.Helper()
		pool, err := taskdb.OpenPool(ctx, login(role))
		must(err)
		t.Cleanup(pool.Close)
		return pool
	}
	gateway, backend := connect("gateway"), taskdb.New(connect("backend"))
	as, err := identity.New(ctx, gateway)
	must(err)
	if _, err := server.Pending(ctx, gateway); err != nil {
		t.Errorf("the gateway's login: %v", err)
	}
	workers := connect("workerd")
	worker := taskdb.New(workers)

	// An owner without superuser's rights is under row security as well.
	for _, role := range []string{"owner", "gateway", "workerd", "backend"} {
		var powers, own bool
		conn := connect(role)
		must(conn.QueryRow(ctx, `select rolsuper or rolbypassrls, pg_has_role(current_user, (select relowner from pg_class where oid = 'public.tasks'::regclass), 'usage')
			from pg_roles where rolname = current_user`).Scan(&powers, &own))
		if powers || own != (role == "owner") {
			t.Errorf("%s: powers %v, is the owner %v", role, powers, own)
		}
	}

	account, err := backend.CreateUser(ctx, uuid.Nil, "a@example.com")
	must(err)
	_, err = backend.GrantCredits(ctx, account.ID, taskdb.WholeCredits(20), "k", "n")
	must(err)
	claims, err := json.Marshal(user(account.ID))
	must(err)
	who := identity.Identity{Role: identity.Authenticated, Subject: account.ID, Claims: claims}
	asUser := func(do func(db *taskdb.DB, tx pgx.Tx) error) {
		t.Helper()
		must(as.As(ctx, who, pgx.ReadWrite, func(tx pgx.Tx) error { return do(taskdb.New(tx), tx) }))
	}
	var task, travel taskdb.Task
	var token taskdb.NewAccessToken
	asUser(func(db *taskdb.DB, tx pgx.Tx) error {
		var project uuid.UUID
		if err := tx.QueryRow(ctx, "insert into projects (name) values ('p') returning id").Scan(&project); err != nil {
			return err
		}
		shot, err := db.CreateShot(ctx, project, "s")
		if err != nil {
			return err
		}
		task, err = db.CreateTask(ctx, taskdb.NewTask{ProjectID: project, TaskType: "single_image", Params: json.RawMessage(fmt.Sprintf(`{"prompt":"x","shot_id":%q}`, shot.ID))})
		if err != nil {
			return err
		}
		travel, err = db.CreateTask(ctx, taskdb.NewTask{ProjectID: project, TaskType: "travel_orchestrator", Params: json.RawMessage(
			`{"orchestrator_details":{"num_new_segments_to_generate":1,"input_image_paths_resolved":["a","b"]}}`,
		)})
		if err != nil {
			return err
		}
		token, err = db.CreateAccessToken(ctx, "user", "t", 0, uuid.Nil)
		return err
	})
	_, err = worker.RegisterWorker(ctx, taskdb.Registration{WorkerID: "w", Capabilities: []string{"wan2gp"}})
	must(err)
	for done := 0; done < 4; {
		claimed, err := worker.ClaimNextTasks(ctx, "w", 10, nil)
		must(err)
		if len(claimed) == 0 {
			t.Fatalf("nothing to claim after %d completions", done)
		}
		for _, c := range claimed {
			hold := taskdb.HoldOf(c)
			if c.ID == travel.ID {
				_, err = worker.ExpandTravelOrchestrator(ctx, hold)
				must(err)
				done++
				continue
			}
			must(worker.ReportProgress(ctx, hold, json.RawMessage(`{"percent":50}`)))
			_, err = worker.HeartbeatWorker(ctx, "w", nil, nil)
			must(err)
			_, err = worker.CompleteTask(ctx, hold, taskdb.Output{Location: "https://x.test/" + c.ID.String()})
			must(err)
			done++
		}
	}
	_, err = worker.SweepTasks(ctx, 100)
	must(err)
	_, err = worker.RequeueExpiredTasks(ctx, 100)
	must(err)
	_, err = worker.TickReadyMark(ctx, true)
	must(err)
	asUser(func(db *taskdb.DB, tx pgx.Tx) error {
		got, err := db.GetTask(ctx, task.ID)
		if err != nil || got.Status != taskdb.StatusComplete || !got.GenerationCreated {
			t.Errorf("%v %v", got.Status, err)
		}
		if got, err = db.GetTask(ctx, travel.ID); err != nil || got.Status != taskdb.StatusComplete {
			t.Errorf("%v %v", got.Status, err)
		}
		credits, err := db.GetCredits(ctx, uuid.Nil)
		if err != nil || credits.Balance != taskdb.WholeCredits(14) || credits.Held != 0 {
			t.Errorf("%v %v", credits, err)
		}
		var links, ledger int
		if err := tx.QueryRow(ctx, "select (select count(*) from shot_generations), (select count(*) from credit_ledger)").Scan(&links, &ledger); err != nil || links != 1 || ledger != 5 {
			t.Errorf("%d links, %d entries, %v", links, ledger, err)
		}
		return nil
	})
	_, err = backend.RevokeAccessToken(ctx, token.ID)
	must(err)
	audit, err := backend.ListAudit(ctx, "", 100, 0)
	if err != nil || len(audit) < 4 || audit[0].Login != "backend" || audit[0].Role != "backend" {
		t.Errorf("%v %v", audit, err)
	}
	faults, err := backend.InvariantViolations(ctx)
	if err != nil || len(faults) > 0 {
		t.Errorf("invariant_violations: %v, %v", faults, err)
	}
	_, err = backend.EraseUser(ctx, account.ID)
	must(err)
	if faults, err = backend.InvariantViolations(ctx); err != nil || len(faults) > 0 {
		t.Errorf("after erasing: %v, %v", faults, err)
	}
}
