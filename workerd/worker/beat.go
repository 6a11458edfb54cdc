package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"darkroom/sql/taskdb"
	"darkroom/workerd/engine"
	"darkroom/workerd/outcome"
)

const (
	beatsPerLease = 6
	beatAgain     = time.Second // after a heartbeat that was not answered
	progressEvery = 500 * time.Millisecond
)

// job is a task that runs here.
type job struct {
	hold   taskdb.Hold
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	frame    frame
	picture  []byte        // a preview that the engine gave and that has not been looked at
	changed  chan struct{} // frame
	pictured chan struct{} // picture

	previews []string // keys of previews that may be in storage, oldest first; whoever shows them has them, then whoever ends the job
}

// frame is how far a job is, as its row shows it.
type frame struct {
	Percent float64 `json:"percent"`
	Value   float64 `json:"value"`
	Max     float64 `json:"max"`
	Phase   string  `json:"phase"`
	Preview string  `json:"preview,omitempty"` // the address of the newest one that is stored
}

// begin says that a task runs; the function it returns says that it does not any more.
func (w *Worker) begin(hold taskdb.Hold, cancel context.CancelCauseFunc) (*job, func()) {
	j := &job{hold: hold, cancel: cancel, changed: make(chan struct{}, 1), pictured: make(chan struct{}, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[hold.TaskID] = j
	return j, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.running[hold.TaskID] == j { // and not a later attempt
			delete(w.running, hold.TaskID)
		}
	}
}

// report lists what runs, for a heartbeat.
func (w *Worker) report() []taskdb.Running {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]taskdb.Running, 0, len(w.running))
	for _, j := range w.running {
		list = append(list, taskdb.Running{TaskID: j.hold.TaskID, Attempt: j.hold.Attempt, Progress: j.last()})
	}
	return list
}

// beat sends heartbeats until ctx ends. A heartbeat that is not answered stops nothing: whether a lease is gone is for the database to say, and after
// an outage it waits for workers before it takes their tasks.
func (w *Worker) beat(ctx context.Context) {
	for {
		wait := w.Lease / beatsPerLease
		if err := w.beatOnce(ctx); err != nil && ctx.Err() == nil {
			w.Log.WarnContext(ctx, "no heartbeat", "error", err)
			wait = min(wait, beatAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-w.roster.changed: // people want to know
		case <-time.After(wait):
		}
	}
}

func (w *Worker) beatOnce(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, min(w.Lease/2, callTimeout))
	defer cancel()
	info, err := json.Marshal(w.Status())
	if err != nil {
		return fmt.Errorf("describing the worker: %w", err)
	}
	changes := info
	if bytes.Equal(info, w.told) {
		changes = nil
	}
	verdicts, err := w.db.HeartbeatWorker(call, w.WorkerID, w.report(), changes)
	if errors.Is(err, taskdb.ErrUnknownWorker) { // another database, or a restored one
		return w.register(ctx)
	}
	if err != nil {
		return err
	}
	w.told = info
	w.heard.Store(time.Now().UnixNano())
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, verdict := range verdicts {
		j := w.running[verdict.TaskID]
		if j == nil || j.hold.Attempt != verdict.Attempt {
			continue
		}
		if verdict.Verdict == "cancelled" {
			j.cancel(taskdb.ErrTaskEnded)
		} else {
			j.cancel(taskdb.ErrLeaseLost)
		}
	}
	return nil
}

// Progress implements [engine.Sink].
func (s sink) Progress(p engine.Progress) {
	percent := 0.0
	if p.Max > 0 {
		percent = float64(int(1000*p.Value/p.Max)) / 10
	}
	if _, err := json.Marshal([]float64{percent, p.Value, p.Max}); err != nil { // not a number
		return
	}
	s.job.mu.Lock()
	s.job.frame = frame{Percent: percent, Value: p.Value, Max: p.Max, Phase: p.Phase, Preview: s.job.frame.Preview}
	s.job.mu.Unlock()
	ring(s.job.changed)
}

// last is how far the job is, for its row; nil while nothing is known.
func (j *job) last() json.RawMessage {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.frame == (frame{}) {
		return nil
	}
	data, err := json.Marshal(j.frame)
	if err != nil {
		return nil
	}
	return data
}

// tell writes the job's progress into its row while it changes, until ctx ends. The answer may be that the task is no longer ours.
func (w *Worker) tell(ctx context.Context, j *job) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.changed:
		}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		err := w.db.ReportProgress(call, j.hold, j.last())
		cancel()
		if outcome.IsOver(err) {
			j.cancel(err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(progressEvery):
		}
	}
}
