package taskdb_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"darkroom/sql/taskdb"
)

// storm is many clients that do everything at once on one database, while their connections are killed.
type storm struct {
	*bench
	owners  []*bench
	lock    sync.Mutex
	held    []taskdb.Hold // of anybody, some long lost
	tasks   []uuid.UUID
	live    map[uint32]bool // backends that may be killed
	kills   int
	answers int            // results and refusals
	counts  map[string]int // successful calls
}

func (s *storm) remember(tasks ...taskdb.Task) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, task := range tasks {
		s.tasks = append(s.tasks, task.ID)
		if task.Status == taskdb.StatusInProgress {
			s.held = append(s.held, taskdb.HoldOf(task))
		}
	}
}

// hold is one of the latest claims, by whomever.
func (s *storm) hold() taskdb.Hold {
	s.lock.Lock()
	defer s.lock.Unlock()
	if len(s.held) == 0 {
		return taskdb.Hold{TaskID: uuid.New(), WorkerID: anyWorker, Attempt: 1}
	}
	recent := min(len(s.held), 40)
	return s.held[len(s.held)-1-rand.IntN(recent)]
}

func (s *storm) task() uuid.UUID {
	s.lock.Lock()
	defer s.lock.Unlock()
	if len(s.tasks) == 0 {
		return uuid.New()
	}
	recent := min(len(s.tasks), 60)
	return s.tasks[len(s.tasks)-1-rand.IntN(recent)]
}

func (s *storm) pick() *bench { return s.owners[rand.IntN(len(s.owners))] }

// calls are what the clients do, by weight.
func (s *storm) calls() map[string]struct {
	weight int
	call   func(ctx context.Context, db *taskdb.DB, worker string) error
} {
	type call = struct {
		weight int
		call   func(ctx context.Context, db *taskdb.DB, worker string) error
	}
	create := func(ctx context.Context, db *taskdb.DB, task taskdb.NewTask) error {
		made, err := db.CreateTask(ctx, task)
		if err == nil {
			s.remember(made)
		}
		return err
	}
	return map[string]call{
		"create": {14, func(ctx context.Context, db *taskdb.DB, _ string) error {
			return create(ctx, db, imageTask(s.pick().project))
		}},
		"create some": {3, func(ctx context.Context, db *taskdb.DB, _ string) error {
			list := make([]taskdb.NewTask, 10)
			project := s.pick().project
			for i := range list {
				list[i] = imageTask(project)
			}
			made, err := db.CreateTasks(ctx, list)
			s.remember(made...)
			return err
		}},
		"create travel": {4, func(ctx context.Context, db *taskdb.DB, _ string) error {
			o := s.pick()
			return create(ctx, db, travelTask(o.project, o.shot, 1+rand.IntN(3)))
		}},
		"create waiting": {4, func(ctx context.Context, db *taskdb.DB, _ string) error {
			dep, err := db.GetTask(ctx, s.task())
			if err != nil {
				return err
			}
			task := imageTask(dep.ProjectID)
			task.DependantOn = []uuid.UUID{dep.ID}
			return create(ctx, db, task)
		}},
		"claim": {18, func(ctx context.Context, db *taskdb.DB, worker string) error {
			task, found, err := db.ClaimNextTask(ctx, worker)
			if found {
				s.remember(task)
			}
			if found && task.TaskType == "travel_orchestrator" && rand.IntN(2) == 0 {
				_, err = db.ExpandTravelOrchestrator(ctx, taskdb.HoldOf(task))
			}
			return err
		}},
		"claim some": {4, func(ctx context.Context, db *taskdb.DB, worker string) error {
			tasks, err := db.ClaimNextTasks(ctx, worker, 12, nil)
			s.remember(tasks...)
			return err
		}},
		"expand": {5, func(ctx context.Context, db *taskdb.DB, _ string) error {
			made, err := db.ExpandTravelOrchestrator(ctx, s.hold())
			s.remember(made...)
			return err
		}},
		"complete": {14, func(ctx context.Context, db *taskdb.DB, _ string) error {
			_, err := db.CompleteTask(ctx, s.hold(), taskdb.Output{Location: "x"})
			return err
		}},
		"complete some": {3, func(ctx context.Context, db *taskdb.DB, worker string) error {
			list := make([]taskdb.Completion, 5)
			for i := range list {
				hold := s.hold()
				worker, list[i] = hold.WorkerID, taskdb.Completion{TaskID: hold.TaskID, Attempt: hold.Attempt, OutputLocation: "x"}
			}
			_, err := db.CompleteTasks(ctx, worker, list)
			return err
		}},
		"fail": {3, func(ctx context.Context, db *taskdb.DB, _ string) error {
			_, err := db.FailTask(ctx, s.hold(), "no")
			return err
		}},
		"retry": {4, func(ctx context.Context, db *taskdb.DB, _ string) error {
			_, err := db.RetryTask(ctx, s.hold(), "flaky", time.Duration(1+rand.IntN(20))*time.Millisecond)
			return err
		}},
		"release": {5, func(ctx context.Context, db *taskdb.DB, _ string) error {
			_, err := db.ReleaseTask(ctx, s.hold(), "stopping")
			return err
		}},
		"cancel": {5, func(ctx context.Context, db *taskdb.DB, _ string) error {
			_, err := db.CancelTask(ctx, s.task(), "not wanted")
			return err
		}},
		"progress": {5, func(ctx context.Context, db *taskdb.DB, _ string) error {
			return db.ReportProgress(ctx, s.hold(), object("percent", rand.IntN(100)))
		}},
		"heartbeat": {5, func(ctx context.Context, db *taskdb.DB, worker string) error {
			list := make([]taskdb.Running, 4)
			for i := range list {
				hold := s.hold()
				list[i] = taskdb.Running{TaskID: hold.TaskID, Attempt: hold.Attempt, Progress: object("percent", rand.IntN(100))}
			}
			_, err := db.HeartbeatWorker(ctx, worker, list, nil)
			return err
		}},
		"grant": {4, func(ctx context.Context, db *taskdb.DB, _ string) error {
			_, err := db.GrantCredits(ctx, s.pick().owner, taskdb.WholeCredits(int64(1+rand.IntN(12))), "", "")
			return err
		}},
		"requeue": {3, func(ctx context.Context, db *taskdb.DB, worker string) error {
			if _, err := s.pg.Pool.Exec(ctx, "update workers set last_heartbeat = '-infinity' where id = $1", worker); err != nil {
				return err
			}
			if _, err := s.pg.Pool.Exec(ctx, `update tasks set claimed_at = claimed_at - interval '1 hour' where id in
				(select id from tasks where status = 'In Progress' order by random() limit 2 for update skip locked)`); err != nil {
				return err
			}
			if _, err := s.pg.Pool.Exec(ctx, "update darkroom.lease_watch set resumed_at = '-infinity', last_run = clock_timestamp()"); err != nil {
				return err
			}
			_, err := db.RequeueExpiredTasks(ctx, 100)
			return err
		}},
		"register": {1, func(ctx context.Context, db *taskdb.DB, worker string) error {
			_, err := db.RegisterWorker(ctx, taskdb.Registration{WorkerID: worker, Capabilities: []string{"wan2gp"}})
			return err
		}},
		"admit due": {3, func(ctx context.Context, db *taskdb.DB, _ string) error {
			_, err := db.AdmitDueTasks(ctx, 100)
			return err
		}},
		"tick": {4, func(ctx context.Context, db *taskdb.DB, _ string) error {
			_, err := db.TickReadyMark(ctx, rand.IntN(2) == 0)
			return err
		}},
		"read": {2, func(ctx context.Context, db *taskdb.DB, _ string) error {
			_, err := db.ListGenerations(ctx, taskdb.Gallery{ProjectID: s.pick().project, MaxRows: 10})
			return err
		}},
	}
}

// client makes random calls, and connects anew when it was killed. It returns an error that must not happen.
func (s *storm) client(ctx context.Context, worker string, n int) error {
	calls := s.calls()
	var wheel []string
	for name, c := range calls {
		for range c.weight {
			wheel = append(wheel, name)
		}
	}
	var conn *pgx.Conn
	defer func() { s.forget(ctx, conn) }()
	for range n {
		if conn == nil {
			var err error
			if conn, err = pgx.Connect(ctx, s.pg.URL); err != nil {
				return err
			}
			s.lock.Lock()
			s.live[conn.PgConn().PID()] = true
			s.lock.Unlock()
		}
		name := wheel[rand.IntN(len(wheel))]
		err := calls[name].call(ctx, taskdb.New(conn), worker)
		var refusal *taskdb.Error
		var pg *pgconn.PgError
		switch {
		case err == nil, errors.As(err, &refusal):
			s.lock.Lock()
			s.answers++
			if err == nil {
				s.counts[name]++
			}
			s.lock.Unlock()
		case errors.As(err, &pg) && pg.Code == "57P01", conn.IsClosed():
			s.forget(ctx, conn)
			conn = nil
		default:
			return errors.Join(errors.New(name), err)
		}
	}
	return nil
}

func (s *storm) forget(ctx context.Context, conn *pgx.Conn) {
	if conn == nil {
		return
	}
	s.lock.Lock()
	delete(s.live, conn.PgConn().PID())
	s.lock.Unlock()
	_ = conn.Close(ctx) // fails when it was killed
}

// kill ends one of the clients' backends; where the machine is so slow that it would leave too few calls an answer, none.
func (s *storm) kill(ctx context.Context) error {
	s.lock.Lock()
	var pid uint32
	if s.kills < s.answers/2 {
		for pid = range s.live {
			break
		}
	}
	delete(s.live, pid)
	s.lock.Unlock()
	if pid == 0 {
		return nil
	}
	s.kills++
	_, err := s.pg.Pool.Exec(ctx, "select pg_terminate_backend($1)", int32(pid))
	return err
}

// drain runs everything that can be run to its end.
func (s *storm) drain() {
	s.t.Helper()
	ctx := s.t.Context()
	for range 10_000 {
		s.exec("update tasks set run_after = clock_timestamp() where status = 'Queued' and run_after is not null")
		s.exec("update darkroom.task_delayed set run_after = clock_timestamp()")
		_, err := s.AdmitDueTasks(ctx, 1000)
		s.noError(err)
		_, err = s.ClaimNextTasks(ctx, gpuWorker, 100, nil)
		s.noError(err)
		running := value[[]uuid.UUID](s.bench, `select coalesce(array_agg(id), '{}') from tasks t
			where status = 'In Progress' and not darkroom.has_live_children(id)`)
		if len(running) == 0 {
			return
		}
		for _, id := range running {
			task := s.get(id)
			if task.TaskType == "travel_orchestrator" && value[bool](s.bench, "select not exists (select from tasks where orchestrator_task_id = $1)", id) {
				s.expand(task)
			} else {
				s.complete(task)
			}
		}
	}
	s.t.Fatal("the storm does not drain")
}

// Whatever is killed whenever, nothing breaks: no deadlock, and afterwards each invariant holds and the sweep finds nothing to mend.
func TestStormWithKilledConnections(t *testing.T) {
	t.Parallel()
	const clients, calls = 20, 200
	s := &storm{bench: setup(t, 20), live: map[uint32]bool{}, counts: map[string]int{}}
	for i := range 6 { // some that can pay for everything, and some that cannot
		s.owners = append(s.owners, s.as([]int64{15, 1000}[i%2]))
	}
	workers := []string{anyWorker, gpuWorker, "third", "fourth"}
	for _, worker := range workers {
		s.register(worker, "wan2gp")
	}

	stop, killed := make(chan struct{}), make(chan error, 1)
	go func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				killed <- nil
				return
			case <-ticker.C:
				if err := s.kill(t.Context()); err != nil {
					killed <- err
					return
				}
			}
		}
	}()
	for _, r := range inParallel(clients, func(i int) (int, error) { return 0, s.client(t.Context(), workers[i%len(workers)], calls) }) {
		if r.err != nil {
			t.Error(r.err)
		}
	}
	close(stop)
	s.noError(<-killed)
	t.Logf("%d kills, successful calls: %v", s.kills, s.counts)
	if n := value[int64](s.bench, "select deadlocks from pg_stat_database where datname = current_database()"); n != 0 {
		t.Errorf("%d deadlocks", n)
	}
	for name := range s.calls() {
		if s.counts[name] == 0 {
			t.Errorf("no call of %q succeeded: the storm does not exercise it", name)
		}
	}
	s.drain()
	s.healthy()
}
