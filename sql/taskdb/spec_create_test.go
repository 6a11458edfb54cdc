package taskdb_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// Each test of the spec_ files cites the sentence of task-processing-deep-dive.md that it holds the database to.

// "Insert task: project_id, tool_id, task_type: mapToolToTaskType(tool_id), params: input, cost: calculatedCost,
// status: 'Queued', generation_created: false".
func TestSpecCreateInsertsAQueuedTask(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	input := object("prompt", "a lighthouse", "unknown", map[string]any{"kept": []int{1, 2}})

	task := b.create(taskdb.NewTask{ToolID: "image-generation", Input: input})

	if task.Status != taskdb.StatusQueued || task.GenerationCreated || task.Cost != taskdb.WholeCredits(1) ||
		task.TaskType != "single_image" || text(task.ToolID) != "image-generation" || task.ProjectID != b.project || task.OwnerID != b.owner {
		t.Errorf("created %+v", task)
	}
	if task.Attempt != 0 || task.WorkerID != nil || task.ClaimedAt != nil || task.CompletedAt != nil || task.OutputLocation != nil {
		t.Errorf("created as if it had run: %+v", task)
	}
	if !sameJSON(t, task.Params, input) {
		t.Errorf("params are %s, want %s", task.Params, input)
	}
	b.wantCredits(10, 0) // "Deduct credits (only on success)"
	b.healthy()
}

// "if (!tool_id || !input) throw new Error('Missing required fields')" and "Invalid input -> Validation error returned to client".
func TestSpecCreateRefusesInvalidInput(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	deep := json.RawMessage(strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40))
	cases := map[string]struct {
		task taskdb.NewTask
		want *taskdb.Error
	}{
		"no tool_id":             {taskdb.NewTask{Input: object("prompt", "a")}, taskdb.ErrMissingFields},
		"no input":               {taskdb.NewTask{ToolID: "image-generation"}, taskdb.ErrMissingFields},
		"no project":             {taskdb.NewTask{ProjectID: uuid.Nil, ToolID: "image-generation", Input: object("prompt", "a")}, taskdb.ErrMissingFields},
		"input is a list":        {taskdb.NewTask{ToolID: "image-generation", Input: json.RawMessage(`[]`)}, taskdb.ErrMissingFields},
		"input is null":          {taskdb.NewTask{ToolID: "image-generation", Input: json.RawMessage(`null`)}, taskdb.ErrMissingFields},
		"no prompt":              {taskdb.NewTask{ToolID: "image-generation", Input: object()}, taskdb.ErrMissingFields},
		"prompt is null":         {taskdb.NewTask{ToolID: "image-generation", Input: object("prompt", nil)}, taskdb.ErrMissingFields},
		"prompt is empty":        {taskdb.NewTask{ToolID: "image-generation", Input: object("prompt", "")}, taskdb.ErrMissingFields},
		"unknown tool":           {taskdb.NewTask{ToolID: "nonsense", Input: object("prompt", "a")}, taskdb.ErrUnknownType},
		"unknown type":           {taskdb.NewTask{TaskType: "nonsense", Params: object()}, taskdb.ErrUnknownType},
		"no number of segments":  {taskdb.NewTask{TaskType: "travel_orchestrator", Params: object("orchestrator_details", 1)}, taskdb.ErrMissingFields},
		"zero segments":          {travelTask(b.project, b.shot, 0), taskdb.ErrInvalidParams},
		"too many segments":      {travelTask(b.project, b.shot, 201), taskdb.ErrInvalidParams},
		"too large":              {taskdb.NewTask{ToolID: "image-generation", Input: object("prompt", strings.Repeat("x", 1<<20))}, taskdb.ErrParamsTooLarge},
		"too deep":               {taskdb.NewTask{ToolID: "image-generation", Input: object("prompt", "a", "deep", deep)}, taskdb.ErrParamsTooLarge},
		"unknown project":        {imageTask(uuid.New()), taskdb.ErrProjectNotFound},
		"unknown dependency":     {taskdb.NewTask{TaskType: "single_image", Params: object("prompt", "a"), DependantOn: []uuid.UUID{uuid.New()}}, taskdb.ErrInvalidDependency},
		"unknown orchestrator":   {imageTask(b.project, "orchestrator_task_id_ref", uuid.New()), taskdb.ErrInvalidDependency},
		"orchestrator no uuid":   {imageTask(b.project, "orchestrator_task_id_ref", "x"), taskdb.ErrInvalidDependency},
		"idempotency key length": {taskdb.NewTask{ToolID: "image-generation", Input: object("prompt", "a"), IdempotencyKey: strings.Repeat("k", 201)}, taskdb.ErrMissingFields},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.task.ProjectID == uuid.Nil && name != "no project" {
				c.task.ProjectID = b.project
			}
			_, err := b.CreateTask(t.Context(), c.task)
			wantRefusal(t, err, c.want)
		})
	}
	t.Cleanup(func() {
		var tasks int
		if err := b.pg.Pool.QueryRow(context.WithoutCancel(t.Context()), "select count(*) from tasks").Scan(&tasks); err != nil || tasks != 0 {
			t.Errorf("%d tasks were created, %v", tasks, err)
		}
	})
}

// "if (userBalance < calculatedCost) throw new Error('Insufficient credits')".
func TestSpecCreateRefusesWhenCreditsDoNotCoverTheCost(t *testing.T) {
	t.Parallel()
	b := setup(t, 9)

	_, err := b.CreateTask(t.Context(), travelTask(b.project, b.shot, 2)) // 10 credits
	wantRefusal(t, err, taskdb.ErrInsufficientCredits)
	b.grant(1)
	b.create(travelTask(b.project, b.shot, 2)) // "<": an equal balance is enough
	b.claim(gpuWorker)                         // holds all of it
	_, err = b.CreateTask(t.Context(), imageTask(b.project))
	wantRefusal(t, err, taskdb.ErrInsufficientCredits) // what is held is not available
	_, err = b.as(0).CreateTask(t.Context(), imageTask(b.as(0).project))
	wantRefusal(t, err, taskdb.ErrInsufficientCredits)
	b.healthy()
}

// "cost: calculatedCost": a client cannot name its cost, status, owner or anything else that the server decides, even by INSERT.
func TestSpecCreateIgnoresWhatAClientMayNotSay(t *testing.T) {
	t.Parallel()
	b, stranger := setup(t, 10), uuid.New()

	b.exec(`insert into tasks (owner_id, project_id, task_type, params, cost, status, worker_id, claimed_at, generation_created,
		attempt, failed_attempts, output_location, completed_at, created_at, orchestrator_task_id, error_message)
		values ($1, $2, 'single_image', '{"prompt": "a"}', 0, 'Complete', 'me', now(), true, 7, 7, 'x', now(), 'epoch', $1, 'x')`, stranger, b.project)

	task := b.claim(anyWorker)
	if task.Cost != taskdb.WholeCredits(1) || task.OwnerID != b.owner || task.Attempt != 1 || task.FailedAttempts != 0 || task.GenerationCreated ||
		task.OutputLocation != nil || task.CompletedAt != nil || task.OrchestratorTaskID != nil || task.CreatedAt.Year() < 2000 || task.ErrorMessage != nil {
		t.Errorf("a client's word counted: %+v", task)
	}
	b.healthy()
}

// "mapToolToTaskType(tool_id)" and `calculate-task-cost`: prices are data.
func TestSpecCalculateTaskCost(t *testing.T) {
	t.Parallel()
	b := setup(t, 0)
	for name, c := range map[string]struct {
		task taskdb.NewTask
		want int64
	}{
		"image by tool":      {taskdb.NewTask{ToolID: "image-generation", Input: object("prompt", "a")}, 1},
		"image by type":      {imageTask(b.project), 1},
		"travel by segments": {travelTask(b.project, b.shot, 7), 35},
	} {
		got, err := b.CalculateTaskCost(t.Context(), c.task)
		if err != nil || got != taskdb.WholeCredits(c.want) {
			t.Errorf("%s costs %v (%v), want %d", name, got, err, c.want)
		}
	}
	_, err := b.CalculateTaskCost(t.Context(), taskdb.NewTask{ToolID: "nonsense", Input: object()})
	wantRefusal(t, err, taskdb.ErrUnknownType)
	_, err = b.CalculateTaskCost(t.Context(), taskdb.NewTask{ToolID: "image-generation"})
	wantRefusal(t, err, taskdb.ErrMissingFields)
	_, err = b.CalculateTaskCost(t.Context(), travelTask(b.project, b.shot, 0))
	wantRefusal(t, err, taskdb.ErrInvalidParams)
	b.exec("update task_types set enabled = false where name = 'single_image'")
	_, err = b.CalculateTaskCost(t.Context(), imageTask(b.project))
	wantRefusal(t, err, taskdb.ErrUnknownType)
}

// "Database error -> Retry with exponential backoff": a retry makes no second task.
func TestSpecCreateIsIdempotent(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	byKey := imageTask(b.project)
	byKey.IdempotencyKey = "k"
	byID := imageTask(b.project)
	byID.TaskID = uuid.New()

	for _, task := range []taskdb.NewTask{byKey, byID} {
		first := b.create(task)
		again := b.create(task)
		if first.ID != again.ID {
			t.Errorf("a repeat made task %s beside %s", again.ID, first.ID)
		}
		different := task
		different.Params = object("prompt", "another")
		_, err := b.CreateTask(t.Context(), different)
		wantRefusal(t, err, taskdb.ErrConflict)
		different = task
		different.DependantOn = []uuid.UUID{first.ID}
		_, err = b.CreateTask(t.Context(), different)
		wantRefusal(t, err, taskdb.ErrConflict)
		different = task
		different.TaskType, different.Params = "travel_segment", task.Params
		_, err = b.CreateTask(t.Context(), different)
		wantRefusal(t, err, taskdb.ErrConflict)
	}
	moreKeys := byID
	moreKeys.IdempotencyKey = "other"
	_, err := b.CreateTask(t.Context(), moreKeys)
	wantRefusal(t, err, taskdb.ErrConflict)

	// A repeat is answered although credits are gone now, and whatever became of the task.
	done := b.complete(b.claim(anyWorker))
	b.complete(b.claim(anyWorker))
	b.exec("select darkroom.append_ledger($1, 'hold', 8, gen_random_uuid(), 1)", b.owner)
	if again := b.create(byKey); again.ID != done.ID || again.Status != taskdb.StatusComplete {
		t.Errorf("a late repeat answered %s %s", again.ID, again.Status)
	}
	// Another owner's key is another key.
	other := b.as(5)
	elsewhere := imageTask(other.project)
	elsewhere.IdempotencyKey = "k"
	if task := other.create(elsewhere); task.ID == done.ID {
		t.Error("one owner's key met another's task")
	}
}

// Retries that overlap make one task, and each of them is answered with it.
func TestCreateIsIdempotentWhenRepeatsOverlap(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	for _, task := range []taskdb.NewTask{
		{ProjectID: b.project, ToolID: "image-generation", Input: object("prompt", "a"), IdempotencyKey: "k"},
		{ProjectID: b.project, ToolID: "image-generation", Input: object("prompt", "a"), TaskID: uuid.New()},
	} {
		results := inParallel(16, func(int) (uuid.UUID, error) {
			made, err := b.CreateTask(t.Context(), task)
			return made.ID, err
		})
		for _, r := range results {
			if r.err != nil || r.value != results[0].value {
				t.Errorf("answers differ: %v %v, %v", r.value, results[0].value, r.err)
			}
		}
	}
	if n := value[int](b, "select count(*) from tasks"); n != 2 {
		t.Errorf("%d tasks, want 2", n)
	}
	b.healthy()
}

func TestCreateTasksIsAllOrNothingAndKeepsTheOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	first, second := imageTask(b.project, "n", 1), imageTask(b.project, "n", 2)
	first.TaskID, second.TaskID = uuid.New(), uuid.New()
	second.DependantOn = []uuid.UUID{first.TaskID}

	made, err := b.CreateTasks(t.Context(), []taskdb.NewTask{first, second})
	b.noError(err)
	if !slices.Equal(ids(made), []uuid.UUID{first.TaskID, second.TaskID}) {
		t.Errorf("made %v", ids(made))
	}
	_, err = b.CreateTasks(t.Context(), []taskdb.NewTask{imageTask(b.project), {ProjectID: b.project, ToolID: "nonsense"}})
	wantRefusal(t, err, taskdb.ErrUnknownType)
	if n := value[int](b, "select count(*) from tasks"); n != 2 {
		t.Errorf("%d tasks, want 2", n)
	}
	// Without ids and keys, all are stored by one statement.
	many := make([]taskdb.NewTask, 300)
	for i := range many {
		many[i] = imageTask(b.project, "n", i)
	}
	made, err = b.CreateTasks(t.Context(), many)
	b.noError(err)
	for i, task := range made {
		if !sameJSON(t, task.Params, many[i].Params) || i > 0 && task.JobNo <= made[i-1].JobNo {
			t.Fatalf("number %d is %s, job %d", i, task.Params, task.JobNo)
		}
	}
	many[299].Params = json.RawMessage(`{}`)
	_, err = b.CreateTasks(t.Context(), many)
	wantRefusal(t, err, taskdb.ErrMissingFields)
	if n := value[int](b, "select count(*) from tasks"); n != 302 || len(made) != 300 {
		t.Errorf("%d tasks made, %d there", len(made), n)
	}
	none, err := b.CreateTasks(t.Context(), nil)
	if err != nil || len(none) != 0 {
		t.Errorf("no tasks made %v, %v", none, err)
	}
	_, err = b.CreateTasks(t.Context(), make([]taskdb.NewTask, 10_001))
	wantRefusal(t, err, taskdb.ErrInvalidParams)
	b.healthy()
}

func sameJSON(t testing.TB, a, b json.RawMessage) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	p, _ := json.Marshal(x) //nolint:errchkjson // read from JSON
	q, _ := json.Marshal(y) //nolint:errchkjson // as above
	return string(p) == string(q)
}
