package security_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

// canary stands in every text of A's. Nobody else may ever read it.
const canary = "canary-of-a"

// workerOfA is what A's worker calls itself.
const workerOfA = "gpu"

// lab is a database with two users who know nothing of one another, A with some of everything, and the callers who try to reach it.
type lab struct {
	t    testing.TB
	pg   *taskdbtest.DB
	db   *taskdb.DB // as the superuser
	a, b person
	// what A has
	queued, running, done, failed uuid.UUID // tasks; running is held by tokenA's worker
	generation, link, token       uuid.UUID
	callers                       []caller
}

type person struct{ id, project, shot uuid.UUID }

// caller is who asks: a role with claims, as the gateway would set them. With role "" it is the gateway's login itself.
type caller struct {
	name   string
	role   string
	claims map[string]any
}

func newLab(t testing.TB) *lab {
	t.Helper()
	pg := taskdbtest.New(t)
	l := &lab{t: t, pg: pg, db: taskdb.New(pg.Pool)}
	ctx := t.Context()
	l.a, l.b = l.person(canary, 100), l.person("b", 100)
	userToken := func(owner uuid.UUID, scope string) map[string]any {
		label := canary
		if owner != l.a.id {
			label = "b"
		}
		token, err := l.db.CreateAccessToken(ctx, scope, label, 0, owner)
		l.must(err)
		hash := sha256.Sum256([]byte(token.Token))
		if owner == l.a.id && scope == "user" {
			l.token = token.ID
		}
		return value[map[string]any](l, "select auth.identify_token($1)", hash[:])
	}
	l.callers = []caller{
		{"anon", "anon", map[string]any{"role": "anon"}},
		{"A", "authenticated", user(l.a.id)},
		{"A's token", "authenticated", userToken(l.a.id, "user")},
		{"B", "authenticated", user(l.b.id)},
		{"B's token", "authenticated", userToken(l.b.id, "user")},
		{"user without claims", "authenticated", nil},
		{"A's worker", "worker", userToken(l.a.id, "worker")},
		{"B's worker", "worker", userToken(l.b.id, "worker")},
		{"worker of nobody", "worker", userToken(uuid.Nil, "worker")},
		{"trusted worker", "worker", nil},
		{"service", "service_role", map[string]any{"role": "service_role"}},
		{"gateway's login", "authenticator", nil},
	}
	l.as("A's worker", func(tx pgx.Tx) {
		_, err := taskdb.New(tx).RegisterWorker(ctx, taskdb.Registration{WorkerID: workerOfA})
		l.must(err)
	})
	for _, name := range []string{"B's worker", "worker of nobody", "trusted worker"} {
		l.as(name, func(tx pgx.Tx) {
			_, err := taskdb.New(tx).RegisterWorker(ctx, taskdb.Registration{WorkerID: name})
			l.must(err)
		})
	}
	claim := func() uuid.UUID {
		var id uuid.UUID
		l.as("A's worker", func(tx pgx.Tx) {
			task, found, err := taskdb.New(tx).ClaimNextTask(ctx, workerOfA)
			if err != nil || !found {
				l.t.Fatalf("nothing claimed: %v", err)
			}
			id = task.ID
		})
		return id
	}
	l.image(l.a)
	l.done = claim()
	l.image(l.a)
	l.failed = claim()
	l.image(l.a)
	l.running = claim()
	l.queued = l.image(l.a).ID
	_, err := l.db.CompleteTask(ctx, taskdb.Hold{TaskID: l.done}, taskdb.Output{Location: "https://x.test/" + canary, Metadata: json.RawMessage(`{"of":"` + canary + `"}`)})
	l.must(err)
	_, err = l.db.FailTask(ctx, taskdb.Hold{TaskID: l.failed}, canary)
	l.must(err)
	l.generation = value[uuid.UUID](l, "select id from generations where source_task_id = $1", l.done)
	l.link = value[uuid.UUID](l, "select id from shot_generations where generation_id = $1", l.generation)
	l.exec("insert into generation_errors (owner_id, task_id, step, message) values ($1, $2, 'generation', $3)", l.a.id, l.failed, canary)
	l.exec("insert into darkroom.credentials (user_id, email, password_hash, user_metadata) values ($1, $2, 'hash', jsonb_build_object('of', $3::text))",
		l.a.id, canary+"@example.com", canary)
	l.exec("with s as (insert into darkroom.sessions (user_id) values ($1) returning id) insert into darkroom.refresh_tokens (hash, session_id) select sha256('refresh'), s.id from s", l.a.id)
	l.exec("insert into darkroom.uploads (key, owner_id, bytes) values ($1, $2, 1)", l.a.id.String()+"/"+canary+".png", l.a.id)
	l.image(l.b)
	return l
}

func user(id uuid.UUID) map[string]any {
	return map[string]any{"role": "authenticated", "sub": id.String()}
}

// person makes a user with credits, a project and a shot, whose texts hold the mark.
func (l *lab) person(mark string, credits int64) person {
	l.t.Helper()
	ctx := l.t.Context()
	account, err := l.db.CreateUser(ctx, uuid.Nil, mark+"@example.com")
	l.must(err)
	_, err = l.db.GrantCredits(ctx, account.ID, taskdb.WholeCredits(credits), mark, mark)
	l.must(err)
	project, err := l.db.CreateProject(ctx, account.ID, mark)
	l.must(err)
	shot, err := l.db.CreateShot(ctx, project.ID, mark)
	l.must(err)
	return person{account.ID, project.ID, shot.ID}
}

// image creates a single_image of the person's, which costs 1 credit.
func (l *lab) image(of person) taskdb.Task {
	l.t.Helper()
	mark := "b"
	if of == l.a {
		mark = canary
	}
	task, err := l.db.CreateTask(l.t.Context(), taskdb.NewTask{
		ProjectID: of.project, TaskType: "single_image", Params: json.RawMessage(fmt.Sprintf(`{"prompt":%q,"shot_id":%q}`, mark, of.shot)),
	})
	l.must(err)
	return task
}

func (l *lab) caller(name string) caller {
	l.t.Helper()
	for _, c := range l.callers {
		if c.name == name {
			return c
		}
	}
	l.t.Fatalf("nobody is called %q", name)
	return caller{}
}

// as runs do in a transaction of the caller's and commits it.
func (l *lab) as(name string, do func(tx pgx.Tx)) {
	l.t.Helper()
	l.must(pgx.BeginFunc(l.t.Context(), l.pg.Pool, func(tx pgx.Tx) error {
		become(l.t, tx, l.caller(name))
		do(tx)
		return nil
	}))
}

// try is as, and takes everything back.
func (l *lab) try(c caller, do func(tx pgx.Tx)) {
	l.t.Helper()
	tx, err := l.pg.Pool.Begin(l.t.Context())
	l.must(err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(l.t.Context())) }()
	become(l.t, tx, c)
	do(tx)
}

// become makes the rest of the transaction a caller's, as the gateway does: by settings that end with the transaction.
func become(t testing.TB, tx pgx.Tx, c caller) {
	t.Helper()
	claims, err := json.Marshal(c.claims)
	if err != nil {
		t.Fatal(err)
	}
	if c.claims == nil {
		claims = nil
	}
	if c.role == "" {
		c.role = "none"
	}
	if _, err := tx.Exec(t.Context(), "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)", c.role, string(claims)); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// exec runs a statement as the superuser.
func (l *lab) exec(sql string, args ...any) {
	l.t.Helper()
	if _, err := l.pg.Pool.Exec(l.t.Context(), sql, args...); err != nil {
		l.t.Fatalf("%s: %v", sql, err)
	}
}

// value reads one value as the superuser.
func value[T any](l *lab, sql string, args ...any) T {
	l.t.Helper()
	rows, err := l.pg.Pool.Query(l.t.Context(), sql, args...)
	l.must(err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		l.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// texts reads a column of texts as the superuser.
func (l *lab) texts(sql string, args ...any) []string {
	l.t.Helper()
	rows, err := l.pg.Pool.Query(l.t.Context(), sql, args...)
	l.must(err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		l.t.Fatalf("%s: %v", sql, err)
	}
	return list
}

// healthy wants the invariants of the database to hold.
func (l *lab) healthy() {
	l.t.Helper()
	faults, err := l.db.InvariantViolations(l.t.Context())
	if err != nil || len(faults) > 0 {
		l.t.Errorf("invariant_violations: %v, %v", faults, err)
	}
}

// code is the SQLSTATE of an error, "" for none.
func code(err error) string {
	var pg *pgconn.PgError
	var td *taskdb.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &td):
		return td.Code
	case errors.As(err, &pg):
		return pg.Code
	}
	return err.Error()
}

// none fails the test for each finding.
func none(t *testing.T, findings []string) {
	t.Helper()
	for _, finding := range findings {
		t.Error(finding)
	}
}

// await waits until a question is answered with true.
func (l *lab) await(question string, args ...any) {
	l.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !value[bool](l, question, args...); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("waited in vain: %s", strings.TrimSpace(question))
		}
	}
}

var anID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// masked is all that a refusal says, with ids taken out.
func masked(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return fmt.Sprint(err)
	}
	return anID.ReplaceAllString(strings.Join([]string{pg.Code, pg.Message, pg.Detail, pg.Hint, pg.TableName, pg.ConstraintName}, "|"), "ID")
}
