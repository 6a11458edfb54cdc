package taskdb_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// Tasks that are made together, and filed together at commit, stand in the queue as if they had been filed one by one: each once, oldest first, whatever
// else the transaction did and whatever was there before.
func TestTasksMadeTogetherAreFiledLikeOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, 1_000_000)
	projects := []uuid.UUID{b.project, value[uuid.UUID](b, "select id from create_project(user_id => $1)", b.owner)}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var waiting []uuid.UUID // what a later task may depend on, of the first project
	list := func() []taskdb.NewTask {
		tasks := make([]taskdb.NewTask, 1+random.IntN(40))
		for i := range tasks {
			tasks[i] = imageTask(projects[random.IntN(2)%(1+random.IntN(2))])
			if random.IntN(4) == 0 {
				tasks[i] = taskdb.NewTask{ProjectID: tasks[i].ProjectID, TaskType: "travel_stitch", Params: object()}
			}
			if random.IntN(8) == 0 && len(waiting) > 0 {
				tasks[i].ProjectID, tasks[i].DependantOn = projects[0], waiting[len(waiting)-1:]
			}
		}
		return tasks
	}
	made := 0
	for range 40 {
		tx, err := b.pg.Pool.Begin(t.Context())
		b.noError(err)
		inside := taskdb.New(tx)
		mine := 0
		for range 1 + random.IntN(4) {
			switch random.IntN(7) {
			case 0:
				_, err := tx.Exec(t.Context(), "set constraints all "+[]string{"immediate", "deferred"}[random.IntN(2)])
				b.noError(err)
			case 1: // comes to nothing
				save, err := tx.Begin(t.Context())
				b.noError(err)
				_, err = taskdb.New(save).CreateTasks(t.Context(), list())
				b.noError(err)
				b.noError(save.Rollback(t.Context()))
			case 2:
				save, err := tx.Begin(t.Context())
				b.noError(err)
				tasks, err := taskdb.New(save).CreateTasks(t.Context(), list())
				b.noError(err)
				b.noError(save.Commit(t.Context()))
				mine += len(tasks)
			case 3:
				task, err := inside.CreateTask(t.Context(), imageTask(projects[0]))
				b.noError(err)
				waiting = append(waiting, task.ID)
				mine++
			case 4: // not to be filed
				task, err := inside.CreateTask(t.Context(), imageTask(projects[0]))
				b.noError(err)
				_, err = inside.CancelTask(t.Context(), task.ID, "")
				b.noError(err)
			default:
				tasks, err := inside.CreateTasks(t.Context(), list())
				b.noError(err)
				mine += len(tasks)
			}
		}
		b.noError(tx.Commit(t.Context()))
		made += mine
		if random.IntN(3) == 0 {
			claimed, err := b.ClaimNextTasks(t.Context(), gpuWorker, 1+random.IntN(60), nil)
			b.noError(err)
			for _, task := range claimed {
				b.complete(task)
			}
			made -= len(claimed)
		}
		if got := b.queued(); got != made {
			t.Fatalf("%d tasks are queued, want %d", got, made)
		}
		b.healthy()
	}
	var claimed []taskdb.Task
	for {
		some, err := b.ClaimNextTasks(t.Context(), gpuWorker, 1000, nil)
		b.noError(err)
		if len(some) == 0 {
			break
		}
		if !slices.IsSortedFunc(some, func(a, b taskdb.Task) int { return a.CreatedAt.Compare(b.CreatedAt) }) {
			t.Error("not claimed oldest first")
		}
		claimed = append(claimed, some...)
		for _, task := range some {
			b.complete(task)
		}
	}
	if len(claimed) != made {
		t.Errorf("%d tasks were claimed at the end, want %d", len(claimed), made)
	}
	b.healthy()
}
