package riverpilot

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivershared/baseservice"
	"github.com/riverqueue/river/rivershared/riverpilot"
	"github.com/riverqueue/river/rivertype"

	"darkroom/sql/taskdb"
)

const (
	// claimTimeout limits one claim. A claim that takes effect after it was given up is found by the lease.
	claimTimeout = 30 * time.Second
	// secondLook is when the pilot looks once more after a ring that led to nothing: a task whose transaction was committing while the bell was
	// armed again has not rung it, and was not there yet.
	secondLook = 100 * time.Millisecond
)

// driver is River's PostgreSQL driver with our pilot and our listener. River's client looks for PluginInit and PluginPilot.
type driver struct {
	riverdriver.Driver[pgx.Tx]
	pilot *pilot
}

// PluginInit is called by River's client when it is made.
func (d *driver) PluginInit(*baseservice.Archetype) {}

// PluginPilot gives River's client the pilot.
func (d *driver) PluginPilot() riverpilot.Pilot { return d.pilot }

// GetListener gives River's client the listener.
func (d *driver) GetListener(params *riverdriver.GetListenenerParams) riverdriver.Listener {
	return &listener{Listener: d.Driver.GetListener(params), pilot: d.pilot}
}

// pilot claims tasks for River. Everything else is as River does it.
type pilot struct {
	riverpilot.StandardPilot
	db     *taskdb.DB
	config Config

	heard atomic.Bool   // a ring, and since then no claim has found nothing
	rung  atomic.Bool   // a ring, and since then no claim
	again chan struct{} // it is time to look once more
}

func newPilot(db *taskdb.DB, c Config) *pilot {
	p := &pilot{db: db, config: c, again: make(chan struct{}, 1)}
	p.heard.Store(true) // what rang before it listened
	return p
}

// foundNothing sees to it that there is a second look.
func (p *pilot) foundNothing() {
	if p.heard.Swap(false) {
		time.AfterFunc(secondLook, p.lookAgain)
	}
}

// lookAgain makes River ask for tasks again.
func (p *pilot) lookAgain() {
	select {
	case p.again <- struct{}{}:
	default:
	}
}

// JobGetAvailable claims tasks for the queue of tasks. Where there is room for more than it finds, River asks again while these run: only a claim that
// finds nothing asks the database to be woken.
func (p *pilot) JobGetAvailable(
	ctx context.Context, exec riverdriver.Executor, state riverpilot.ProducerState, params *riverdriver.JobGetAvailableParams,
) (*riverdriver.JobGetAvailableResult, error) {
	if params.Queue != Queue {
		return p.StandardPilot.JobGetAvailable(ctx, exec, state, params) //nolint:wrapcheck // River's own
	}
	result := &riverdriver.JobGetAvailableResult{}
	types, n := p.config.Want(params.MaxToLock)
	if n == 0 {
		return result, nil
	}
	if p.rung.Swap(false) {
		n = 1 // which is claimed in half the time, and mostly there is one: who waits for it sees it begin sooner
	}
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	tasks, err := p.db.ClaimNextTasks(ctx, p.config.WorkerID, n, types)
	if err != nil {
		return nil, fmt.Errorf("claiming: %w", err)
	}
	if len(tasks) == 0 {
		p.foundNothing()
		return result, nil
	}
	result.Jobs = p.jobs(ctx, tasks)
	if len(tasks) < params.MaxToLock {
		p.lookAgain() // after their slots were taken: Want is asked again
	}
	return result, nil
}

// jobs hands claimed tasks to River.
func (p *pilot) jobs(ctx context.Context, tasks []taskdb.Task) []*rivertype.JobRow {
	handed := make([]taskdb.Task, 0, len(tasks))
	jobs := make([]*rivertype.JobRow, 0, len(tasks))
	for _, task := range tasks {
		job, err := jobOf(task)
		if err != nil { // the lease gives it to somebody else
			p.config.Log.ErrorContext(ctx, "a claimed task cannot be handed to River", "task_id", task.ID, "attempt", task.Attempt, "error", err)
			continue
		}
		handed, jobs = append(handed, task), append(jobs, job)
	}
	p.config.Claimed(handed)
	return jobs
}

// JobSetStateIfRunningMany keeps River from writing the outcome of tasks: [Config.Work] has written it. Tasks are returned as running, for
// which River emits nothing.
func (p *pilot) JobSetStateIfRunningMany(
	ctx context.Context, exec riverdriver.Executor, params *riverdriver.JobSetStateIfRunningManyParams,
) ([]*rivertype.JobRow, error) {
	var tasks []*rivertype.JobRow
	jobs := &riverdriver.JobSetStateIfRunningManyParams{Now: params.Now, Schema: params.Schema}
	for i, id := range params.ID {
		if id < 0 {
			tasks = append(tasks, &rivertype.JobRow{ID: id, State: rivertype.JobStateRunning})
			continue
		}
		jobs.ID = append(jobs.ID, id)
		jobs.Attempt = append(jobs.Attempt, params.Attempt[i])
		jobs.ErrData = append(jobs.ErrData, params.ErrData[i])
		jobs.FinalizedAt = append(jobs.FinalizedAt, params.FinalizedAt[i])
		jobs.MetadataDoMerge = append(jobs.MetadataDoMerge, params.MetadataDoMerge[i])
		jobs.MetadataUpdates = append(jobs.MetadataUpdates, params.MetadataUpdates[i])
		jobs.ScheduledAt = append(jobs.ScheduledAt, params.ScheduledAt[i])
		jobs.State = append(jobs.State, params.State[i])
	}
	if len(jobs.ID) == 0 {
		return tasks, nil
	}
	done, err := p.StandardPilot.JobSetStateIfRunningMany(ctx, exec, jobs)
	if err != nil {
		return nil, err //nolint:wrapcheck // River's own
	}
	return append(tasks, done...), nil
}

// jobOf gives a claimed task the shape of a River job. Its id is the negated job_no: River's jobs have positive ids, and a client keeps both in one map.
func jobOf(task taskdb.Task) (*rivertype.JobRow, error) {
	args, err := json.Marshal(taskArgs{Task: task})
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", task.ID, err)
	}
	return &rivertype.JobRow{
		ID: -task.JobNo, Kind: taskArgs{}.Kind(), Queue: Queue, EncodedArgs: args, Metadata: []byte("{}"), State: rivertype.JobStateRunning,
		Attempt: task.Attempt, MaxAttempts: math.MaxInt16, Priority: 1,
		CreatedAt: task.CreatedAt, ScheduledAt: task.CreatedAt, AttemptedAt: task.ClaimedAt,
	}, nil
}
