package clients_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/identity"
	"darkroom/gateway/server"
	"darkroom/migrations"
	"darkroom/sql/localpg"
	"darkroom/sql/taskdb"
)

// stormSize is how much happens.
type stormSize struct {
	users, clients int
	events         int64 // that are stored at least
	rate           int64 // of them a second at most
	writers        int
	cuts           int64     // of connections
	killings       []float64 // of the gateway by SIGKILL, at these parts of the events
	restarts       []float64 // of the gateway by SIGTERM
	databases      []float64 // restarts of PostgreSQL, every other one by SIGKILL
	again          float64   // how much of what is received may come more than once: after a break the last second comes again
}

// envStorm set to "full" makes the storm as large as Darkroom is to stand.
const envStorm = "DARKROOM_STORM"

func sizeOfStorm() stormSize {
	if os.Getenv(envStorm) == "full" {
		return stormSize{
			users: 20, clients: 200, events: 30_000, rate: 300, writers: 8, cuts: 600,
			killings: []float64{0.15, 0.45, 0.75}, restarts: []float64{0.3, 0.85}, databases: []float64{0.22, 0.6}, again: 0.1,
		}
	}
	if os.Getenv(envStorm) == "half" {
		return stormSize{
			users: 10, clients: 100, events: 10_000, rate: 250, writers: 8, cuts: 200,
			killings: []float64{0.2, 0.5}, restarts: []float64{0.35, 0.8}, databases: []float64{0.3, 0.65}, again: 0.2,
		}
	}
	return stormSize{
		users: 3, clients: 24, events: 3000, rate: 400, writers: 4, cuts: 30,
		killings: []float64{0.3}, restarts: []float64{0.55}, databases: []float64{0.75}, again: 0.5,
	}
}

// crew is what a process of clients is told.
type crew struct {
	URL     string   `json:"url"`
	AnonKey string   `json:"anonKey"`
	Newest  bool     `json:"newest"`
	Last    string   `json:"last"` // the metadata.n of the last generations
	File    string   `json:"file"`
	Clients []member `json:"clients"`
}

// member is one client: an app with 14 bindings, everything without a filter, the channel of the spec, or a stream.
type member struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Token   string `json:"token"`
	Early   bool   `json:"early"` // it sends the token with its first join
	Owner   string `json:"-"`
	Project string `json:"project"`
}

// account is a user of the storm.
type account struct {
	id       uuid.UUID
	token    string
	projects []uuid.UUID
	hot      []uuid.UUID // a shot of each project, which all writers change
}

// storm is the test while it runs.
type storm struct {
	t        *testing.T
	size     stormSize
	dir      string
	pg       *localpg.Server
	config   localpg.Config
	pool     *pgxpool.Pool
	db       *taskdb.DB
	gateway  *stormGateway
	settings gatewaySettings
	proxy    *proxy
	accounts []account
	said     chan map[string]string // by clients
	stored   atomic.Int64           // rows that were written, or nearly
	names    atomic.Int64
	failures atomic.Int64 // transactions that were broken by a restart, or turned back
}

const (
	lastStamp  = "last"
	stormMost  = 20 * time.Minute
	settleMost = 5 * time.Minute // for clients to have everything, from the last write on
)

// TestStorm is: many unmodified clients of both versions and readers of streams, whose connections break at random while transactions commit out of
// order, the gateway is killed and PostgreSQL restarted. Each must receive exactly what is stored and theirs, each row's changes in the order of their
// commits, however often; and nothing of anybody else.
func TestStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute of weather")
	}
	folders := map[string]string{}
	for _, version := range versions {
		folders[version] = packages(t, version)
	}
	ctx, cancel := context.WithTimeout(t.Context(), stormMost)
	defer cancel()
	s := &storm{t: t, size: sizeOfStorm(), said: make(chan map[string]string, 1024)}
	s.begin(ctx)
	members := s.members()
	var crews []*crewProcess
	for i, version := range versions {
		var part []member
		for n := range members {
			if n%len(versions) == i {
				part = append(part, members[n])
			}
		}
		crews = append(crews, s.start(ctx, folders[version], crew{
			URL: "http://" + s.proxy.address(), AnonKey: anonKey, Newest: version == "new", Last: lastStamp,
			File: filepath.Join(s.dir, version+".json"), Clients: part,
		}))
	}
	s.await(ctx, "live", len(members))
	var base int64
	must(t, s.pool.QueryRow(ctx, "select coalesce(max(id), 0) from darkroom.task_events").Scan(&base))
	began := time.Now()
	s.rage(ctx)
	wrote := time.Since(began)
	s.last(ctx)
	s.await(ctx, "ended", len(members))
	settled := time.Since(began) - wrote

	stored := s.log(ctx, base)
	total := tally{}
	for _, c := range crews {
		for name, got := range c.stop() {
			at := slices.IndexFunc(members, func(m member) bool { return m.Name == name })
			total.add(s.compare(members[at], stored, got))
		}
	}
	if total.clients != len(members) {
		t.Errorf("%d clients told what they received, want %d", total.clients, len(members))
	}
	if total.received < int(s.size.events) {
		t.Errorf("%d events were received: this was no storm", total.received)
	}
	if float64(total.twice) > s.size.again*float64(total.received) {
		t.Errorf("%d of %d events came more than once", total.twice, total.received)
	}
	if total.left*10 > len(members) {
		t.Errorf("%d of %d clients left by themselves, because the answer to a join was late", total.left, len(members))
	}
	t.Logf("%d clients (%d of them streams, %d left by themselves); %d events stored in %s, all received %s later; received %d, of them again %d (%.1f %%); broken connections %d, joins %d, "+
		"refused or broken channels %d, transactions turned back or broken %d", total.clients, total.streams, total.left, len(stored), wrote.Round(time.Second), settled.Round(time.Second),
		total.received, total.twice, 100*float64(total.twice)/float64(max(total.received, 1)), s.proxy.broken.Load(), total.joins, total.errors, s.failures.Load())
}

// begin starts PostgreSQL in a folder that is kept, the gateway, and what stands between it and the clients.
func (s *storm) begin(ctx context.Context) {
	t := s.t
	t.Helper()
	dir, err := os.MkdirTemp("", "darkroom-storm-")
	must(t, err)
	must(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	s.dir = dir
	// Of a crash of PostgreSQL, not of the machine, which fsync is for.
	s.config = localpg.Config{Dir: filepath.Join(dir, "pg"), Listen: "127.0.0.1:0", Database: "darkroom", Settings: map[string]string{"fsync": "off", "max_connections": "100"}}
	s.pg, err = localpg.Start(ctx, s.config)
	must(t, err)
	t.Cleanup(func() { must(t, s.pg.Stop(context.WithoutCancel(ctx))) })
	address, err := url.Parse(s.pg.URL())
	must(t, err)
	s.config.Listen = address.Host // the same after each restart
	must(t, server.Migrate(ctx, s.pg.URL()))
	const password = "password-of-the-gateway-in-the-storm"
	must(t, migrations.GatewayLogin.Set(ctx, s.pg.URL(), password))
	s.pool, err = taskdb.OpenPool(ctx, s.pg.URL())
	must(t, err)
	t.Cleanup(s.pool.Close)
	s.db = taskdb.New(s.pool)
	s.settings = gatewaySettings{Database: migrations.GatewayLogin.URL(s.pg.URL(), password), Storage: "file://" + t.TempDir(), Listen: freeAddress(t)}
	s.gateway = startGateway(t, s.settings)
	t.Cleanup(func() { s.gateway.kill() })
	s.proxy = newProxy(t, s.settings.Listen)

	signer, err := identity.NewSigner(identity.Settings{JWTSecret: jwtSecret})
	must(t, err)
	for n := range s.size.users {
		user, err := s.db.CreateUser(ctx, uuid.New(), fmt.Sprintf("user-%d@example.com", n))
		must(t, err)
		_, err = s.db.GrantCredits(ctx, user.ID, taskdb.WholeCredits(1_000_000), "", "")
		must(t, err)
		a := account{id: user.ID}
		a.token, err = signer.Sign(map[string]any{"sub": user.ID.String(), "role": "authenticated"}, time.Now(), 24*time.Hour)
		must(t, err)
		for range 2 {
			project, err := s.db.CreateProject(ctx, user.ID, "before")
			must(t, err)
			shot, err := s.db.CreateShot(ctx, project.ID, "before")
			must(t, err)
			a.projects, a.hot = append(a.projects, project.ID), append(a.hot, shot.ID)
		}
		s.accounts = append(s.accounts, a)
	}
	_, err = s.db.RegisterWorker(ctx, taskdb.Registration{WorkerID: "gpu-1"})
	must(t, err)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

// members says who there is.
func (s *storm) members() []member {
	kinds := []string{"app", "all", "spec", "stream", "app", "app", "spec"} // an odd number, so that each version has them all
	var list []member
	for n := range s.size.clients {
		a := s.accounts[n%len(s.accounts)]
		list = append(list, member{
			Name: fmt.Sprintf("%d %s", n, kinds[n%len(kinds)]), Kind: kinds[n%len(kinds)], Token: a.token, Early: n%3 != 0, Owner: a.id.String(),
			Project: a.projects[n/2%len(a.projects)].String(),
		})
	}
	return list
}

// stormGateway is a gateway in a process of its own.
type stormGateway struct {
	cmd   *exec.Cmd
	stdin io.Closer
	log   *bytes.Buffer
	once  sync.Once
}

// startGateway starts one and returns when it serves.
func startGateway(t *testing.T, settings gatewaySettings) *stormGateway {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	g := &stormGateway{cmd: exec.Command(self), log: &bytes.Buffer{}}
	g.cmd.Env = append(os.Environ(), envGateway+"="+string(mustJSON(settings)))
	g.cmd.Stderr = g.log
	g.stdin, err = g.cmd.StdinPipe()
	must(t, err)
	stdout, err := g.cmd.StdoutPipe()
	must(t, err)
	must(t, g.cmd.Start())
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "serving\n" {
		g.kill()
		t.Fatalf("the gateway says %q, %v:\n%s", line, err, g.log)
	}
	return g
}

// kill ends it as a crash does.
func (g *stormGateway) kill() { g.end(syscall.SIGKILL) }

func (g *stormGateway) end(how syscall.Signal) {
	g.once.Do(func() {
		_ = g.cmd.Process.Signal(how)
		_ = g.cmd.Wait()
		_ = g.stdin.Close()
	})
}

// crewProcess is a process of clients.
type crewProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	file  string
	log   *bytes.Buffer
}

func (s *storm) start(ctx context.Context, folder string, what crew) *crewProcess {
	s.t.Helper()
	c := &crewProcess{t: s.t, cmd: exec.CommandContext(ctx, "node", "testdata/storm.mjs", folder), file: what.File, log: &bytes.Buffer{}}
	c.cmd.Stderr = c.log
	stdin, err := c.cmd.StdinPipe()
	must(s.t, err)
	stdout, err := c.cmd.StdoutPipe()
	must(s.t, err)
	must(s.t, c.cmd.Start())
	s.t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	c.stdin = stdin
	_, err = stdin.Write(append(mustJSON(what), '\n'))
	must(s.t, err)
	go func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var line map[string]string
			if json.Unmarshal(lines.Bytes(), &line) == nil {
				s.said <- line
			}
		}
		s.said <- map[string]string{"fault": "node ended: " + what.File}
	}()
	return c
}

// await waits until so many clients have said a word.
func (s *storm) await(ctx context.Context, word string, want int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, settleMost)
	defer cancel()
	heard := map[string]bool{}
	for len(heard) < want && ctx.Err() == nil {
		select {
		case line := <-s.said:
			if fault := line["fault"]; fault != "" {
				s.t.Fatal(fault)
			}
			if name := line[word]; name != "" {
				heard[name] = true
			}
		case <-ctx.Done():
		}
	}
	if len(heard) < want {
		var late []string
		for _, m := range s.members() {
			if !heard[m.Name] {
				late = append(late, m.Name)
			}
		}
		s.t.Errorf("%d of %d clients are not %s: %v\nthe gateway's log:\n%s", len(late), want, word, late, tail(s.gateway.log.String()))
	}
}

func tail(text string) string { return text[max(0, len(text)-4000):] }

// got is what a client received.
type got struct {
	Events   []string       `json:"events"`
	Statuses map[string]int `json:"statuses"`
	Resets   int            `json:"resets"`
	History  []string       `json:"history"` // statuses with their times, and how much had come
}

// stop ends the process and returns what its clients received.
func (c *crewProcess) stop() map[string]got {
	c.t.Helper()
	c.stdin.Close()
	if err := c.cmd.Wait(); err != nil {
		c.t.Fatalf("node: %v\n%s", err, c.log)
	}
	text, err := os.ReadFile(c.file)
	must(c.t, err)
	var all map[string]got
	must(c.t, json.Unmarshal(text, &all))
	return all
}

// rage writes until there are enough events, while things break.
func (s *storm) rage(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	for n := range s.size.writers {
		work.Go(func() { s.write(ctx, rand.New(rand.NewPCG(1, uint64(n)))) })
	}
	for range 2 {
		work.Go(func() { s.writeLong(ctx) })
	}
	work.Go(func() { s.wreck(ctx) })
	for s.stored.Load() < s.size.events && ctx.Err() == nil {
		s.reach(ctx, s.size.events)
	}
	cancel()
	work.Wait()
	if s.stored.Load() < s.size.events {
		s.t.Fatal("the storm took too long")
	}
}

// reach waits until so many events are stored.
func (s *storm) reach(ctx context.Context, events int64) {
	for tick := time.NewTicker(10 * time.Millisecond); s.stored.Load() < events; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

// wreck breaks connections all the time, and now and then more.
func (s *storm) wreck(ctx context.Context) {
	random := rand.New(rand.NewPCG(2, 2))
	type event struct {
		at   float64
		what string
		do   func()
	}
	var plan []event
	for n := range s.size.cuts {
		plan = append(plan, event{float64(n+1) / float64(s.size.cuts+1), "", func() { s.proxy.breakOne(random) }})
	}
	for _, at := range s.size.killings {
		plan = append(plan, event{at, "the gateway was killed and serves again", func() {
			s.gateway.kill()
			s.gateway = startGateway(s.t, s.settings)
		}})
	}
	for _, at := range s.size.restarts {
		plan = append(plan, event{at, "the gateway was stopped and serves again", func() {
			s.gateway.end(syscall.SIGTERM)
			s.gateway = startGateway(s.t, s.settings)
		}})
	}
	for n, at := range s.size.databases {
		plan = append(plan, event{at, "PostgreSQL was ended and serves again", func() { s.restartDatabase(n%2 == 0) }})
	}
	slices.SortStableFunc(plan, func(a, b event) int { return compareFloats(a.at, b.at) })
	for _, next := range plan {
		if s.reach(ctx, int64(next.at*float64(s.size.events))); ctx.Err() != nil {
			return
		}
		next.do()
		if next.what != "" {
			s.t.Logf("%s: %s at %d events", time.Now().UTC().Format("15:04:05.000"), next.what, s.stored.Load())
		}
	}
}

func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// restartDatabase ends PostgreSQL, as a crash does or as an administrator, and starts it again.
func (s *storm) restartDatabase(crash bool) {
	ctx := context.Background()
	if crash {
		_ = syscall.Kill(s.pg.PID(), syscall.SIGKILL)
		<-s.pg.Done()
	}
	if err := s.pg.Stop(ctx); err != nil {
		s.t.Errorf("stopping PostgreSQL: %v", err)
	}
	next, err := localpg.Start(ctx, s.config)
	if err != nil {
		s.t.Errorf("starting PostgreSQL again: %v", err)
		return
	}
	s.pg = next
}

// name is a text that was never used.
func (s *storm) name() string { return fmt.Sprintf("n%d", s.names.Add(1)) }

// write makes one transaction after another, not faster than the storm's rate.
func (s *storm) write(ctx context.Context, random *rand.Rand) {
	pace := time.NewTicker(time.Second * time.Duration(s.size.writers) * perTransaction / time.Duration(s.size.rate))
	defer pace.Stop()
	mine := map[uuid.UUID][]uuid.UUID{} // shots, by project
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		a := s.accounts[random.IntN(len(s.accounts))]
		n := random.IntN(len(a.projects))
		if random.IntN(6) == 0 {
			if s.runTask(ctx, a.projects[n]) != nil {
				s.failures.Add(1)
			}
			continue
		}
		s.transaction(ctx, a.projects[n], a.hot[n], mine, random)
	}
}

const perTransaction = 8 // events, about

var errTurnedBack = errors.New("turned back")

// transaction makes, changes and deletes rows, and is turned back now and then.
func (s *storm) transaction(ctx context.Context, project, hot uuid.UUID, mine map[uuid.UUID][]uuid.UUID, random *rand.Rand) {
	var made []uuid.UUID
	var rows int64
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		do := func(id uuid.UUID, sql string, args ...any) error {
			tag, err := tx.Exec(ctx, sql, append([]any{id}, args...)...)
			rows += tag.RowsAffected()
			return err
		}
		shot, generation, placed := uuid.New(), uuid.New(), uuid.New()
		err := errors.Join(
			do(shot, "insert into shots (id, project_id, name) values ($1, $2, $3)", project, s.name()),
			do(generation, "insert into generations (id, project_id, type, location, metadata) values ($1, $2, 'image', 'https://files.example.com/a.png', jsonb_build_object('n', $3::text))", project, s.name()),
			do(placed, "insert into shot_generations (id, shot_id, generation_id, position) values ($1, $2, $3, 1)", shot, generation),
		)
		for n := range random.IntN(4) {
			err = errors.Join(err, do(shot, "update shots set name = $2 where id = $1", s.name()), do(placed, "update shot_generations set position = $2 where id = $1", n+2))
		}
		if random.IntN(4) == 0 { // a part is turned back
			part := pgx.BeginFunc(ctx, tx, func(part pgx.Tx) error {
				if _, err := part.Exec(ctx, "update shots set name = 'never' where id = $1", shot); err != nil {
					return err
				}
				return errTurnedBack
			})
			err = errors.Join(err, onlyFaults(part))
		}
		if list := mine[project]; len(list) > 0 && random.IntN(2) == 0 {
			at := random.IntN(len(list))
			err = errors.Join(err, do(list[at], "delete from shots where id = $1"))
			mine[project] = slices.Delete(list, at, at+1)
		}
		if random.IntN(3) == 0 { // last, because others wait for it
			err = errors.Join(err, do(hot, "update shots set name = $2 where id = $1", s.name()))
		}
		if err == nil && random.IntN(10) == 0 {
			err = errTurnedBack
		}
		made = append(made, shot)
		return err
	})
	if err != nil {
		s.failures.Add(1)
		return
	}
	mine[project] = append(mine[project], made...)
	s.stored.Add(rows)
}

// onlyFaults leaves out what was to be.
func onlyFaults(err error) error {
	if errors.Is(err, errTurnedBack) {
		return nil
	}
	return err
}

// writeLong holds a transaction open while hundreds of others commit, again and again.
func (s *storm) writeLong(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			for _, a := range s.accounts {
				for _, project := range a.projects {
					if _, err := tx.Exec(ctx, "insert into shots (project_id, name) values ($1, $2)", project, s.name()); err != nil {
						return err
					}
				}
			}
			held, cancel := context.WithTimeout(ctx, 10*time.Second) // a database that was restarted is noticed
			defer cancel()
			s.reach(held, s.stored.Load()+s.size.events/20)
			_, err := tx.Exec(context.WithoutCancel(ctx), "update shots set name = $2 where id = $1", s.accounts[n%len(s.accounts)].hot[0], s.name())
			return err
		})
		if err != nil {
			s.failures.Add(1)
			continue
		}
		s.stored.Add(int64(2 * len(s.accounts)))
	}
}

// runTask makes a task and runs it to its end.
func (s *storm) runTask(ctx context.Context, project uuid.UUID) error {
	_, err := s.db.CreateTask(ctx, taskdb.NewTask{ProjectID: project, ToolID: "image-generation", Input: json.RawMessage(`{"prompt": "a storm"}`)})
	if err != nil {
		return err
	}
	s.stored.Add(1)
	task, found, err := s.db.ClaimNextTask(ctx, "gpu-1")
	if err != nil || !found {
		return err
	}
	const ofClaimAndCompletion = 5
	_, err = s.db.CompleteTask(ctx, taskdb.Hold{TaskID: task.ID, WorkerID: "gpu-1", Attempt: task.Attempt}, taskdb.Output{Location: "https://files.example.com/a.png"})
	s.stored.Add(ofClaimAndCompletion)
	return err
}

// last writes what every client waits for.
func (s *storm) last(ctx context.Context) {
	s.t.Helper()
	for _, a := range s.accounts {
		for _, project := range a.projects {
			_, err := s.pool.Exec(ctx, "insert into generations (project_id, type, location, metadata) values ($1, 'image', 'https://files.example.com/a.png', jsonb_build_object('n', $2::text))", project, lastStamp)
			must(s.t, err)
		}
	}
}

// logged is one event of the log.
type logged struct {
	owner, project, table, kind string
	row, mark, at               string
}

// log reads what is stored after an event, in the order of the log.
func (s *storm) log(ctx context.Context, after int64) []logged {
	s.t.Helper()
	rows, err := s.pool.Query(ctx, `
		select to_char(created_at, 'HH24:MI:SS.MS ') || id || ' ' || xid, owner_id::text, coalesce(project_id::text, ''), table_name, kind, row_id,
		  concat_ws(' ', table_name, kind, row_id, case when kind <> 'DELETE' then
		    case table_name
		      when 'shots' then data ->> 'name' when 'projects' then data ->> 'name' when 'generations' then data -> 'metadata' ->> 'n'
		      when 'shot_generations' then data ->> 'position'
		      when 'tasks' then concat_ws('/', data ->> 'status', data ->> 'attempt', data ->> 'generation_created', data ->> 'updated_at')
		    end
		  end)
		from darkroom.task_events where id > $1 order by id`, after)
	must(s.t, err)
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (l logged, err error) {
		err = r.Scan(&l.at, &l.owner, &l.project, &l.table, &l.kind, &l.row, &l.mark)
		return l, err
	})
	must(s.t, err)
	return list
}

// shows tells whether a client is to receive an event.
func (m member) shows(l logged) bool {
	here := l.project == m.Project
	switch m.Kind {
	case "spec":
		return here && l.table == "generations"
	case "stream":
		return here
	case "all":
		return l.owner == m.Owner
	}
	switch l.table {
	case "tasks":
		return here && l.kind != "DELETE"
	case "generations", "shots":
		return here
	}
	return l.owner == m.Owner && l.table != "projects"
}

const (
	notTheirs   = "received what is not stored, or not theirs: "
	showMissing = 10
	showFaults  = 14
)

// tally is what came of clients.
type tally struct{ clients, streams, received, twice, joins, errors, left int }

func (a *tally) add(b tally) {
	a.clients += b.clients
	a.streams += b.streams
	a.received += b.received
	a.twice += b.twice
	a.joins += b.joins
	a.errors += b.errors
	a.left += b.left
}

// compare holds what a client received to what is stored and theirs. For each row the changes must follow each other; after a connection broke they may
// begin again at an earlier one, and from there follow each other again, to the last.
func (s *storm) compare(m member, stored []logged, received got) tally {
	s.t.Helper()
	type place struct {
		row string
		nth int
	}
	places, length := map[string]place{}, map[string]int{}
	for _, l := range stored {
		if !m.shows(l) {
			continue
		}
		row := l.table + " " + l.row
		if _, again := places[l.mark]; again {
			s.t.Fatalf("two events look alike: %s", l.mark)
		}
		places[l.mark] = place{row, length[row]}
		length[row]++
	}
	result := tally{clients: 1, received: len(received.Events), joins: received.Statuses["SUBSCRIBED"], errors: received.Statuses["CHANNEL_ERROR"]}
	if m.Kind == "stream" {
		result.streams = 1
	}
	at, seen := map[string]int{}, map[string]bool{}
	var faults []string
	fault := func(text string, args ...any) { faults = append(faults, fmt.Sprintf(text, args...)) }
	for _, mark := range received.Events {
		mark = strings.TrimRight(mark, " ")
		p, known := places[mark]
		if !known {
			fault(notTheirs+"%s", mark)
			continue
		}
		next := at[p.row]
		if p.nth > next {
			fault("out of order: change %d of its row after %d of %d: %s", p.nth, next-1, length[p.row], mark)
		}
		at[p.row] = p.nth + 1
		if seen[mark] {
			result.twice++
		}
		seen[mark] = true
	}
	for _, row := range slices.Sorted(maps.Keys(length)) {
		if at[row] != length[row] {
			fault("the last of %d changes received is %d: %s", length[row], at[row], row)
		}
	}
	missing := 0
	for _, l := range stored {
		if _, theirs := places[l.mark]; theirs && !seen[l.mark] {
			if missing++; missing <= showMissing {
				fault("missing, of %s: %s", l.at, l.mark)
			}
		}
	}
	if missing > 0 {
		fault("%d of %d events are missing", missing, len(places))
	}
	if received.Resets > 0 {
		fault("%d resets", received.Resets)
	}
	if received.Statuses["CLOSED"] > 0 { // it left by itself, and told the app, which subscribed anew: what it received must be theirs
		result.left = 1
		faults = slices.DeleteFunc(faults, func(text string) bool { return !strings.HasPrefix(text, notTheirs) })
	}
	if len(faults) > 0 {
		s.t.Errorf("client %s: %d faults, such as\n  %s\n %s", m.Name, len(faults), strings.Join(faults[max(0, len(faults)-showFaults):], "\n  "), strings.Join(received.History, "; "))
	}
	return result
}
