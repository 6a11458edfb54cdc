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

func gallery(s *script) {
	project := s.one(s.ada.caller, "create_project", args{"name": "holidays"})
	s.want(project, "owner_id", s.ada.id)
	s.want(s.one(service, "create_project", args{"user_id": s.ada.id, "name": "by the service"}), "owner_id", s.ada.id)
	shot := s.one(s.ada.caller, "create_shot", args{"project_id": project["id"], "name": "the sea"})
	s.none(s.ada.caller, "list_generations", args{"project_id": project["id"]})
	s.refused(s.ada.caller, "list_generations", args{"project_id": project["id"], "max_rows": 0}, taskdb.ErrInvalidParams)
	s.refused(s.ada.caller, "list_generations", args{"project_id": project["id"], "max_rows": 1001}, taskdb.ErrInvalidParams)

	s.register()
	var newest row
	for _, shotID := range []any{shot["id"], s.bob.shot, "no shot at all"} { // a shot that is not of the project makes no link
		s.one(s.ada.caller, "create_task", image("", args{"project_id": project["id"], "input": args{"prompt": "a", "shot_id": shotID}}))
		newest = s.one(machine, "complete_task", hold(s.claim(), args{"output_location": out}))
	}
	all := s.do(s.ada.caller, "list_generations", args{"project_id": project["id"]})
	if len(all) != 3 || all[0]["source_task_id"] != newest["id"] {
		s.t.Fatalf("gallery: %v", all)
	}
	s.one(s.ada.caller, "list_generations", args{"project_id": project["id"], "shot_id": shot["id"]})
	if older := s.do(s.ada.caller, "list_generations", args{"project_id": project["id"], "older_than": all[0]["created_at"]}); len(older) != 2 {
		s.t.Fatalf("older: %v", older)
	}
}

func accounts(s *script) {
	const id = "33333333-3333-4333-8333-333333333333"
	for range 2 {
		s.want(s.one(service, "create_user", args{"user_id": id, "email": "dora@example.com"}), "email", "dora@example.com")
	}
	s.want(s.one(service, "get_credits", args{"user_id": id}), "available", 0.0)
	for _, amount := range []float64{0, -1, 1e9} {
		s.refused(service, "grant_credits", args{"user_id": id, "amount": amount}, taskdb.ErrInvalidAmount)
	}
	s.want(s.one(service, "grant_credits", args{"user_id": id, "amount": 0.125, "note": "a coin"}), "balance_after", 0.125)
	s.want(s.one(service, "get_credits", args{"user_id": id}), "available", 0.125)
	s.want(s.one(s.ada.caller, "get_credits", args{"user_id": s.ada.id}), "available", 100.0)
	s.refused(service, "get_credits", nil, taskdb.ErrUserNotFound) // of nobody
}

func strangers(s *script) {
	s.register()
	task := s.one(s.ada.caller, "create_task", image(s.ada.project, args{"idempotency_key": "k"}))
	token := s.one(s.ada.caller, "create_access_token", args{"scope": "worker"})
	bob := s.bob.caller
	s.refused(bob, "get_task", args{"task_id": task["id"]}, taskdb.ErrTaskNotFound)
	s.refused(bob, "cancel_task", args{"task_id": task["id"]}, taskdb.ErrTaskNotFound)
	s.refused(bob, "create_task", image(s.ada.project, nil), taskdb.ErrProjectNotFound)
	s.refused(bob, "create_task", image(s.ada.project, args{"idempotency_key": "k"}), taskdb.ErrProjectNotFound)
	s.refused(bob, "create_tasks", args{"tasks": []args{image(s.ada.project, nil)}}, taskdb.ErrProjectNotFound)
	s.refused(bob, "create_shot", args{"project_id": s.ada.project, "name": "mine now"}, taskdb.ErrProjectNotFound)
	s.refused(bob, "list_generations", args{"project_id": s.ada.project}, taskdb.ErrProjectNotFound)
	s.none(bob, "list_generations", args{"project_id": s.bob.project, "shot_id": s.ada.shot})
	s.refused(bob, "get_credits", args{"user_id": s.ada.id}, taskdb.ErrUserNotFound)
	s.refused(bob, "create_project", args{"user_id": s.ada.id, "name": "mine now"}, taskdb.ErrUserNotFound)
	s.refused(bob, "create_access_token", args{"scope": "worker", "user_id": s.ada.id}, taskdb.ErrUserNotFound)
	s.none(bob, "list_access_tokens", args{"user_id": s.ada.id})
	s.refused(bob, "revoke_access_token", args{"token_id": token["id"]}, taskdb.ErrTokenNotFound)
	s.want(s.one(s.ada.caller, "get_task", args{"task_id": task["id"]}), "status", "Queued")
	s.credits(s.ada, 100, 0)
}

func forbidden(s *script) {
	task := s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	held := row{"id": task["id"], "worker_id": "gpu-1", "attempt": 1}
	gpu := s.tokenOf("a worker's token", "worker", s.ada.id)
	for _, c := range []struct {
		function string
		with     args
		who      []caller
	}{
		{"create_task", image(s.ada.project, nil), []caller{nobody}},
		{"create_tasks", args{"tasks": []args{}}, []caller{nobody}},
		{"get_task", args{"task_id": task["id"]}, []caller{nobody, gpu}},
		{"cancel_task", args{"task_id": task["id"]}, []caller{nobody}},
		{"list_generations", args{"project_id": s.ada.project}, []caller{nobody, gpu}},
		{"create_project", args{"name": "a"}, []caller{nobody, gpu}},
		{"create_shot", args{"project_id": s.ada.project, "name": "a"}, []caller{nobody, gpu}},
		{"get_credits", nil, []caller{nobody, gpu}},
		{"create_access_token", args{"scope": "user"}, []caller{nobody, gpu}},
		{"list_access_tokens", nil, []caller{nobody, gpu}},
		{"revoke_access_token", args{"token_id": unknown}, []caller{nobody, gpu}},
		{"grant_credits", args{"user_id": s.ada.id, "amount": 1}, []caller{nobody, s.ada.caller, gpu}},
		{"create_user", args{"user_id": unknown}, []caller{nobody, s.ada.caller, gpu}},
		{"register_worker", args{"worker_id": "gpu-1"}, []caller{nobody, s.ada.caller}},
		{"claim_next_task", args{"worker_id": "gpu-1"}, []caller{nobody, s.ada.caller}},
		{"claim_next_tasks", args{"worker_id": "gpu-1", "max_tasks": 1}, []caller{nobody, s.ada.caller}},
		{"heartbeat_worker", args{"worker_id": "gpu-1"}, []caller{nobody, s.ada.caller}},
		{"report_progress", hold(held, args{"progress": args{}}), []caller{nobody, s.ada.caller}},
		{"complete_task", hold(held, args{"output_location": out}), []caller{nobody, s.ada.caller}},
		{"complete_tasks", args{"worker_id": "gpu-1", "completions": []args{}}, []caller{nobody, s.ada.caller}},
		{"process_completed_task", hold(held, args{"output": args{"output_location": out}}), []caller{nobody, s.ada.caller}},
		{"fail_task", hold(held, args{"error_message": "a"}), []caller{nobody, s.ada.caller}},
		{"release_task", hold(held, nil), []caller{nobody, s.ada.caller}},
		{"get_dependency_outputs", args{"task_id": task["id"]}, []caller{nobody, s.ada.caller}},
		{"expand_travel_orchestrator", hold(held, nil), []caller{nobody, s.ada.caller}},
		{"requeue_expired_tasks", args{"max_tasks": 1}, []caller{nobody, s.ada.caller}},
		{"admit_due_tasks", args{"max_tasks": 1}, []caller{nobody, s.ada.caller}},
		{"sweep_tasks", args{"max_tasks": 1}, []caller{nobody, s.ada.caller}},
		{"tick_ready_mark", args{"whole": true}, []caller{nobody, s.ada.caller}},
		{"orphaned_outputs", args{"folders": []string{}}, []caller{nobody, s.ada.caller}},
		{"arm_event_bell", nil, []caller{nobody, s.ada.caller}},
		{"due_erasures", nil, []caller{nobody, s.ada.caller}},
		{"mark_erasure_swept", args{"user_id": s.ada.id}, []caller{nobody, s.ada.caller}},
		{"purge_expired", nil, []caller{nobody, s.ada.caller}},
		{"erase_user", args{"user_id": s.ada.id}, []caller{nobody, s.ada.caller, gpu}},
		{"list_audit", nil, []caller{nobody, s.ada.caller, gpu}},
		{"set_queue_limit", args{"max_queued": 1}, []caller{nobody, s.ada.caller, gpu}},
		{"admit_tasks", args{"user_id": s.ada.id}, []caller{nobody, s.ada.caller, gpu}},
		{"repair_generations", args{"max_tasks": 1}, []caller{nobody, s.ada.caller, gpu}},
	} {
		for _, who := range c.who {
			s.refused(who, c.function, c.with, &taskdb.Error{Code: "42501", Message: "permission denied for function " + c.function})
		}
	}
	s.want(s.one(s.ada.caller, "get_task", args{"task_id": task["id"]}), "status", "Queued")
	s.credits(s.ada, 100, 0)
}

func workerTokens(s *script) {
	gpu, bobs, everybodys := s.tokenOf("ada's gpu", "worker", s.ada.id), s.tokenOf("bob's gpu", "worker", s.bob.id), s.tokenOf("any gpu", "worker", "")
	for _, who := range []caller{gpu, bobs, everybodys} {
		s.one(who, "register_worker", args{"worker_id": "gpu", "capabilities": []string{"wan2gp"}}) // each has its own worker of this name
		s.none(who, "claim_next_task", args{"worker_id": "gpu"})
	}
	task := s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	s.none(bobs, "claim_next_task", args{"worker_id": "gpu"})
	held := s.one(gpu, "claim_next_task", args{"worker_id": "gpu"})
	s.want(held, "id", task["id"])
	s.none(everybodys, "claim_next_task", args{"worker_id": "gpu"})
	with := func(more args) args {
		return hold(row{"id": held["id"], "worker_id": "gpu", "attempt": 1}, more)
	}
	s.none(gpu, "report_progress", with(args{"progress": args{"percent": 1}}))
	for _, end := range []struct {
		function string
		with     args
	}{
		{"complete_task", with(args{"output_location": out})},
		{"fail_task", with(args{"error_message": "a"})},
		{"release_task", with(nil)},
		{"process_completed_task", with(args{"output": args{"output_location": out}})},
		{"report_progress", with(args{"progress": args{}})},
	} {
		s.refused(bobs, end.function, end.with, taskdb.ErrTaskNotFound)
		s.refused(everybodys, end.function, end.with, taskdb.ErrLeaseLost)
	}
	s.refused(everybodys, "complete_task", args{"task_id": held["id"], "output_location": out}, taskdb.ErrLeaseLost)
	s.refused(everybodys, "cancel_task", args{"task_id": held["id"]}, taskdb.ErrTaskNotFound)
	s.refused(bobs, "get_dependency_outputs", args{"task_id": held["id"]}, taskdb.ErrTaskNotFound)
	s.refused(gpu, "create_task", image(s.ada.project, nil), taskdb.ErrNotAllowed)
	files := "https://darkroom.example.com/storage/v1/object/public/image_uploads/"
	s.refused(gpu, "complete_task", with(args{"output_location": files + s.bob.id + "/a.png"}), taskdb.ErrNotAllowed)
	// The fence as the claim gave it, and by the name that the worker gave itself.
	if s.part { // that door's claim has told the name
		held["worker_id"] = "gpu"
	}
	s.none(gpu, "report_progress", hold(held, args{"progress": args{"percent": 2}}))
	for range 2 {
		s.want(s.one(gpu, "complete_task", with(args{"output_location": files + s.ada.id + "/a.png"})), "status", "Complete")
	}
	for function, with := range map[string]args{"requeue_expired_tasks": {"max_tasks": 1}} {
		s.refused(gpu, function, with, taskdb.ErrNotAllowed)
	}

	// In the tree of an orchestrator that it runs a worker makes tasks.
	whole := args{"project_id": s.ada.project, "tool_id": "travel-between-images", "input": args{"orchestrator_details": args{"num_new_segments_to_generate": 1}}}
	orchestrator := s.one(s.ada.caller, "create_task", whole)
	child := args{"project_id": s.ada.project, "task_type": "travel_segment", "params": args{"orchestrator_task_id_ref": orchestrator["id"]}}
	s.refused(gpu, "create_task", child, taskdb.ErrTaskEnded)
	s.one(gpu, "claim_next_task", args{"worker_id": "gpu"})
	s.want(s.one(gpu, "create_task", child), "cost", 0.0)
	s.refused(everybodys, "create_task", child, taskdb.ErrNotAllowed)
	s.refused(bobs, "create_task", child, taskdb.ErrProjectNotFound)
}

func silentWorkers(s *script) {
	gpu, bobs := s.tokenOf("ada's gpu", "worker", s.ada.id), s.tokenOf("bob's gpu", "worker", s.bob.id)
	s.none(gpu, "claim_for_silent_worker", args{"worker_id": "gpu"})
	first := s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	second := s.one(s.ada.caller, "create_task", image(s.ada.project, args{"dependant_on": []any{first["id"]}}))
	s.one(gpu, "task_counts", nil)
	s.one(bobs, "task_counts", nil)
	s.none(bobs, "claim_for_silent_worker", args{"worker_id": "gpu"})
	s.want(s.one(gpu, "claim_for_silent_worker", args{"worker_id": "gpu"}), "id", first["id"])
	s.one(gpu, "func_worker_heartbeat_with_logs", args{"worker_id_param": "gpu", "vram_total_mb_param": 24000, "vram_used_mb_param": 100.5, "status_param": "active"})
	s.one(gpu, "update_worker_model", args{"worker_id": "gpu", "model": "a model"})
	s.one(gpu, "get_task_status", args{"task_id": first["id"]})
	s.one(gpu, "check_completion", args{"task_id": first["id"], "storage_paths": []string{}})
	for _, c := range []struct {
		function string
		with     args
	}{
		{"check_completion", args{"task_id": first["id"], "storage_paths": []string{}}},
		{"update_task_status", args{"task_id": first["id"], "status": "Failed", "error_details": "a"}},
		{"get_task_status", args{"task_id": first["id"]}},
		{"get_task_output", args{"task_id": first["id"]}},
		{"get_predecessor_output", args{"task_id": second["id"]}},
		{"get_orchestrator_children", args{"orchestrator_task_id": first["id"]}},
		{"get_completed_segments", args{"run_id": "run", "project_id": s.ada.project}},
		{"update_shot_pair_prompts", args{"task_id": first["id"], "shot_id": s.ada.shot, "enhanced_prompts": []string{"a"}}},
	} {
		s.either(bobs, c.function, c.with)
		s.refused(nobody, c.function, c.with, &taskdb.Error{Code: "42501", Message: "permission denied for function " + c.function})
	}
	s.want(s.one(s.ada.caller, "get_task", args{"task_id": first["id"]}), "status", "In Progress")
	s.one(gpu, "update_task_status", args{"task_id": first["id"], "status": "Complete", "output_location": out})
	s.want(s.one(s.ada.caller, "get_task", args{"task_id": first["id"]}), "output_location", out)
	s.want(s.one(gpu, "claim_for_silent_worker", args{"worker_id": "gpu"}), "id", second["id"])
	s.one(gpu, "get_predecessor_output", args{"task_id": second["id"]})
	s.one(gpu, "get_task_output", args{"task_id": first["id"]})
	s.either(gpu, "get_orchestrator_children", args{"orchestrator_task_id": first["id"]})
	s.either(gpu, "get_completed_segments", args{"run_id": "run", "project_id": s.ada.project})
	s.either(gpu, "update_shot_pair_prompts", args{"task_id": second["id"], "shot_id": s.ada.shot, "enhanced_prompts": []string{"a", "b"}})
}

func accessTokens(s *script) {
	made := s.one(s.ada.caller, "create_access_token", args{"scope": "worker", "label": "my GPU", "expires_in": "720h"})
	if secret, _ := made["token"].(string); !strings.HasPrefix(secret, "dr_worker_") {
		s.t.Fatalf("made %v", made)
	}
	s.one(service, "create_access_token", args{"scope": "user", "user_id": s.ada.id, "label": "script"})
	if list := s.do(s.ada.caller, "list_access_tokens", nil); len(list) != 2 || list[1]["label"] != "my GPU" || list[1]["token"] != nil {
		s.t.Fatalf("tokens: %v", list)
	}
	for range 2 {
		if revoked := s.one(s.ada.caller, "revoke_access_token", args{"token_id": made["id"]}); revoked["revoked_at"] == nil {
			s.t.Fatalf("revoked: %v", revoked)
		}
	}
	s.refused(s.ada.caller, "create_access_token", args{"scope": "admin"}, taskdb.ErrInvalidParams)
	s.refused(s.ada.caller, "create_access_token", args{"scope": "user", "expires_in": "-1h"}, taskdb.ErrInvalidParams)
	s.refused(service, "create_access_token", args{"scope": "user"}, taskdb.ErrInvalidParams)
	s.one(service, "create_access_token", args{"scope": "worker", "label": "everybody's"})

	script := s.tokenOf("ada's script", "user", s.ada.id)
	s.want(s.one(script, "create_project", args{"name": "by a script"}), "owner_id", s.ada.id)
	s.refused(script, "create_access_token", args{"scope": "user"}, taskdb.ErrNotAllowed)
}

func fullQueue(s *script) {
	s.want(s.one(service, "set_queue_limit", args{"max_queued": 1, "user_id": s.ada.id}), "value", 1.0)
	s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	s.refused(s.ada.caller, "create_task", image(s.ada.project, nil), taskdb.ErrTooManyQueued)
	s.one(s.bob.caller, "create_task", image(s.bob.project, nil))
	s.want(s.one(service, "set_queue_limit", args{"max_queued": nil, "user_id": s.ada.id}), "value", 10000.0)
	s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	s.refused(service, "set_queue_limit", args{"max_queued": -1}, taskdb.ErrInvalidParams)
	s.refused(service, "set_queue_limit", args{"max_queued": 1, "user_id": unknown}, taskdb.ErrUserNotFound)
}

func erasure(s *script) {
	s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	for range 2 { // a repeat answers as before
		s.want(s.one(service, "erase_user", args{"user_id": s.ada.id}), "user_id", s.ada.id)
	}
	s.refused(service, "get_credits", args{"user_id": s.ada.id}, taskdb.ErrUserNotFound)
	s.refused(s.ada.caller, "create_project", args{"name": "I was never here"}, taskdb.ErrErased)
	s.refused(s.ada.caller, "create_task", image(s.ada.project, nil), taskdb.ErrProjectNotFound)
	s.refused(service, "erase_user", args{"user_id": unknown}, taskdb.ErrUserNotFound)
	s.want(s.one(machine, "due_erasures", nil), "user_id", s.ada.id)
	s.one(machine, "mark_erasure_swept", args{"user_id": s.ada.id})
	s.none(machine, "due_erasures", nil)
	s.refused(machine, "mark_erasure_swept", args{"user_id": s.bob.id}, taskdb.ErrUserNotFound)
	if said := s.do(service, "list_audit", args{"max_rows": 1000}); len(said) == 0 {
		s.t.Fatal("nothing is in the audit log")
	}
	s.none(service, "list_audit", args{"target": "nobody at all"})
	s.refused(service, "list_audit", args{"max_rows": 0}, taskdb.ErrInvalidParams)
}

func upkeep(s *script) {
	s.want(s.one(machine, "purge_expired", nil), "value", 0.0)
	s.register()
	task := s.one(s.ada.caller, "create_task", image(s.ada.project, nil))
	s.one(machine, "complete_task", hold(s.claim(), args{"output_location": out}))
	s.none(machine, "arm_event_bell", nil)
	s.none(machine, "requeue_expired_tasks", args{"max_tasks": 10})
	s.want(s.one(machine, "admit_due_tasks", args{"max_tasks": 10}), "value", 0.0)
	s.want(s.one(machine, "tick_ready_mark", args{"whole": true}), "value", true)
	s.want(s.one(machine, "sweep_tasks", args{"max_tasks": 10}), "repaired", 0.0)
	s.want(s.one(service, "admit_tasks", args{"user_id": s.ada.id}), "value", 0.0)
	folder := s.ada.id + "/tasks/" + task["id"].(string) + "/1"
	s.do(machine, "orphaned_outputs", args{"folders": []string{folder, "no folder"}})
	s.none(service, "repair_generations", args{"project_id": s.ada.project, "max_tasks": 10})
	s.admin(`delete from generations; delete from darkroom.deleted_generations; alter table tasks disable trigger user;
		update tasks set generation_created = false; alter table tasks enable trigger user`)
	s.want(s.one(service, "repair_generations", args{"max_tasks": 10}), "source_task_id", task["id"])
}
