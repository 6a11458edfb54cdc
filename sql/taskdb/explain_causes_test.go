package taskdb_test

import (
	"strings"
	"time"

	"github.com/google/uuid"

	"darkroom/sql/taskdb"
)

// cause is a state of a task and what explain_task says of it.
type cause struct {
	make     func(b *bench) uuid.UUID
	codes    string
	detail   string // JSON that the first reason's detail contains
	position int64  // 0: it is not runnable
}

func (b *bench) worker(id, info string) {
	b.t.Helper()
	b.exec("insert into workers (id, last_heartbeat, info) values ($1, clock_timestamp(), $2)", id, info)
}

// fails has workers call the task a passing failure so many times.
func (b *bench) fails(task taskdb.Task, times int, pause time.Duration) uuid.UUID {
	b.t.Helper()
	for range times {
		_, err := b.RetryTask(b.t.Context(), taskdb.HoldOf(b.claimThis(anyWorker, task)), "out of memory", pause)
		b.noError(err)
	}
	return task.ID
}

const engineInfo = `{"slots": 3, "engines": [{"name": "flux", "kind": "exec", "state": "STATE", "slots": 1, "task_types": ["single_image"], "reason": "no route to 10.0.0.7",
	"since": "2026-01-01T00:00:00Z"}, {"name": "wan", "state": "up", "slots": 2, "task_types": ["travel_segment"]}]}`

// alone leaves one worker, whose image engine is in that state.
func (b *bench) alone(state string) {
	b.t.Helper()
	b.exec("delete from workers")
	b.worker("one", strings.ReplaceAll(engineInfo, "STATE", state))
}

// causes are the states, by what each one is.
var causes = map[string]cause{
	"it is next": {
		func(b *bench) uuid.UUID { return b.image().ID }, "", "", 1,
	},
	"others are older": {
		func(b *bench) uuid.UUID { b.as(5).image(); b.image(); return b.image().ID },
		"behind_others", `{"before": 2, "of_yours": 1, "more": false, "by_type": {"single_image": 2}}`, 3,
	},
	"only one is older": {
		func(b *bench) uuid.UUID { b.as(5).image(); return b.image().ID },
		"behind_others", `{"before": 1, "of_yours": 0}`, 2,
	},
	"many are older": {
		func(b *bench) uuid.UUID {
			for range 30 {
				b.image()
			}
			return b.image().ID
		}, "behind_others", `{"before": 30, "of_yours": 30}`, 31,
	},
	"more are older than are counted": {
		func(b *bench) uuid.UUID {
			b.grant(2000)
			b.exec("insert into tasks (project_id, task_type, params) select $1, 'single_image', '{\"prompt\": \"x\"}' from generate_series(1, 1001)", b.project)
			return b.image().ID
		}, "behind_others", `{"before": 1000, "more": true}`, 1001,
	},
	"who is older cannot pay": {
		func(b *bench) uuid.UUID {
			broke := b.as(1)
			broke.image()
			broke.image()
			b.claim(gpuWorker)
			return b.image().ID
		}, "", "", 1,
	},
	"older tasks are for others": {
		func(b *bench) uuid.UUID { // a worker for images alone comes to it first
			b.create(taskdb.NewTask{TaskType: "travel_segment", Params: object()})
			return b.image().ID
		}, "", "", 1,
	},
	"the only worker has older tasks of another type": {
		func(b *bench) uuid.UUID {
			b.exec("delete from workers where id = $1", anyWorker)
			b.create(taskdb.NewTask{TaskType: "travel_segment", Params: object()})
			return b.image().ID
		}, "behind_others", `{"before": 1, "by_type": {"travel_segment": 1}}`, 2,
	},
	"one's own worker does not wait for others' tasks": {
		func(b *bench) uuid.UUID {
			b.as(5).image()
			b.exec("insert into workers (id, owner_id, last_heartbeat) values ('mine', $1, clock_timestamp())", b.owner)
			return b.image().ID
		}, "", "", 1,
	},
	"it waits for one": {
		func(b *bench) uuid.UUID { return b.after(b.image().ID).ID },
		"waits_for_tasks", `{"count": 1, "tasks": [{"task_type": "single_image", "status": "Queued"}]}`, 0,
	},
	"it waits for several": {
		func(b *bench) uuid.UUID {
			done, running, queued := b.image(), b.image(), b.image()
			b.complete(b.claimThis(anyWorker, done))
			b.claimThis(anyWorker, running)
			return b.after(done.ID, running.ID, queued.ID).ID
		}, "waits_for_tasks", `{"count": 2, "tasks": [{"status": "In Progress"}, {"status": "Queued"}]}`, 0,
	},
	"what it waited for has failed": {
		func(b *bench) uuid.UUID {
			first := b.image()
			waiting := b.after(first.ID)
			b.fail(b.claimThis(anyWorker, first), "no")
			return waiting.ID
		}, "dependency_failed", `{"tasks": [{"status": "Failed"}]}`, 0,
	},
	"what it waits for has failed, and it does not know": {
		func(b *bench) uuid.UUID {
			first := b.image()
			waiting := b.after(first.ID)
			b.exec("update tasks set status = 'Failed' where id = $1", first.ID)
			return waiting.ID
		}, "dependency_failed", `{"count": 1}`, 0,
	},
	"its retry is delayed": {
		func(b *bench) uuid.UUID { return b.fails(b.image(), 1, time.Hour) },
		"retry_delayed queued_again", `{"failed_attempts": 1, "max_attempts": 3, "error": "out of memory"}`, 0,
	},
	"its retry is due": {
		func(b *bench) uuid.UUID {
			id := b.fails(b.image(), 1, time.Hour)
			b.exec("update tasks set run_after = now() where id = $1", id)
			b.exec("update darkroom.task_delayed set run_after = now() where task_id = $1", id)
			return id
		}, "retry_due queued_again", `{"failed_attempts": 1}`, 0,
	},
	"it was given back": {
		func(b *bench) uuid.UUID { return b.release(b.claimThis(anyWorker, b.image())).ID },
		"queued_again", `{"attempt": 1, "outcome": "released", "error": "stopping", "failed_attempts": 0, "worker_id": "worker-any"}`, 1,
	},
	"its worker fell silent before": {
		func(b *bench) uuid.UUID {
			task := b.claimThis(anyWorker, b.image())
			b.age(anyWorker, time.Hour)
			b.requeueExpired()
			return task.ID
		}, "queued_again", `{"outcome": "expired", "failed_attempts": 1}`, 1,
	},
	"it is nowhere": {
		func(b *bench) uuid.UUID {
			id := b.image().ID
			b.exec("delete from darkroom.task_ready where task_id = $1", id)
			return id
		}, "not_filed", "", 0,
	},
	"it is hidden although it can be paid": {
		func(b *bench) uuid.UUID {
			id := b.image().ID
			b.exec("update darkroom.task_ready set parked = true where task_id = $1", id)
			return id
		}, "misfiled", `{"place": "parked"}`, 0,
	},
	"nothing stands before its backlog": {
		func(b *bench) uuid.UUID {
			id := b.image().ID
			b.exec("with r as (delete from darkroom.task_ready where task_id = $1 returning *) insert into darkroom.task_backlog select owner_id, task_type, cost, created_at, job_no, task_id from r", id)
			return id
		}, "misfiled", `{"place": "stuck"}`, 0,
	},
	"it stands among those that wait": {
		func(b *bench) uuid.UUID {
			first := b.image()
			waiting := b.after(first.ID)
			b.exec("update tasks set status = 'Complete' where id = $1", first.ID)
			return waiting.ID
		}, "misfiled", `{"place": "deps"}`, 0,
	},
	"its owner's credits are held": {
		func(b *bench) uuid.UUID {
			poor := b.as(2)
			poor.image()
			second := poor.image()
			poor.create(travelLike(poor, 2))
			b.claim(anyWorker)
			b.claimThis(anyWorker, second)
			return value[uuid.UUID](b, "select id from tasks where owner_id = $1 and status = 'Queued'", poor.owner)
		}, "insufficient_credits", `{"needs": 2, "available": 0, "missing": 2, "balance": 2, "held": 2, "held_by": 2}`, 0,
	},
	"its owner has spent them, and its lane is parked": {
		func(b *bench) uuid.UUID {
			poor := b.as(1)
			first, second := poor.image(), poor.image()
			b.complete(b.claimThis(anyWorker, first))
			b.claimNothing(anyWorker)
			return second.ID
		}, "insufficient_credits", `{"needs": 1, "available": 0, "missing": 1, "balance": 0, "held": 0, "held_by": 0}`, 0,
	},
	"nobody has the capability": {
		func(b *bench) uuid.UUID {
			b.exec("delete from workers where id = $1", gpuWorker)
			return b.create(travelTask(b.project, b.shot, 1)).ID
		}, "no_worker", `{"task_type": "travel_orchestrator", "route": "wan2gp"}`, 1,
	},
	"there is no worker": {
		func(b *bench) uuid.UUID { b.exec("delete from workers"); return b.image().ID },
		"no_worker", `{"task_type": "single_image", "route": "any"}`, 1,
	},
	"there is no worker, and others wait too": {
		func(b *bench) uuid.UUID { b.exec("delete from workers"); b.image(); return b.image().ID },
		"no_worker behind_others", `{}`, 2,
	},
	"nobody wants the type": {
		func(b *bench) uuid.UUID {
			b.exec("update workers set task_types = '{travel_stitch}'")
			return b.image().ID
		}, "no_worker", `{}`, 1,
	},
	"the worker is somebody else's": {
		func(b *bench) uuid.UUID {
			b.exec("update workers set owner_id = $1", b.as(0).owner)
			return b.image().ID
		}, "no_worker", `{}`, 1,
	},
	"the worker's token is revoked": {
		func(b *bench) uuid.UUID {
			b.exec("delete from workers")
			token, err := b.CreateAccessToken(b.t.Context(), "worker", "", 0, uuid.Nil)
			b.noError(err)
			b.exec("insert into workers (id, token_id, name, last_heartbeat) values ('one', $1, 'one', clock_timestamp())", token.ID)
			_, err = b.RevokeAccessToken(b.t.Context(), token.ID)
			b.noError(err)
			return b.image().ID
		}, "no_worker", `{}`, 1,
	},
	"all workers are silent": {
		func(b *bench) uuid.UUID {
			b.exec("delete from workers where id = $1", gpuWorker)
			b.age(anyWorker, 16*time.Minute) // half of the lease and more
			return b.image().ID
		}, "workers_silent", `{"workers": 1}`, 1,
	},
	"the engine is down": {
		func(b *bench) uuid.UUID { b.alone("down"); return b.image().ID },
		"engines_down", `{"workers": 1, "engines": [{"worker_id": "one", "name": "flux", "kind": "exec", "since": "2026-01-01T00:00:00Z"}]}`, 1,
	},
	"the engine is being tried and busy": {
		func(b *bench) uuid.UUID { b.alone("probing"); b.image(); b.claim("one"); return b.image().ID },
		"workers_busy", `{"workers": 1, "slots": 1}`, 1,
	},
	"the engine is busy, another is not": {
		func(b *bench) uuid.UUID { b.alone("up"); b.image(); b.claim("one"); return b.image().ID },
		"workers_busy", `{"workers": 1, "slots": 1}`, 1,
	},
	"another engine is busy, the one it needs is not": {
		func(b *bench) uuid.UUID {
			b.alone("up")
			b.exec("update workers set capabilities = '{wan2gp}'")
			b.create(taskdb.NewTask{TaskType: "travel_segment", Params: object()})
			b.claim("one")
			return b.image().ID
		}, "", "", 1,
	},
	"the worker has no slot left": {
		func(b *bench) uuid.UUID {
			b.alone("up")
			b.exec(`update workers set capabilities = '{wan2gp}', info = jsonb_set(info, '{slots}', '1')`)
			b.create(taskdb.NewTask{TaskType: "travel_segment", Params: object()})
			b.claim("one")
			return b.image().ID
		}, "workers_busy", `{"slots": 1}`, 1,
	},
	"every worker is busy": {
		func(b *bench) uuid.UUID {
			b.image()
			b.image()
			b.claim(anyWorker)
			b.claim(gpuWorker)
			b.image()
			return b.image().ID
		}, "workers_busy behind_others", `{"workers": 2, "slots": 2}`, 2,
	},
	"a worker says nonsense of itself": {
		func(b *bench) uuid.UUID {
			b.exec("delete from workers")
			for name, info := range map[string]string{
				"a": `[]`, "b": `"x"`, "c": `{"engines": "x", "slots": "many"}`, "d": `{"engines": [1, {"task_types": "single_image", "state": 7, "slots": -1e30}], "slots": 1e300}`,
				"e": `{"engines": {"task_types": ["single_image"], "slots": [1]}, "slots": {"a": 1}}`,
			} {
				b.worker(name, info)
			}
			return b.image().ID
		}, "", "", 1,
	},
	"it runs": {
		func(b *bench) uuid.UUID {
			task := b.claimThis(anyWorker, b.image())
			b.noError(b.ReportProgress(b.t.Context(), taskdb.HoldOf(task), object("percent", 41.6)))
			return task.ID
		}, "running", `{"worker_id": "worker-any", "attempt": 1, "progress": {"percent": 41.6}, "last_attempt": false}`, 0,
	},
	"its worker is silent": {
		func(b *bench) uuid.UUID {
			task := b.claimThis(anyWorker, b.image())
			b.age(anyWorker, 16*time.Minute)
			return task.ID
		}, "worker_silent", `{"worker_id": "worker-any", "last_attempt": false}`, 0,
	},
	"its worker is silent, for the last time": {
		func(b *bench) uuid.UUID {
			task := b.image()
			b.fails(task, 2, -time.Hour)
			b.claimThis(anyWorker, task)
			b.age(anyWorker, 16*time.Minute)
			return task.ID
		}, "worker_silent", `{"last_attempt": true}`, 0,
	},
	"its worker does not name it": {
		func(b *bench) uuid.UUID {
			task := b.claimThis(anyWorker, b.image())
			b.age(anyWorker, time.Minute)
			_, err := b.HeartbeatWorker(b.t.Context(), anyWorker, []taskdb.Running{}, nil)
			b.noError(err)
			return task.ID
		}, "worker_dropped", `{"worker_id": "worker-any"}`, 0,
	},
	"its lease is over": {
		func(b *bench) uuid.UUID {
			task := b.claimThis(anyWorker, b.image())
			b.age(anyWorker, time.Hour)
			return task.ID
		}, "lease_over", `{"worker_id": "worker-any"}`, 0,
	},
	"a worker without heartbeats may be silent for its lease": {
		func(b *bench) uuid.UUID {
			task := b.claimThis(anyWorker, b.image())
			b.exec("update workers set last_heartbeat = null")
			b.exec("update tasks set claimed_at = claimed_at - interval '29 minutes' where id = $1", task.ID)
			return task.ID
		}, "running", `{"last_heartbeat": null}`, 0,
	},
	"it waits for its tree": {
		func(b *bench) uuid.UUID {
			travel := b.claimThis(gpuWorker, b.create(travelTask(b.project, b.shot, 2)))
			b.expand(travel)
			b.complete(b.claim(gpuWorker))
			b.claim(gpuWorker)
			return travel.ID
		}, "waits_for_children", `{"done": 1, "running": 1, "all": 3}`, 0,
	},
	"its tree is done, and its worker has not said so": {
		func(b *bench) uuid.UUID {
			travel := b.claimThis(gpuWorker, b.create(travelTask(b.project, b.shot, 1)))
			b.exec("insert into tasks (project_id, task_type, params) values ($1, 'travel_segment', jsonb_build_object('orchestrator_task_id_ref', $2::uuid))", b.project, travel.ID)
			b.complete(b.claim(gpuWorker))
			return travel.ID
		}, "waits_for_children running", `{"done": 1, "running": 0, "all": 1}`, 0,
	},
	"it is complete": {
		func(b *bench) uuid.UUID { return b.complete(b.claimThis(anyWorker, b.image())).ID },
		"complete", `{}`, 0,
	},
	"it is complete and makes none": {
		func(b *bench) uuid.UUID {
			b.create(taskdb.NewTask{TaskType: "travel_segment", Params: object()})
			return b.complete(b.claim(gpuWorker)).ID
		}, "complete", `{"generation_id": null}`, 0,
	},
	"it is complete without output": {
		func(b *bench) uuid.UUID {
			task := b.claimThis(anyWorker, b.image())
			b.exec("update tasks set status = 'Complete' where id = $1", task.ID)
			return task.ID
		}, "no_output", `{"generation_id": null}`, 0,
	},
	"its generation was refused": {
		func(b *bench) uuid.UUID {
			b.exec("alter table generations add constraint nothing_new check (false) not valid")
			return b.complete(b.claimThis(anyWorker, b.image())).ID
		}, "generation_failed", `{"sqlstate": "23514"}`, 0,
	},
	"its generation was deleted": {
		func(b *bench) uuid.UUID {
			task := b.complete(b.claimThis(anyWorker, b.image()))
			b.exec("delete from generations where source_task_id = $1", task.ID)
			return task.ID
		}, "generation_deleted", `{"generation_id": null}`, 0,
	},
	"its generation is missing": {
		func(b *bench) uuid.UUID {
			task := b.claimThis(anyWorker, b.image())
			b.exec("alter table tasks disable trigger user")
			b.exec("update tasks set status = 'Complete', output_location = 'x' where id = $1", task.ID)
			return task.ID
		}, "no_generation", `{"generation_id": null}`, 0,
	},
	"its shot is not there": {
		func(b *bench) uuid.UUID {
			return b.complete(b.claimThis(anyWorker, b.image("shot_id", "no such shot"))).ID
		},
		"shot_link_failed", `{"sqlstate": null}`, 0,
	},
	"it failed": {
		func(b *bench) uuid.UUID { return b.fail(b.claimThis(anyWorker, b.image()), "the prompt is empty").ID },
		"failed", `{"error": "the prompt is empty", "outcome": "failed", "worker_id": "worker-any"}`, 0,
	},
	"its attempts are used up": {
		func(b *bench) uuid.UUID { return b.fails(b.image(), 3, -time.Hour) },
		"attempts_used_up", `{"failed_attempts": 3, "max_attempts": 3, "error": "out of memory (attempt 3 of 3)"}`, 0,
	},
	"its tree failed": {
		func(b *bench) uuid.UUID {
			children := b.expand(b.claimThis(gpuWorker, b.create(travelTask(b.project, b.shot, 2))))
			b.fail(b.claimThis(gpuWorker, children[0]), "no")
			return children[1].ID
		}, "tree_ended", `{"status": "Failed"}`, 0,
	},
	"its tree was cancelled while it ran": {
		func(b *bench) uuid.UUID {
			travel := b.create(travelTask(b.project, b.shot, 2))
			children := b.expand(b.claimThis(gpuWorker, travel))
			b.claimThis(gpuWorker, children[0])
			_, err := b.CancelTask(b.t.Context(), travel.ID, "")
			b.noError(err)
			return children[0].ID
		}, "tree_ended", `{"status": "Cancelled"}`, 0,
	},
	"it was cancelled": {
		func(b *bench) uuid.UUID {
			task, err := b.CancelTask(b.t.Context(), b.image().ID, "not needed")
			b.noError(err)
			return task.ID
		}, "cancelled", `{"error": "not needed"}`, 0,
	},
}

// travelLike is a task that costs that many credits, for an owner who has them now.
func travelLike(b *bench, credits int) taskdb.NewTask {
	b.t.Helper()
	b.exec("insert into task_types (name, base_price) values ('dear', $1)", credits)
	return taskdb.NewTask{TaskType: "dear", Params: object()}
}
