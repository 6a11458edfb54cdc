package taskdb

// call is one SQL function and the statement that calls it.
type call struct {
	function string
	sql      string
}

// The statements, one per function. contract_test.go holds them against the database.
var (
	callCalculateTaskCost       = call{"calculate_task_cost", "select calculate_task_cost(tool_id => $1, input => $2, task_type => $3, params => $4)"}
	callCreateTask              = call{"create_task", "select * from create_task(project_id => $1, tool_id => $2, input => $3, task_id => $4, task_type => $5, params => $6, dependant_on => $7, idempotency_key => $8)"}
	callCreateTasks             = call{"create_tasks", "select * from create_tasks(tasks => array(select t from jsonb_populate_recordset(null::new_task, $1) t))"}
	callGetTask                 = call{"get_task", "select * from get_task(task_id => $1)"}
	callCancelTask              = call{"cancel_task", "select * from cancel_task(task_id => $1, reason => $2)"}
	callExplainTask             = call{"explain_task", "select * from explain_task(task_id => $1)"}
	callRetryTask               = call{"retry_task", "select * from retry_task(task_id => $1, idempotency_key => $2)"}
	callListWorkers             = call{"list_workers", "select * from list_workers()"}
	callListGenerations         = call{"list_generations", "select * from list_generations(project_id => $1, shot_id => $2, max_rows => $3, older_than => $4)"}
	callCreateUser              = call{"create_user", "select * from create_user(user_id => $1, email => $2)"}
	callCreateProject           = call{"create_project", "select * from create_project(user_id => $1, name => $2)"}
	callCreateShot              = call{"create_shot", "select * from create_shot(project_id => $1, name => $2)"}
	callGrantCredits            = call{"grant_credits", "select * from grant_credits(user_id => $1, amount => $2, idempotency_key => $3, note => $4)"}
	callGetCredits              = call{"get_credits", "select * from get_credits(user_id => $1)"}
	callCreateAccessToken       = call{"create_access_token", "select * from create_access_token(scope => $1, label => $2, expires_in => $3, user_id => $4)"}
	callListAccessTokens        = call{"list_access_tokens", "select * from list_access_tokens(user_id => $1)"}
	callRevokeAccessToken       = call{"revoke_access_token", "select * from revoke_access_token(token_id => $1)"}
	callRegisterWorker          = call{"register_worker", "select * from register_worker(worker_id => $1, capabilities => $2, task_types => $3, lease_timeout => $4, info => $5, if_unknown => $6)"}
	callClaimNextTask           = call{"claim_next_task", "select * from claim_next_task(worker_id => $1)"}
	callClaimNextTasks          = call{"claim_next_tasks", "select * from claim_next_tasks(worker_id => $1, max_tasks => $2, task_types => $3)"}
	callHeartbeatWorker         = call{"heartbeat_worker", "select * from heartbeat_worker(worker_id => $1, running => $2, info => $3)"}
	callReportProgress          = call{"report_progress", "select report_progress(task_id => $1, worker_id => $2, attempt => $3, progress => $4)::text"}
	callCompleteTask            = call{"complete_task", "select * from complete_task(task_id => $1, output_location => $2, worker_id => $3, attempt => $4, metadata => $5, thumbnail_url => $6)"}
	callCompleteTasks           = call{"complete_tasks", "select * from complete_tasks(worker_id => $1, completions => array(select c from jsonb_populate_recordset(null::completion, $2) c))"}
	callProcessCompletedTask    = call{"process_completed_task", "select * from process_completed_task(task_id => $1, output => $2, worker_id => $3, attempt => $4)"}
	callFailTask                = call{"fail_task", "select * from fail_task(task_id => $1, error_message => $2, worker_id => $3, attempt => $4, retryable => $5, retry_delay => $6)"}
	callClaimForSilentWorker    = call{"claim_for_silent_worker", "select * from claim_for_silent_worker(worker_id => $1)"}
	callWorkerHeartbeat         = call{"func_worker_heartbeat_with_logs", "select func_worker_heartbeat_with_logs(worker_id_param => $1, vram_total_mb_param => $2, vram_used_mb_param => $3, logs_param => $4, status_param => $5)"}
	callUpdateTaskStatus        = call{"update_task_status", "select update_task_status(task_id => $1, status => $2, output_location => $3, thumbnail_url => $4, error_details => $5)"}
	callCheckCompletion         = call{"check_completion", "select check_completion(task_id => $1, storage_paths => $2)"}
	callTaskCounts              = call{"task_counts", "select task_counts()"}
	callGetPredecessorOutput    = call{"get_predecessor_output", "select get_predecessor_output(task_id => $1)"}
	callGetCompletedSegments    = call{"get_completed_segments", "select get_completed_segments(run_id => $1, project_id => $2)"}
	callGetOrchestratorChildren = call{"get_orchestrator_children", "select get_orchestrator_children(orchestrator_task_id => $1)"}
	callGetTaskOutput           = call{"get_task_output", "select get_task_output(task_id => $1)"}
	callGetTaskStatus           = call{"get_task_status", "select get_task_status(task_id => $1)"}
	callUpdateShotPairPrompts   = call{"update_shot_pair_prompts", "select update_shot_pair_prompts(task_id => $1, shot_id => $2, enhanced_prompts => $3)"}
	callUpdateWorkerModel       = call{"update_worker_model", "select update_worker_model(worker_id => $1, model => $2)"}
	callReleaseTask             = call{"release_task", "select * from release_task(task_id => $1, worker_id => $2, attempt => $3, reason => $4)"}
	callGetDependencyOutputs    = call{"get_dependency_outputs", "select * from get_dependency_outputs(task_id => $1)"}
	callExpandOrchestrator      = call{"expand_travel_orchestrator", "select * from expand_travel_orchestrator(task_id => $1, worker_id => $2, attempt => $3)"}
	callRequeueExpiredTasks     = call{"requeue_expired_tasks", "select * from requeue_expired_tasks(max_tasks => $1)"}
	callAdmitDueTasks           = call{"admit_due_tasks", "select admit_due_tasks(max_tasks => $1)"}
	callAdmitTasks              = call{"admit_tasks", "select admit_tasks(user_id => $1)"}
	callSweepTasks              = call{"sweep_tasks", "select * from sweep_tasks(max_tasks => $1)"}
	callOrphanedOutputs         = call{"orphaned_outputs", "select orphaned_outputs(folders => $1)"}
	callTickReadyMark           = call{"tick_ready_mark", "select tick_ready_mark(whole => $1)"}
	callRepairGenerations       = call{"repair_generations", "select * from repair_generations(project_id => $1, max_tasks => $2)"}
	callInvariantViolations     = call{"invariant_violations", "select * from invariant_violations order by rule, task_id, violation"}
	callArmEventBell            = call{"arm_event_bell", "select arm_event_bell()::text"}
	callEraseUser               = call{"erase_user", "select * from erase_user(user_id => $1)"}
	callListAudit               = call{"list_audit", "select * from list_audit(target => $1, max_rows => $2, older_than => $3)"}
	callDueErasures             = call{"due_erasures", "select * from due_erasures()"}
	callMarkErasureSwept        = call{"mark_erasure_swept", "select * from mark_erasure_swept(user_id => $1)"}
	callPurgeExpired            = call{"purge_expired", "select purge_expired()"}
	callSetQueueLimit           = call{"set_queue_limit", "select set_queue_limit(max_queued => $1, user_id => $2)"}
)
