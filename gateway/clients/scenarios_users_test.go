package clients_test

import (
	"strings"

	"darkroom/sql/taskdb"
)

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
