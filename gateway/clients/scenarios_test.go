package clients_test

import (
	"maps"
	"strings"

	"darkroom/sql/taskdb"
)

// scenarios are what all doors must do alike.
var scenarios = []struct {
	name string
	run  func(s *script)
}{
	{"an image from its price to the gallery", anImage},
	{"prices", prices},
	{"insufficient credits", insufficientCredits},
	{"what is no task is refused", badTasks},
	{"what is not there is not found", notFound},
	{"a repeat answers as before, another body is a conflict", idempotency},
	{"cancel", cancel},
	{"claims go by age, by route and by credits", claims},
	{"completion, its repeat, and what comes too late", completion},
	{"failure", failure},
	{"retries until the attempts are used up", retries},
	{"why a task waits, and once more after it failed", explained},
	{"a task given back", release},
	{"a travel and its tree", travel},
	{"a task that waits for others", dependencies},
	{"several at once", batches},
	{"projects, shots and the gallery", gallery},
	{"users and credits", accounts},
	{"strangers", strangers},
	{"what a role may not call", forbidden},
	{"workers with tokens", workerTokens},
	{"workers that know neither worker nor attempt", silentWorkers},
	{"access tokens", accessTokens},
	{"a full queue", fullQueue},
	{"an erased user", erasure},
	{"upkeep", upkeep},
}

// image is a task of the app's form.
func image(project string, more args) args {
	task := args{"project_id": project, "tool_id": "image-generation", "input": args{"prompt": "a lighthouse"}}
	maps.Copy(task, more)
	return task
}

// hold is the fence of a task as the claim gave it, with more arguments.
func hold(task row, more args) args {
	with := args{"task_id": task["id"], "worker_id": task["worker_id"], "attempt": task["attempt"]}
	maps.Copy(with, more)
	return with
}

const out = "https://files.example.com/out.png"

// register makes gpu-1 known, which runs everything.
func (s *script) register() {
	s.one(machine, "register_worker", args{"worker_id": "gpu-1", "capabilities": []string{"wan2gp"}, "lease_timeout": "90s", "info": args{"device": "test"}})
}

func (s *script) claim() row { return s.one(machine, "claim_next_task", args{"worker_id": "gpu-1"}) }

// neverRegistered is a worker that nobody knows. The claim of /functions/v1 makes it known, all others refuse it.
const neverRegistered = "gpu-0"

// want compares a column. Where a door need not have all columns, a missing one is no fault.
func (s *script) want(r row, column string, value any) {
	s.t.Helper()
	if got, has := r[column]; got != value && (has || !s.part) {
		s.t.Fatalf("%s is %v, want %v: %v", column, r[column], value, r)
	}
}

func (s *script) credits(of person, balance, held float64) {
	s.t.Helper()
	account := s.one(of.caller, "get_credits", nil)
	s.want(account, "balance", balance)
	s.want(account, "held", held)
	s.want(account, "available", balance-held)
}

func anImage(s *script) {
	s.want(s.one(s.ada.caller, "calculate_task_cost", args{"tool_id": "image-generation", "input": args{"prompt": "a"}}), "value", 1.0)
	created := s.one(s.ada.caller, "create_task", image(s.ada.project, args{"input": args{"prompt": "a", "shot_id": s.ada.shot, "extra": []any{1, nil}}}))
	s.want(created, "status", "Queued")
	s.want(created, "task_type", "single_image")
	s.want(created, "cost", 1.0)
	s.want(created, "owner_id", s.ada.id)
	s.want(s.one(s.ada.caller, "get_task", args{"task_id": created["id"]}), "status", "Queued")

	s.register()
	claimed := s.claim()
	s.want(claimed, "id", created["id"])
	s.want(claimed, "status", "In Progress")
	s.want(claimed, "attempt", 1.0)
	s.credits(s.ada, 100, 1)
	s.none(machine, "claim_next_task", args{"worker_id": "gpu-1"})
	s.none(machine, "report_progress", hold(claimed, args{"progress": args{"percent": 5}}))
	s.none(machine, "heartbeat_worker", args{"worker_id": "gpu-1", "running": []args{{"task_id": claimed["id"], "attempt": 1, "progress": args{"percent": 50}}}})
	done := s.one(machine, "complete_task", hold(claimed, args{"output_location": out, "thumbnail_url": out + ".thumb", "metadata": args{"seed": 7}}))
	s.want(done, "status", "Complete")
	s.want(done, "generation_created", true)

	s.want(s.one(s.ada.caller, "get_task", args{"task_id": created["id"]}), "output_location", out)
	for _, with := range []args{{"project_id": s.ada.project}, {"project_id": s.ada.project, "shot_id": s.ada.shot, "max_rows": 1}} {
		made := s.one(s.ada.caller, "list_generations", with)
		s.want(made, "location", out)
		s.want(made, "source_task_id", created["id"])
	}
	s.credits(s.ada, 99, 0)
}

// code is that of the first reason of an explanation.
func (s *script) code(explanation row, want string) {
	s.t.Helper()
	reasons, _ := explanation["reasons"].([]any)
	got := ""
	if len(reasons) > 0 {
		first, _ := reasons[0].(map[string]any)
		got, _ = first["code"].(string)
	}
	if got != want {
		s.t.Fatalf("the reason is %q, want %q: %v", got, want, explanation)
	}
}

func explained(s *script) {
	s.none(s.ada.caller, "list_workers", nil)
	task := s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	this := args{"task_id": task["id"]}
	s.code(s.one(s.ada.caller, "explain_task", this), "no_worker")
	s.register()
	next := s.one(s.ada.caller, "explain_task", this)
	s.code(next, "")
	s.want(next, "runnable", true)
	s.want(next, "queue_position", 1.0)
	s.refused(s.ada.caller, "retry_task", this, taskdb.ErrNothingToRetry)

	claimed := s.claim()
	s.want(s.one(s.ada.caller, "list_workers", nil), "alive", true)
	s.one(s.bob.caller, "list_workers", nil) // what runs there is not bob's
	s.one(service, "list_workers", nil)
	s.one(machine, "fail_task", hold(claimed, args{"error_message": "no"}))
	s.code(s.one(s.ada.caller, "explain_task", this), "failed")
	s.code(s.one(service, "explain_task", this), "failed")
	s.refused(s.bob.caller, "explain_task", this, taskdb.ErrTaskNotFound)
	s.refused(s.bob.caller, "retry_task", this, taskdb.ErrTaskNotFound)

	again := s.one(s.ada.caller, "retry_task", args{"task_id": task["id"], "idempotency_key": "again"})
	s.want(again, "status", "Queued")
	repeated := s.one(s.ada.caller, "retry_task", args{"task_id": task["id"], "idempotency_key": "again"})
	s.want(repeated, "id", again["id"])
	s.want(s.claim(), "id", again["id"])
}

func prices(s *script) {
	for _, who := range []caller{s.ada.caller, nobody, service, machine} {
		s.want(s.one(who, "calculate_task_cost", args{"task_type": "single_image", "params": args{"prompt": "a"}}), "value", 1.0)
	}
	travel := args{"orchestrator_details": args{"num_new_segments_to_generate": 3}}
	s.want(s.one(nobody, "calculate_task_cost", args{"tool_id": "travel-between-images", "input": travel}), "value", 15.0)
	s.refused(nobody, "calculate_task_cost", args{"tool_id": "unknown", "input": args{}}, taskdb.ErrUnknownType)
	s.refused(nobody, "calculate_task_cost", args{"tool_id": "image-generation", "input": args{}}, taskdb.ErrMissingFields)
	s.refused(nobody, "calculate_task_cost", args{"task_type": "travel_orchestrator", "params": args{"orchestrator_details": args{"num_new_segments_to_generate": -1}}}, taskdb.ErrInvalidParams)
	s.refused(nobody, "calculate_task_cost", args{}, taskdb.ErrMissingFields)
}

func insufficientCredits(s *script) {
	s.refused(s.cleo.caller, "create_task", image(s.cleo.project, nil), taskdb.ErrInsufficientCredits)
	s.one(service, "grant_credits", args{"user_id": s.cleo.id, "amount": 0.5})
	s.refused(s.cleo.caller, "create_task", image(s.cleo.project, nil), taskdb.ErrInsufficientCredits)
	s.one(service, "grant_credits", args{"user_id": s.cleo.id, "amount": 0.5})
	s.one(s.cleo.caller, "create_task", image(s.cleo.project, nil))
	s.register()
	s.claim()
	s.credits(s.cleo, 1, 1)
	s.refused(s.cleo.caller, "create_task", image(s.cleo.project, nil), taskdb.ErrInsufficientCredits)
}

func badTasks(s *script) {
	create := func(with args, want *taskdb.Error) {
		s.t.Helper()
		s.refused(s.ada.caller, "create_task", with, want)
	}
	create(image(s.ada.project, args{"tool_id": "unknown"}), taskdb.ErrUnknownType)
	create(args{"project_id": s.ada.project, "task_type": "unknown", "params": args{}}, taskdb.ErrUnknownType)
	create(args{"project_id": s.ada.project, "tool_id": "image-generation"}, taskdb.ErrMissingFields)
	create(args{"project_id": s.ada.project, "input": args{"prompt": "a"}}, taskdb.ErrMissingFields)
	create(image(s.ada.project, args{"input": []args{}}), taskdb.ErrMissingFields)
	create(image(s.ada.project, args{"input": args{"prompt": ""}}), taskdb.ErrMissingFields)
	create(image(s.ada.project, args{"project_id": nil}), taskdb.ErrMissingFields)
	create(image(s.ada.project, args{"idempotency_key": strings.Repeat("k", 201)}), taskdb.ErrMissingFields)
	create(image(s.ada.project, args{"input": args{"prompt": strings.Repeat("a", 1<<20)}}), taskdb.ErrParamsTooLarge)
	deep := args{"prompt": "a"}
	for range 33 {
		deep = args{"prompt": "a", "deeper": deep}
	}
	create(image(s.ada.project, args{"input": deep}), taskdb.ErrParamsTooLarge)
	create(image(s.ada.project, args{"dependant_on": []string{s.ada.shot}}), taskdb.ErrInvalidDependency)
	create(image(s.ada.project, args{"input": args{"prompt": "a", "orchestrator_task_id_ref": s.ada.shot}}), taskdb.ErrInvalidDependency)
}

// unknown is an id of nothing.
const unknown = "00000000-0000-4000-8000-000000000000"

func notFound(s *script) {
	s.refused(s.ada.caller, "create_task", image(unknown, nil), taskdb.ErrProjectNotFound)
	s.refused(s.ada.caller, "create_shot", args{"project_id": unknown, "name": "a"}, taskdb.ErrProjectNotFound)
	s.refused(s.ada.caller, "list_generations", args{"project_id": unknown}, taskdb.ErrProjectNotFound)
	s.refused(s.ada.caller, "get_task", args{"task_id": unknown}, taskdb.ErrTaskNotFound)
	s.refused(s.ada.caller, "cancel_task", args{"task_id": unknown}, taskdb.ErrTaskNotFound)
	s.refused(s.ada.caller, "revoke_access_token", args{"token_id": unknown}, taskdb.ErrTokenNotFound)
	s.refused(service, "get_credits", args{"user_id": unknown}, taskdb.ErrUserNotFound)
	s.refused(service, "grant_credits", args{"user_id": unknown, "amount": 1}, taskdb.ErrUserNotFound)
	s.refused(service, "create_project", args{"user_id": unknown, "name": "a"}, taskdb.ErrUserNotFound)
	s.refused(machine, "claim_next_task", args{"worker_id": neverRegistered}, taskdb.ErrUnknownWorker)
	s.refused(machine, "claim_next_tasks", args{"worker_id": neverRegistered, "max_tasks": 2}, taskdb.ErrUnknownWorker)
	s.refused(machine, "heartbeat_worker", args{"worker_id": neverRegistered}, taskdb.ErrUnknownWorker)
	s.register()
	none := row{"id": unknown, "worker_id": "gpu-1", "attempt": 1}
	s.refused(machine, "complete_task", hold(none, args{"output_location": out}), taskdb.ErrTaskNotFound)
	s.refused(machine, "process_completed_task", hold(none, args{"output": args{"output_location": out}}), taskdb.ErrTaskNotFound)
	s.refused(machine, "fail_task", hold(none, args{"error_message": "a"}), taskdb.ErrTaskNotFound)
	s.refused(machine, "release_task", hold(none, nil), taskdb.ErrTaskNotFound)
	s.refused(machine, "report_progress", hold(none, args{"progress": args{}}), taskdb.ErrTaskNotFound)
	s.refused(machine, "expand_travel_orchestrator", hold(none, nil), taskdb.ErrTaskNotFound)
	s.refused(machine, "get_dependency_outputs", args{"task_id": unknown}, taskdb.ErrTaskNotFound)
	s.one(machine, "heartbeat_worker", args{"worker_id": "gpu-1", "running": []args{{"task_id": unknown, "attempt": 1}}})
}

func idempotency(s *script) {
	const id = "11111111-1111-4111-8111-111111111111"
	first := s.one(s.ada.caller, "create_task", image(s.ada.project, args{"task_id": id, "idempotency_key": "k"}))
	s.want(s.one(s.ada.caller, "create_task", image(s.ada.project, args{"task_id": id, "idempotency_key": "k"})), "job_no", first["job_no"])
	s.want(s.one(s.ada.caller, "create_task", image(s.ada.project, args{"idempotency_key": "k"})), "id", id)
	other := args{"prompt": "another"}
	s.refused(s.ada.caller, "create_task", image(s.ada.project, args{"task_id": id, "idempotency_key": "k", "input": other}), taskdb.ErrConflict)
	s.refused(s.ada.caller, "create_task", image(s.ada.project, args{"idempotency_key": "k", "input": other}), taskdb.ErrConflict)
	s.refused(s.bob.caller, "create_task", image(s.bob.project, args{"task_id": id, "idempotency_key": "k"}), taskdb.ErrConflict)
	if bobs := s.one(s.bob.caller, "create_task", image(s.bob.project, args{"idempotency_key": "k"})); bobs["id"] == id {
		s.t.Fatal("Bob's key found Ada's task")
	}

	grant := args{"user_id": s.ada.id, "amount": 2.5, "idempotency_key": "payment-1", "note": "thanks"}
	s.want(s.one(service, "grant_credits", grant), "balance_after", 102.5)
	s.want(s.one(service, "grant_credits", grant), "balance_after", 102.5)
	grant["amount"] = 3
	s.refused(service, "grant_credits", grant, taskdb.ErrConflict)
	s.credits(s.ada, 102.5, 0)
}

func cancel(s *script) {
	s.register()
	queued := s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	for range 2 { // a repeat answers as before
		s.want(s.one(s.ada.caller, "cancel_task", args{"task_id": queued["id"], "reason": "changed my mind"}), "status", "Cancelled")
	}
	s.none(machine, "claim_next_task", args{"worker_id": "gpu-1"})

	s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	running := s.claim()
	s.want(s.one(s.ada.caller, "cancel_task", args{"task_id": running["id"]}), "status", "Cancelled")
	s.credits(s.ada, 100, 0)
	verdict := s.one(machine, "heartbeat_worker", args{"worker_id": "gpu-1", "running": []args{{"task_id": running["id"], "attempt": 1}}})
	s.want(verdict, "verdict", "cancelled")
	s.refused(machine, "complete_task", hold(running, args{"output_location": out}), taskdb.ErrTaskEnded)
	s.refused(machine, "fail_task", hold(running, args{"error_message": "stopped"}), taskdb.ErrTaskEnded)
	s.refused(machine, "report_progress", hold(running, args{"progress": args{}}), taskdb.ErrTaskEnded)

	s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	done := s.claim()
	s.one(machine, "complete_task", hold(done, args{"output_location": out}))
	s.refused(s.ada.caller, "cancel_task", args{"task_id": done["id"]}, taskdb.ErrTaskEnded)
}

func claims(s *script) {
	travel := args{"project_id": s.bob.project, "tool_id": "travel-between-images", "input": args{"orchestrator_details": args{"num_new_segments_to_generate": 1}}}
	first := s.one(s.bob.caller, "create_task", travel)
	second := s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	third := s.one(s.bob.caller, "create_task", image(s.bob.project, nil))
	s.one(machine, "register_worker", args{"worker_id": "pictures"})
	s.one(machine, "register_worker", args{"worker_id": "films", "capabilities": []string{"wan2gp"}, "task_types": []string{"travel_orchestrator"}})
	s.want(s.one(machine, "claim_next_task", args{"worker_id": "pictures"}), "id", second["id"])
	s.want(s.one(machine, "claim_next_task", args{"worker_id": "pictures"}), "id", third["id"])
	s.none(machine, "claim_next_task", args{"worker_id": "pictures"})
	s.none(machine, "claim_next_tasks", args{"worker_id": "films", "max_tasks": 5, "task_types": []string{"single_image"}})
	s.want(s.one(machine, "claim_next_tasks", args{"worker_id": "films", "max_tasks": 5}), "id", first["id"])
	s.refused(machine, "claim_next_tasks", args{"worker_id": "films", "max_tasks": 0}, taskdb.ErrInvalidParams)
	s.refused(machine, "register_worker", args{"worker_id": "films", "task_types": []string{"unknown"}}, taskdb.ErrUnknownType)
	s.refused(machine, "register_worker", args{"worker_id": "films", "lease_timeout": "1ms"}, taskdb.ErrInvalidParams)

	// Nobody's poverty is in the way of others: Cleo's older task waits until she can pay it.
	s.one(service, "grant_credits", args{"user_id": s.cleo.id, "amount": 1})
	poor := s.one(s.cleo.caller, "create_task", image(s.cleo.project, nil))
	poorer := s.one(s.cleo.caller, "create_task", image(s.cleo.project, nil))
	rich := s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	s.want(s.one(machine, "claim_next_task", args{"worker_id": "pictures"}), "id", poor["id"])
	s.want(s.one(machine, "claim_next_task", args{"worker_id": "pictures"}), "id", rich["id"])
	s.none(machine, "claim_next_task", args{"worker_id": "pictures"})
	s.one(service, "grant_credits", args{"user_id": s.cleo.id, "amount": 1})
	s.want(s.one(machine, "claim_next_task", args{"worker_id": "pictures"}), "id", poorer["id"])
}

func completion(s *script) {
	s.register()
	task := s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	first := s.claim()
	s.refused(machine, "complete_task", hold(first, args{"output_location": ""}), taskdb.ErrMissingOutput)
	s.refused(machine, "complete_task", hold(first, args{"output_location": out, "metadata": []args{}}), taskdb.ErrInvalidParams)
	s.refused(machine, "process_completed_task", hold(first, args{"output": []args{}}), taskdb.ErrMissingFields)

	// Its lease runs out, and another worker gets it.
	s.admin("update tasks set claimed_at = claimed_at - interval '1 hour'")
	s.admin("update workers set last_heartbeat = last_heartbeat - interval '1 hour'")
	s.admin("update darkroom.lease_watch set last_run = clock_timestamp(), resumed_at = clock_timestamp() - interval '1 hour'")
	s.want(s.one(machine, "requeue_expired_tasks", args{"max_tasks": 10}), "id", task["id"])
	s.one(machine, "register_worker", args{"worker_id": "gpu-2"})
	second := s.one(machine, "claim_next_task", args{"worker_id": "gpu-2"})
	s.want(second, "attempt", 2.0)
	s.refused(machine, "complete_task", hold(first, args{"output_location": out + "?late"}), taskdb.ErrLeaseLost)
	s.refused(machine, "fail_task", hold(first, args{"error_message": "could not complete"}), taskdb.ErrLeaseLost)
	s.refused(machine, "report_progress", hold(first, args{"progress": args{"percent": 99}}), taskdb.ErrLeaseLost)
	s.refused(machine, "release_task", hold(first, nil), taskdb.ErrLeaseLost)
	s.want(s.one(machine, "heartbeat_worker", args{"worker_id": "gpu-1", "running": []args{{"task_id": task["id"], "attempt": 1}}}), "verdict", "lost")

	for range 2 {
		s.want(s.one(machine, "complete_task", hold(second, args{"output_location": out})), "output_location", out)
	}
	s.want(s.one(machine, "complete_task", args{"task_id": task["id"], "output_location": out}), "status", "Complete")
	s.refused(machine, "complete_task", args{"task_id": task["id"], "output_location": out + "?other"}, taskdb.ErrTaskEnded)
	s.refused(machine, "complete_task", hold(first, args{"output_location": out}), taskdb.ErrLeaseLost)
	s.refused(machine, "fail_task", hold(second, args{"error_message": "too late"}), taskdb.ErrTaskEnded)
	s.one(s.ada.caller, "list_generations", args{"project_id": s.ada.project})
	s.credits(s.ada, 99, 0)

	// The spec's form.
	s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	third := s.claim()
	for range 2 {
		got := s.one(machine, "process_completed_task", hold(third, args{"output": args{"output_location": out, "metadata": args{"seed": 1}}}))
		s.want(got, "status", "Complete")
	}
}

func failure(s *script) {
	s.register()
	for _, with := range []args{{"error_message": "out of memory"}, {"error_message": "out of memory", "retryable": false}} {
		s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
		task := s.claim()
		for range 2 {
			s.want(s.one(machine, "fail_task", hold(task, with)), "error_message", "out of memory")
		}
		s.refused(machine, "complete_task", hold(task, args{"output_location": out}), taskdb.ErrTaskEnded)
	}
	s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	task := s.claim()
	s.want(s.one(machine, "process_completed_task", args{"task_id": task["id"], "output": args{"success": false, "error_message": "out of paper"}}), "status", "Failed")
	s.credits(s.ada, 100, 0)
	s.none(s.ada.caller, "list_generations", args{"project_id": s.ada.project})
}

func retries(s *script) {
	s.register()
	task := s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	for attempt := 1.0; attempt <= 3; attempt++ {
		held := s.claim()
		s.want(held, "attempt", attempt)
		got := s.one(machine, "fail_task", hold(held, args{"error_message": "a hiccup", "retryable": true, "retry_delay": "30s"}))
		s.want(got, "failed_attempts", attempt)
		s.credits(s.ada, 100, 0)
		if attempt == 3 {
			s.want(got, "status", "Failed")
			break
		}
		s.want(got, "status", "Queued")
		s.none(machine, "claim_next_task", args{"worker_id": "gpu-1"})
		s.admin("update tasks set run_after = clock_timestamp(); update darkroom.task_delayed set run_after = clock_timestamp()")
		s.want(s.one(machine, "admit_due_tasks", args{"max_tasks": 10}), "value", 1.0)
	}
	s.want(s.one(s.ada.caller, "get_task", args{"task_id": task["id"]}), "status", "Failed")
}

func release(s *script) {
	s.register()
	task := s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	got := s.one(machine, "release_task", hold(s.claim(), args{"reason": "shutting down"}))
	s.want(got, "status", "Queued")
	s.want(got, "failed_attempts", 0.0)
	again := s.claim()
	s.want(again, "id", task["id"])
	// A worker that starts anew has lost what it held.
	s.register()
	s.refused(machine, "complete_task", hold(again, args{"output_location": out}), taskdb.ErrLeaseLost)
	s.want(s.claim(), "attempt", 3.0)
}

func travel(s *script) {
	s.register()
	details := args{
		"num_new_segments_to_generate": 2, "input_image_paths_resolved": []string{out + "?1", out + "?2", out + "?3"}, "shot_id": s.ada.shot,
		"base_prompts_expanded": []string{"to the sea", "to the hills"}, "seed_base": 5,
	}
	s.refused(s.ada.caller, "create_task", args{"project_id": s.ada.project, "tool_id": "travel-between-images", "input": args{}}, taskdb.ErrMissingFields)
	whole := s.one(s.ada.caller, "create_task", args{"project_id": s.ada.project, "tool_id": "travel-between-images", "input": args{"orchestrator_details": details}})
	s.want(whole, "cost", 10.0)
	orchestrator := s.claim()
	s.want(orchestrator, "id", whole["id"])
	for range 2 { // a repeat answers the same children
		if children := s.do(machine, "expand_travel_orchestrator", hold(orchestrator, nil)); len(children) != 3 {
			s.t.Fatalf("children: %v", children)
		}
	}
	s.refused(s.ada.caller, "create_task", args{"project_id": s.ada.project, "task_type": "travel_segment", "params": args{"orchestrator_task_id_ref": whole["id"]}}, taskdb.ErrNotAllowed)
	for range 2 {
		segment := s.claim()
		s.want(segment, "task_type", "travel_segment")
		s.one(machine, "complete_task", hold(segment, args{"output_location": out}))
	}
	stitch := s.claim()
	s.want(stitch, "task_type", "travel_stitch")
	if inputs := s.do(machine, "get_dependency_outputs", args{"task_id": stitch["id"]}); len(inputs) != 2 || inputs[1]["output_location"] != out {
		s.t.Fatalf("inputs: %v", inputs)
	}
	s.credits(s.ada, 100, 10)
	s.one(machine, "complete_task", hold(stitch, args{"output_location": out + ".mp4"}))
	s.want(s.one(s.ada.caller, "get_task", args{"task_id": whole["id"]}), "status", "Complete")
	s.want(s.one(s.ada.caller, "list_generations", args{"project_id": s.ada.project, "shot_id": s.ada.shot}), "type", "video")
	s.credits(s.ada, 90, 0)
	s.refused(machine, "create_task", args{"project_id": s.ada.project, "task_type": "travel_segment", "params": args{"orchestrator_task_id_ref": whole["id"]}}, taskdb.ErrTaskEnded)

	s.one(s.ada.caller, "create_task", args{"project_id": s.ada.project, "tool_id": "travel-between-images", "input": args{"orchestrator_details": args{"num_new_segments_to_generate": 2}}})
	s.refused(machine, "expand_travel_orchestrator", hold(s.claim(), nil), taskdb.ErrInvalidParams)
}

func dependencies(s *script) {
	s.register()
	first := s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	second := s.one(s.ada.caller, "create_task", image(s.ada.project, args{"dependant_on": []any{first["id"]}}))
	third := s.one(s.ada.caller, "create_task", image(s.ada.project, args{"dependant_on": []any{first["id"], second["id"]}}))
	held := s.claim()
	s.none(machine, "claim_next_task", args{"worker_id": "gpu-1"})
	s.one(machine, "complete_task", hold(held, args{"output_location": out}))
	held = s.claim()
	s.want(held, "id", second["id"])
	s.one(machine, "fail_task", hold(held, args{"error_message": "no light"}))
	s.want(s.one(s.ada.caller, "get_task", args{"task_id": third["id"]}), "status", "Failed")
	s.refused(s.bob.caller, "create_task", image(s.bob.project, args{"dependant_on": []any{first["id"]}}), taskdb.ErrInvalidDependency)
}

func batches(s *script) {
	const first, second = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	tasks := []args{
		image(s.ada.project, args{"task_id": first}),
		image(s.ada.project, args{"task_id": second, "dependant_on": []string{first}}),
		{"project_id": s.ada.project, "task_type": "single_image", "params": args{"prompt": "a"}, "idempotency_key": "third"},
	}
	for range 2 {
		if made := s.do(s.ada.caller, "create_tasks", args{"tasks": tasks}); len(made) != 3 || made[1]["id"] != second {
			s.t.Fatalf("made %v", made)
		}
	}
	s.none(s.ada.caller, "create_tasks", args{"tasks": []args{}})
	s.refused(s.ada.caller, "create_tasks", args{"tasks": []args{image(s.ada.project, args{"task_id": unknown}), image(s.bob.project, nil)}}, taskdb.ErrProjectNotFound)
	s.refused(s.ada.caller, "get_task", args{"task_id": unknown}, taskdb.ErrTaskNotFound) // none of them was made

	s.register()
	held := s.do(machine, "claim_next_tasks", args{"worker_id": "gpu-1", "max_tasks": 5})
	if len(held) != 2 {
		s.t.Fatalf("claimed %v", held)
	}
	completions := []args{
		{"task_id": held[0]["id"], "attempt": 1, "output_location": out, "metadata": args{"seed": 3}},
		{"task_id": unknown, "attempt": 1, "output_location": out},
		{"task_id": held[1]["id"], "attempt": 2, "output_location": out},
		{"task_id": held[1]["id"], "attempt": 1},
		{"task_id": held[1]["id"], "attempt": 1, "output_location": out},
	}
	results := s.do(machine, "complete_tasks", args{"worker_id": "gpu-1", "completions": completions})
	for i, want := range []any{nil, "TD021", "TD031", "TD006", nil} {
		s.want(results[i], "error_code", want)
	}
	s.none(machine, "complete_tasks", args{"worker_id": "gpu-1", "completions": []args{}})
}
