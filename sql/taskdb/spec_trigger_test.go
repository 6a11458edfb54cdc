package taskdb_test

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// link is a row of shot_generations.
type link struct {
	shot     uuid.UUID
	position *int
	project  uuid.UUID
	owner    uuid.UUID
}

func (b *bench) links(generation uuid.UUID) []link {
	b.t.Helper()
	rows, err := b.pg.Pool.Query(b.t.Context(), "select shot_id, position, project_id, owner_id from shot_generations where generation_id = $1", generation)
	b.noError(err)
	defer rows.Close()
	var list []link
	for rows.Next() {
		var l link
		b.noError(rows.Scan(&l.shot, &l.position, &l.project, &l.owner))
		list = append(list, l)
	}
	b.noError(rows.Err())
	return list
}

// onlyGeneration is the project's one generation.
func (b *bench) onlyGeneration() taskdb.Generation {
	b.t.Helper()
	list := b.generations()
	if len(list) != 1 {
		b.t.Fatalf("%d generations, want 1", len(list))
	}
	return list[0]
}

// generationErrors lists step and SQLSTATE of what is on record about a task.
func (b *bench) generationErrors(task uuid.UUID) []string {
	b.t.Helper()
	return value[[]string](b, "select coalesce(array_agg(step || coalesce(' ' || sqlstate, '') order by id), '{}') from generation_errors where task_id = $1", task)
}

// "INSERT INTO generations (id, location, type, project_id, metadata, params, tasks, created_at)", for both types, with the shot link
// "position NULL = unpositioned" and "NEW.generation_created := TRUE".
func TestSpecTriggerCreatesTheGeneration(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(b *bench) taskdb.NewTask
		want string
	}{
		"single_image": {func(b *bench) taskdb.NewTask { return imageTask(b.project, "shot_id", b.shot) }, "image"},
		"travel_stitch": {func(b *bench) taskdb.NewTask {
			return taskdb.NewTask{TaskType: "travel_stitch", Params: object("full_orchestrator_payload", map[string]any{"shot_id": b.shot})}
		}, "video"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, 10)
			created := b.create(c.make(b))
			task := b.claim(gpuWorker)
			done, err := b.CompleteTask(t.Context(), taskdb.HoldOf(task), taskdb.Output{Location: "http://x/out", ThumbnailURL: "http://x/t", Metadata: object("seed", 7)})
			b.noError(err)

			g := b.onlyGeneration()
			if g.ID == uuid.Nil || g.ID == task.ID || text(g.Location) != "http://x/out" || g.Type != c.want || g.ProjectID != b.project ||
				g.OwnerID != b.owner || text(g.ThumbnailURL) != "http://x/t" || *g.SourceTaskID != task.ID || !g.CreatedAt.Equal(*done.CompletedAt) {
				t.Errorf("generation %+v", g)
			}
			if !sameJSON(t, g.Metadata, object("seed", 7)) || !sameJSON(t, g.Params, created.Params) || !sameJSON(t, g.Tasks, json.RawMessage(`["`+task.ID.String()+`"]`)) {
				t.Errorf("generation has metadata %s, params %s, tasks %s", g.Metadata, g.Params, g.Tasks)
			}
			links := b.links(g.ID)
			if len(links) != 1 || links[0] != (link{b.shot, nil, b.project, b.owner}) {
				t.Errorf("shot links %+v", links)
			}
			if !done.GenerationCreated || !b.get(task.ID).GenerationCreated {
				t.Error("generation_created is not set")
			}
			if got, err := b.ListGenerations(t.Context(), taskdb.Gallery{ProjectID: b.project, ShotID: b.shot, MaxRows: 10}); err != nil || len(got) != 1 {
				t.Errorf("the shot's gallery has %d, %v", len(got), err)
			}
			b.healthy()
		})
	}
}

// "AND NEW.task_type IN ('travel_stitch', 'single_image')": the others make none.
func TestSpecTriggerMakesNoneForOtherTypes(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	b.create(taskdb.NewTask{TaskType: "travel_segment", Params: object("shot_id", b.shot)})
	done := b.complete(b.claim(gpuWorker))
	b.exec("update tasks set status = status where id = $1", done.ID)
	if done.GenerationCreated || len(b.generations()) != 0 || b.get(done.ID).GenerationCreated {
		t.Error("a segment made a generation")
	}
	b.healthy()
}

// "generation_created = FALSE -- Prevents duplicates".
func TestSpecTriggerMakesNoSecondGeneration(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	b.image("shot_id", b.shot)
	done := b.complete(b.claim(anyWorker))
	first := b.onlyGeneration()
	for _, sql := range []string{
		"update tasks set status = status where id = $1",
		"update tasks set status = 'Complete', output_location = output_location where id = $1",
		"update tasks set generation_created = false where id = $1", // a replay by hand finds the one that is there
		"update tasks set status = 'Complete' where id = $1",
	} {
		b.exec(sql, done.ID)
	}
	if again := b.onlyGeneration(); again.ID != first.ID || len(b.links(first.ID)) == 0 {
		t.Errorf("generation %s became %s with links %v", first.ID, again.ID, b.links(again.ID))
	}
	if !b.get(done.ID).GenerationCreated {
		t.Error("generation_created is not set again")
	}
	if n := len(b.links(first.ID)); n != 1 {
		t.Errorf("%d shot links, want 1", n)
	}
	b.healthy()
}

// "Link to shot if applicable": where the shot id may stand, and in which forms.
func TestSpecTriggerFindsTheShot(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	shot, unknown := b.shot.String(), uuid.NewString()
	under := func(keys ...string) func(v any) json.RawMessage {
		return func(v any) json.RawMessage {
			for i := len(keys) - 1; i > 0; i-- {
				v = map[string]any{keys[i]: v}
			}
			return object("prompt", "a", keys[0], v)
		}
	}
	paths := map[string]func(v any) json.RawMessage{
		"shot_id":                             under("shot_id"),
		"full_orchestrator_payload.shot_id":   under("full_orchestrator_payload", "shot_id"),
		"orchestrator_details.shot_id":        under("orchestrator_details", "shot_id"),
		"originalParams.orchestrator_details": under("originalParams", "orchestrator_details", "shot_id"),
		"orchestration_contract.shot_id":      under("orchestration_contract", "shot_id"),
		"beside garbage in a place looked first": func(v any) json.RawMessage {
			return object("prompt", "a", "shot_id", "no", "full_orchestrator_payload", map[string]any{"shot_id": v}, "orchestrator_details", "no")
		},
	}
	for name, params := range paths {
		for _, kind := range []string{"single_image", "travel_stitch"} {
			b.create(taskdb.NewTask{TaskType: kind, Params: params(shot)})
			done := b.complete(b.claim(gpuWorker))
			if links := b.links(b.generations()[0].ID); len(links) != 1 || links[0].shot != b.shot || len(b.generationErrors(done.ID)) != 0 {
				t.Errorf("%s with a shot at %s: links %v", kind, name, links)
			}
		}
	}
	for name, c := range map[string]struct {
		shot   any
		linked bool
		logged int
	}{
		`{"id"}`:         {map[string]any{"id": shot}, true, 0},
		`{"uuid"}`:       {map[string]any{"uuid": shot}, true, 0},
		"null":           {nil, false, 0},
		"unknown":        {unknown, false, 1},
		"a number":       {7, false, 1},
		"a list":         {[]string{shot}, false, 1},
		"with a newline": {shot + "\n", false, 1},
	} {
		b.image("shot_id", c.shot)
		done := b.complete(b.claim(gpuWorker))
		links := b.links(b.generations()[0].ID)
		if (len(links) == 1) != c.linked || len(b.generationErrors(done.ID)) != c.logged || !done.GenerationCreated {
			t.Errorf("shot as %s: links %v, errors %v", name, links, b.generationErrors(done.ID))
		}
	}
	b.healthy()
}

// "Invalid shot_id -> Generation created without shot link".
func TestSpecInvalidShotID(t *testing.T) {
	t.Parallel()
	b := setup(t, 100)
	stranger := b.as(0)
	sibling, err := b.CreateProject(t.Context(), b.owner, "second project of the same owner")
	b.noError(err)
	siblingShot, err := b.CreateShot(t.Context(), sibling.ID, "")
	b.noError(err)
	for name, shot := range map[string]any{
		"not a uuid":                   "shot-7",
		"empty":                        "",
		"unknown":                      uuid.New(),
		"of another user's project":    stranger.shot,
		"of another project of theirs": siblingShot.ID,
	} {
		b.image("shot_id", shot)
		done := b.complete(b.claim(anyWorker))
		g := b.generations()[0]
		if done.Status != taskdb.StatusComplete || !done.GenerationCreated || *g.SourceTaskID != done.ID || text(g.Location) != text(done.OutputLocation) {
			t.Errorf("shot id %s: task %+v, generation %+v", name, done, g)
		}
		if links := b.links(g.ID); len(links) != 0 {
			t.Errorf("shot id %s: linked to %v", name, links)
		}
		if errors := b.generationErrors(done.ID); len(errors) != 1 || errors[0] != "shot_link" {
			t.Errorf("shot id %s: on record is %v", name, errors)
		}
	}
	b.healthy()
}

// "Missing output_location -> Generation creation skipped", and made when it is set.
func TestSpecMissingOutputLocation(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	for _, missing := range []any{nil, "", "  "} {
		b.image("shot_id", b.shot)
		task := b.claim(anyWorker)
		b.exec("update tasks set status = 'Complete', output_location = $2 where id = $1", task.ID, missing)
		if task = b.wantStatus(task.ID, taskdb.StatusComplete); task.GenerationCreated || len(b.generations()) != 0 {
			t.Fatalf("output %v made a generation", missing)
		}
		b.exec("update tasks set metadata = '{}' where id = $1", task.ID) // still skipped
		if made, err := b.RepairGenerations(t.Context(), uuid.Nil, 10); err != nil || len(made) != 0 {
			t.Fatalf("the repair made %v, %v", made, err)
		}
		if errors := b.generationErrors(task.ID); len(errors) != 0 {
			t.Errorf("skipping is no error, but %v is on record", errors)
		}

		b.exec("update tasks set output_location = 'http://x/late' where id = $1", task.ID)
		g := b.onlyGeneration()
		if text(g.Location) != "http://x/late" || g.CreatedAt.IsZero() || len(b.links(g.ID)) != 1 || !b.get(task.ID).GenerationCreated {
			t.Errorf("made late: %+v, links %v", g, b.links(g.ID))
		}
		b.exec("delete from shot_generations where generation_id = $1", g.ID)
		b.exec("delete from generations where id = $1", g.ID)
	}
}

// "Constraint violations -> Logged but don't fail the task update", and "Check generation_created flag; can manually process".
func TestSpecConstraintViolations(t *testing.T) {
	t.Parallel()
	repairs := map[string]func(b *bench, task uuid.UUID){
		"by hand": func(b *bench, task uuid.UUID) { b.exec("update tasks set status = status where id = $1", task) },
		"by repair_generations": func(b *bench, task uuid.UUID) {
			made, err := b.RepairGenerations(b.t.Context(), b.project, 10)
			b.noError(err)
			if len(made) != 1 || *made[0].SourceTaskID != task {
				b.t.Errorf("repaired %+v", made)
			}
		},
		"by sweep_tasks": func(b *bench, _ uuid.UUID) {
			report, err := b.SweepTasks(b.t.Context(), 1000)
			b.noError(err)
			if report.Admitted != 1 {
				b.t.Errorf("the sweep reports %+v", report)
			}
		},
	}
	for name, c := range map[string]struct {
		spoil, mend string
		made        bool     // the generation, without link
		want        []string // on record
	}{
		"check on generations": {
			"alter table generations add constraint no check (location is null)", "alter table generations drop constraint no",
			false,
			[]string{"generation 23514"},
		},
		"not null on generations": {
			"alter table generations add column extra text not null", "alter table generations drop column extra",
			false,
			[]string{"generation 23502"},
		},
		"the project is gone": {
			`alter table tasks drop constraint tasks_project_id_fkey; alter table shots drop constraint shots_project_id_fkey;
			create table kept as select * from projects; delete from projects`, "insert into projects select * from kept",
			false,
			[]string{"generation 23503"},
		},
		"a trigger that refuses": {
			`create function no() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
			create trigger a_no before insert on generations for each row execute function no()`, "drop trigger a_no on generations",
			false,
			[]string{"generation P0001"},
		},
		"a value that is too long": {
			"alter table generations alter location type varchar(3)", "alter table generations alter location type text",
			false,
			[]string{"generation 22001"},
		},
		"check on shot_generations": {
			"alter table shot_generations add constraint no check (position is not null)", "alter table shot_generations drop constraint no",
			true,
			[]string{"shot_link 23514"},
		},
		"the shot vanishes meanwhile": {
			`create function no() returns trigger language plpgsql as $$ begin delete from public.shots where project_id = new.project_id; return new; end $$;
			create trigger a_no before insert on generations for each row execute function no()`, "drop trigger a_no on generations",
			true,
			[]string{"shot_link 23503"},
		},
		"both refuse": {
			`alter table shot_generations add constraint no check (position is not null);
			create sequence tries;
			create function no() returns trigger language plpgsql security definer as $$ begin
			if nextval('public.tries') > 1 then raise check_violation; end if; return new; end $$;
			create trigger a_no before insert on generations for each row execute function no()`, "drop trigger a_no on generations",
			false,
			[]string{"shot_link 23514", "generation 23514"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for how, repair := range repairs {
				b := setup(t, 10)
				b.image("shot_id", b.shot)
				task := b.claim(anyWorker)
				b.exec(c.spoil)

				done := b.complete(task)

				if done.Status != taskdb.StatusComplete || text(done.OutputLocation) == "" || done.GenerationCreated != c.made {
					t.Fatalf("completed %+v", done)
				}
				b.wantCredits(9, 0)
				got := b.generationErrors(task.ID)
				if len(got) != len(c.want) || got[0] != c.want[0] || got[len(got)-1] != c.want[len(c.want)-1] {
					t.Errorf("on record is %v, want %v", got, c.want)
				}
				if c.made {
					if g := b.onlyGeneration(); len(b.links(g.ID)) != 0 {
						t.Errorf("linked %v", b.links(g.ID))
					}
					b.healthy()
					break // nothing to repair
				}

				b.exec("update tasks set status = status where id = $1", task.ID) // the cause still stands
				if b.get(task.ID).GenerationCreated {
					t.Errorf("made against the constraint")
				}
				b.exec(c.mend)
				repair(b, task.ID)
				if g := b.onlyGeneration(); !b.get(task.ID).GenerationCreated || *g.SourceTaskID != task.ID {
					t.Errorf("repaired %s: %+v", how, g)
				}
				b.healthy()
			}
		})
	}
}

// The thumbnail of a generation: the worker's, else what the params carry.
func TestTriggerThumbnail(t *testing.T) {
	t.Parallel()
	b := setup(t, 10)
	for _, c := range []struct {
		params []any
		sent   string
		want   string
	}{
		{nil, "", ""},
		{[]any{"thumbnail_url", "p"}, "", "p"},
		{[]any{"thumbnail_url", "p", "full_orchestrator_payload", map[string]any{"thumbnail_url": "f"}}, "", "f"},
		{[]any{"thumbnail_url", "p"}, "w", "w"},
	} {
		b.image(c.params...)
		_, err := b.CompleteTask(t.Context(), taskdb.HoldOf(b.claim(anyWorker)), taskdb.Output{Location: "x", ThumbnailURL: c.sent})
		b.noError(err)
		if got := text(b.generations()[0].ThumbnailURL); got != c.want {
			t.Errorf("thumbnail is %q, want %q", got, c.want)
		}
	}
}
