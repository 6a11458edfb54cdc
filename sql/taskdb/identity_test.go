package taskdb_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// become makes the rest of the transaction a caller's: the role and the claims that the gateway would set.
func (b *bench) become(role string, claims map[string]any) {
	b.t.Helper()
	data, err := json.Marshal(claims)
	b.noError(err)
	b.exec("select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)", role, string(data))
}

// user is a signed-in user's claims.
func user(id uuid.UUID) map[string]any { return map[string]any{"role": "authenticated", "sub": id} }

// workerToken makes a worker's token of that user (uuid.Nil: of nobody) and returns the claims that it stands for.
func (b *bench) workerToken(owner uuid.UUID) map[string]any {
	b.t.Helper()
	token, err := b.CreateAccessToken(b.t.Context(), "worker", "test", 0, owner)
	b.noError(err)
	hash := sha256.Sum256([]byte(token.Token))
	return value[map[string]any](b, "select auth.identify_token($1)", hash[:])
}

func (b *bench) wantError(err error, want *taskdb.Error) {
	b.t.Helper()
	if !errors.Is(err, want) {
		b.t.Fatalf("got %v, want %v", err, want)
	}
}

// attempt makes a call that may be refused, which leaves the transaction usable.
func (b *bench) attempt(call func() error) error {
	b.t.Helper()
	b.exec("savepoint attempt")
	err := call()
	b.exec("rollback to attempt")
	return err
}

func TestAUserReachesOnlyTheirOwn(t *testing.T) {
	t.Parallel()
	a := setup(t, 100)
	other := a.as(100)
	ctx := t.Context()
	task := a.image()
	a.inTx(t, func(b *bench) {
		b.become("authenticated", user(a.owner))
		if got, err := b.GetTask(ctx, task.ID); err != nil || got.ID != task.ID {
			t.Errorf("own task: %v %v", got.ID, err)
		}
		account, err := b.GetCredits(ctx, uuid.Nil)
		if err != nil || account.OwnerID != a.owner {
			t.Errorf("own credits: %v %v", account, err)
		}
		project, err := b.CreateProject(ctx, uuid.Nil, "mine")
		if err != nil || project.OwnerID != a.owner {
			t.Errorf("own project: %v %v", project, err)
		}
	})
	for name, c := range map[string]struct {
		call func(b *bench) error
		want *taskdb.Error
	}{
		"task":    {func(b *bench) error { _, err := b.GetTask(ctx, task.ID); return err }, taskdb.ErrTaskNotFound},
		"cancel":  {func(b *bench) error { _, err := b.CancelTask(ctx, task.ID, ""); return err }, taskdb.ErrTaskNotFound},
		"credits": {func(b *bench) error { _, err := b.GetCredits(ctx, a.owner); return err }, taskdb.ErrUserNotFound},
		"project": {func(b *bench) error { _, err := b.CreateProject(ctx, a.owner, ""); return err }, taskdb.ErrUserNotFound},
		"shot":    {func(b *bench) error { _, err := b.CreateShot(ctx, a.project, ""); return err }, taskdb.ErrProjectNotFound},
		"create": {func(b *bench) error {
			_, err := b.CreateTask(ctx, taskdb.NewTask{ProjectID: a.project, TaskType: "single_image", Params: json.RawMessage(`{"prompt":"x"}`)})
			return err
		}, taskdb.ErrProjectNotFound},
		"insert": {func(b *bench) error {
			_, err := b.sql.Exec(ctx, `insert into tasks (project_id, task_type, params) values ($1, 'single_image', '{"prompt":"x"}')`, a.project)
			return asTD(err)
		}, taskdb.ErrProjectNotFound},
		"gallery": {func(b *bench) error {
			_, err := b.ListGenerations(ctx, taskdb.Gallery{ProjectID: a.project, MaxRows: 1})
			return err
		}, taskdb.ErrProjectNotFound},
		"token": {func(b *bench) error { _, err := b.CreateAccessToken(ctx, "user", "", 0, a.owner); return err }, taskdb.ErrUserNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a.inTx(t, func(b *bench) {
				b.become("authenticated", user(other.owner))
				b.wantError(c.call(b), c.want)
			})
		})
	}
	a.inTx(t, func(b *bench) {
		b.become("authenticated", user(other.owner))
		for _, table := range []string{"tasks", "projects", "shots"} {
			if n := value[int](b, "select count(*) from "+table+" where id <> all ($1)", []uuid.UUID{other.project, other.shot}); n > 0 {
				t.Errorf("%d rows of %s belong to somebody else", n, table)
			}
		}
	})
	a.inTx(t, func(b *bench) {
		b.become("authenticated", map[string]any{})
		_, err := b.GetTask(ctx, task.ID)
		b.wantError(err, taskdb.ErrNotSignedIn)
	})
}

// asTD is the refusal in an error of a statement that no method of taskdb made.
func asTD(err error) error {
	var pg interface{ SQLState() string }
	if errors.As(err, &pg) {
		return &taskdb.Error{Code: pg.SQLState()}
	}
	return err
}

func TestAUserWhomAnotherServiceKnowsGetsARow(t *testing.T) {
	t.Parallel()
	b := setup(t, 0)
	id := uuid.New()
	b.inTx(t, func(b *bench) {
		claims := user(id)
		claims["email"] = "new@example.com"
		b.become("authenticated", claims)
		b.exec("insert into projects (name) values ('first')")
		if got := value[string](b, "select u.email from users u join projects p on p.owner_id = u.id where u.id = $1", id); got != "new@example.com" {
			t.Errorf("%q", got)
		}
	})
}

func TestAWorkersTokenRunsOneUsersTasks(t *testing.T) {
	t.Parallel()
	a := setup(t, 100)
	other := a.as(100)
	a.inTx(t, func(b *bench) {
		stranger := other.workerToken(other.owner)
		coverTokens(b)
		b.exec("reset role")
		b.exec("select set_config('request.jwt.claims', '', true)")
		task := b.image()
		b.become("worker", stranger)
		b.register("gpu", "wan2gp") // of the same name as a's
		if tasks, err := b.ClaimNextTasks(t.Context(), "gpu", 10, nil); err != nil || len(tasks) != 0 {
			t.Errorf("claimed %v, %v", tasks, err)
		}
		b.wantError(b.attempt(func() error {
			_, err := b.CompleteTask(t.Context(), taskdb.Hold{TaskID: task.ID}, taskdb.Output{Location: "https://x.test/1"})
			return err
		}), taskdb.ErrTaskNotFound)
	})
}

// coverTokens goes through the life of tasks under a token. The bench runs in a transaction.
func coverTokens(b *bench) {
	t, ctx := b.t, b.t.Context()
	own, all := b.workerToken(b.owner), b.workerToken(uuid.Nil)
	task, second := b.image(), b.image()
	b.become("worker", own)
	b.register("gpu", "wan2gp")
	tasks, err := b.ClaimNextTasks(ctx, "gpu", 1, nil)
	if err != nil || len(tasks) != 1 || tasks[0].ID != task.ID {
		t.Fatalf("claimed %v, %v", tasks, err)
	}
	hold := taskdb.HoldOf(tasks[0])
	hold.WorkerID = "gpu" // as it calls itself
	if n := value[int](b, "select count(*) from tasks"); n != 1 {
		t.Errorf("a worker sees %d tasks, want the one that it runs", n)
	}
	b.noError(b.ReportProgress(ctx, hold, json.RawMessage(`{"percent":5}`)))
	b.wantError(b.attempt(func() error {
		_, err := b.CompleteTask(ctx, hold, taskdb.Output{Location: "https://x.test/storage/v1/object/public/image_uploads/" + uuid.NewString() + "/a.png"})
		return err
	}), taskdb.ErrNotAllowed)
	b.wantError(b.attempt(func() error {
		_, err := b.CreateTask(ctx, taskdb.NewTask{ProjectID: b.project, TaskType: "single_image", Params: json.RawMessage(`{"prompt":"x"}`)})
		return err
	}), taskdb.ErrNotAllowed)
	for _, call := range []string{"requeue_expired_tasks()", "admit_due_tasks()", "tick_ready_mark()", "sweep_tasks()", "orphaned_outputs('{}')", "arm_event_bell()"} {
		b.wantError(b.attempt(func() error {
			_, err := b.sql.Exec(ctx, "select "+call)
			return asTD(err)
		}), taskdb.ErrNotAllowed)
	}

	// Another token, which may run everybody's tasks, has a worker of the same name, and does not speak for this one.
	b.become("worker", all)
	b.register("gpu")
	b.wantError(b.attempt(func() error {
		_, err := b.CompleteTask(ctx, hold, taskdb.Output{Location: "https://x.test/1"})
		return err
	}), taskdb.ErrLeaseLost)
	b.wantError(b.attempt(func() error {
		_, err := b.FailTask(ctx, taskdb.Hold{TaskID: task.ID}, "no")
		return err
	}), taskdb.ErrLeaseLost)
	if tasks, err := b.ClaimNextTasks(ctx, "gpu", 1, nil); err != nil || len(tasks) != 1 || tasks[0].ID != second.ID {
		t.Fatalf("claimed %v, %v", tasks, err)
	}

	coverSilentWorkers(b, own, all)
	b.become("worker", own)
	out := taskdb.Output{Location: fmt.Sprintf("https://x.test/storage/v1/object/public/image_uploads/%s/a.png", b.owner)}
	for range 2 { // a repeat answers as before
		done, err := b.CompleteTask(ctx, taskdb.Hold{TaskID: task.ID}, out)
		if err != nil || done.Status != taskdb.StatusComplete {
			t.Fatalf("%v %v", done.Status, err)
		}
	}
	b.wantError(b.attempt(func() error {
		_, err := b.GetTask(ctx, task.ID)
		return asTD(err)
	}), &taskdb.Error{Code: "42501"})
}

func TestATokensScopeEndAndRevocation(t *testing.T) {
	t.Parallel()
	b := setup(t, 0)
	ctx := t.Context()
	identify := func(token string) map[string]any {
		hash := sha256.Sum256([]byte(token))
		return value[map[string]any](b, "select auth.identify_token($1)", hash[:])
	}
	token, err := b.CreateAccessToken(ctx, "user", "laptop", time.Hour, b.owner)
	b.noError(err)
	if claims := identify(token.Token); claims["role"] != "authenticated" || claims["sub"] != b.owner.String() || claims["token_id"] != token.ID.String() {
		t.Errorf("%v", claims)
	}
	if identify(token.Token+"x") != nil {
		t.Error("another token is known")
	}
	list, err := b.ListAccessTokens(ctx, b.owner)
	if err != nil || len(list) != 1 || list[0].LastUsedAt == nil || list[0].Label != "laptop" {
		t.Errorf("%+v %v", list, err)
	}
	b.exec("update darkroom.access_tokens set expires_at = clock_timestamp()")
	if identify(token.Token) != nil {
		t.Error("it has expired")
	}
	b.exec("update darkroom.access_tokens set expires_at = null")
	if identify(token.Token) == nil {
		t.Error("it has not expired")
	}
	_, err = b.RevokeAccessToken(ctx, token.ID)
	b.noError(err)
	if identify(token.Token) != nil {
		t.Error("it was revoked")
	}
	_, err = b.RevokeAccessToken(ctx, uuid.New())
	b.wantError(err, taskdb.ErrTokenNotFound)
	for _, scope := range []string{"", "admin"} {
		_, err = b.CreateAccessToken(ctx, scope, "", 0, b.owner)
		b.wantError(err, taskdb.ErrInvalidParams)
	}
	_, err = b.CreateAccessToken(ctx, "user", "", 0, uuid.Nil)
	b.wantError(err, taskdb.ErrInvalidParams)
	if n := value[int](b, "select count(*) from darkroom.access_tokens where hash = convert_to($1, 'UTF8') or prefix = $1", token.Token); n != 0 {
		t.Error("the secret itself is kept")
	}
}

// coverIdentity is the scenario of callers with tokens.
func coverIdentity(b *bench) {
	b.exec("begin")
	b.exec("set constraints all immediate")
	coverTokens(b)
	b.exec("rollback")
}
