package clients_test

import (
	"crypto/sha256"
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

// person is a user with a project, a shot and credits.
type person struct {
	caller
	id, project, shot string
}

// world is a database with three users: Ada and Bob have 100 credits, Cleo has none.
type world struct {
	t              *testing.T
	pg             *taskdbtest.DB
	db             *taskdb.DB // as the superuser
	ada, bob, cleo person
	routes         []string // of the gateway, once it is started
}

// Callers that are no user of this database.
var (
	nobody  = caller{name: "nobody", role: "anon"}
	service = caller{name: "service", role: "service_role"}
	// machine is a worker that is trusted with everybody's tasks: it logs in to the database. By HTTP the service key does the same.
	machine = caller{name: "machine", role: "worker"}
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, pg: taskdbtest.New(t)}
	w.db = taskdb.New(w.pg.Pool)
	w.ada, w.bob, w.cleo = w.person("ada", 100), w.person("bob", 100), w.person("cleo", 0)
	return w
}

func (w *world) person(name string, credits int64) person {
	w.t.Helper()
	user, err := w.db.CreateUser(w.t.Context(), uuid.New(), name+"@example.com")
	must(w.t, err)
	return w.personWith(user.ID.String(), name, credits)
}

// personWith gives a user credits, a project and a shot.
func (w *world) personWith(userID, name string, credits int64) person {
	w.t.Helper()
	ctx, id := w.t.Context(), parse(userID)
	if credits > 0 {
		_, err := w.db.GrantCredits(ctx, id, taskdb.WholeCredits(credits), "", "")
		must(w.t, err)
	}
	project, err := w.db.CreateProject(ctx, id, name)
	must(w.t, err)
	shot, err := w.db.CreateShot(ctx, project.ID, name)
	must(w.t, err)
	claims := mustJSON(args{"role": "authenticated", "sub": id, "email": name + "@example.com"})
	return person{caller{name: name, role: "authenticated", claims: claims}, id.String(), project.ID.String(), shot.ID.String()}
}

// tokenOf makes a personal access token of a scope for a user ("": of nobody) and returns who calls with it.
func (w *world) tokenOf(name, scope, user string) caller {
	w.t.Helper()
	owner := uuid.Nil
	if user != "" {
		owner = uuid.MustParse(user)
	}
	token, err := w.db.CreateAccessToken(w.t.Context(), scope, name, 0, owner)
	must(w.t, err)
	hash := sha256.Sum256([]byte(token.Token))
	var claims json.RawMessage
	must(w.t, w.pg.Pool.QueryRow(w.t.Context(), "select auth.identify_token($1)", hash[:]).Scan(&claims))
	role := "authenticated"
	if scope == "worker" {
		role = "worker"
	}
	return caller{name: name, role: role, claims: claims, bearer: token.Token}
}

// admin changes the database behind everybody's back, as time does.
func (w *world) admin(sql string) {
	w.t.Helper()
	_, err := w.pg.Pool.Exec(w.t.Context(), sql)
	must(w.t, err)
}

// login makes a login, as sql/README.md says under "Connect an app", and returns a pool of its connections.
func (w *world) login(role string) *pgxpool.Pool {
	w.t.Helper()
	pool, err := taskdb.OpenPool(w.t.Context(), w.pg.Login(w.t, role))
	must(w.t, err)
	w.t.Cleanup(pool.Close)
	return pool
}

func parse(id string) uuid.UUID { return uuid.MustParse(id) }

func (w *world) healthy() {
	w.t.Helper()
	faults, err := w.db.InvariantViolations(w.t.Context())
	if err != nil || len(faults) > 0 {
		w.t.Errorf("invariant_violations: %v, %v", faults, err)
	}
}

func (w *world) sqlDoor() door {
	logins := map[string]*pgxpool.Pool{}
	for _, role := range []string{"anon", "authenticated", "worker", "service_role"} {
		logins[role] = w.login(role)
	}
	return &sqlDoor{logins}
}

func (w *world) goDoor() door {
	return &goDoor{w.login("authenticator")}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
