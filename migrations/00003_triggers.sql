-- +goose Up
-- The triggers. Their functions stand in sql/.

-- A new task is checked before it is stored, and filed in the queue when its transaction commits. One that does not run shows no preview.
create trigger prepare_task before insert on public.tasks
  for each row execute function darkroom.prepare_task();
create trigger forget_preview before update on public.tasks
  for each row when (new.status <> 'In Progress' and new.progress -> 'preview' is not null) execute function darkroom.forget_preview();
create constraint trigger file_new_task after insert on public.tasks deferrable initially deferred
  for each row execute function darkroom.file_new_task();

-- Named in the spec: a finished task becomes a generation, and each change is broadcast. What goes to the event log goes there by statement: a batch
-- costs little more than one row.
create trigger create_generation_on_task_complete before update on public.tasks
  for each row when (new.status = 'Complete' and not new.generation_created)
  execute function public.create_generation_on_task_complete();
create trigger broadcast_task_status_update_insert after insert on public.tasks
  for each row execute function public.broadcast_task_status_update();
create trigger broadcast_task_status_update_update after update on public.tasks referencing new table as changed
  for each statement execute function public.broadcast_task_status_update();
create trigger broadcast_task_status_update_delete after delete on public.tasks referencing old table as changed
  for each statement execute function public.broadcast_task_status_update();

create trigger fill_project before insert on public.projects
  for each row execute function darkroom.fill_project();
create trigger remember_deleted_generation after delete on public.generations
  for each row execute function darkroom.remember_deleted_generation();
create trigger fill_generation before insert on public.generations
  for each row when (new.owner_id is null) execute function darkroom.fill_generation();
create trigger refuse_move before update on public.shots
  for each row when (old.id <> new.id or old.project_id <> new.project_id) execute function darkroom.refuse_move();
create trigger refuse_move before update on public.shot_generations
  for each row when (old.id <> new.id) execute function darkroom.refuse_move();
create trigger fill_shot_generation before insert on public.shot_generations
  for each row when (new.owner_id is null or new.project_id is null) execute function darkroom.fill_shot_generation();
create trigger keep_shot_generation before update on public.shot_generations
  for each row execute function darkroom.fill_shot_generation();

create trigger log_projects_insert after insert on public.projects referencing new table as changed
  for each statement execute function darkroom.log_row_change('projects');
create trigger log_projects_update after update on public.projects referencing new table as changed
  for each statement execute function darkroom.log_row_change('projects');
create trigger log_projects_delete after delete on public.projects referencing old table as changed
  for each statement execute function darkroom.log_row_change('projects');
create trigger log_shots_insert after insert on public.shots referencing new table as changed
  for each statement execute function darkroom.log_row_change('shots');
create trigger log_shots_update after update on public.shots referencing new table as changed
  for each statement execute function darkroom.log_row_change('shots');
create trigger log_shots_delete after delete on public.shots referencing old table as changed
  for each statement execute function darkroom.log_row_change('shots');
create trigger log_generations_insert after insert on public.generations referencing new table as changed
  for each statement execute function darkroom.log_row_change('generations');
create trigger log_generations_update after update on public.generations referencing new table as changed
  for each statement execute function darkroom.log_row_change('generations');
create trigger log_generations_delete after delete on public.generations referencing old table as changed
  for each statement execute function darkroom.log_row_change('generations');
create trigger log_shot_generations_insert after insert on public.shot_generations referencing new table as changed
  for each statement execute function darkroom.log_row_change('shot_generations');
create trigger log_shot_generations_update after update on public.shot_generations referencing new table as changed
  for each statement execute function darkroom.log_row_change('shot_generations');
create trigger log_shot_generations_delete after delete on public.shot_generations referencing old table as changed
  for each statement execute function darkroom.log_row_change('shot_generations');
create trigger log_credits_insert after insert on public.credit_ledger referencing new table as changed
  for each statement execute function darkroom.log_ledger_entry();

-- Who changed what only the service may change.
create trigger audit after insert or update or delete on public.users
  for each row execute function darkroom.audit_change('users', 'id', 'id', 'storage_quota');
create trigger audit after insert or update or delete on darkroom.access_tokens
  for each row execute function darkroom.audit_change('access_tokens', 'id', 'owner_id', 'scope', 'expires_at', 'revoked_at');
create trigger audit after insert or update or delete on public.task_types
  for each row execute function darkroom.audit_change('task_types', 'name', 'name', 'route', 'result_type', 'base_price', 'unit_price', 'unit_path',
    'max_units', 'required_params', 'shot_id_paths', 'max_attempts', 'enabled');
create trigger audit after insert or update or delete on public.tools
  for each row execute function darkroom.audit_change('tools', 'tool_id', 'tool_id', 'task_type');
create trigger audit after insert or update or delete on darkroom.queue_settings
  for each row execute function darkroom.audit_change('queue_settings', 'only_row', 'max_queued');
create trigger audit after insert on darkroom.queue_room
  for each row when (new.max_queued is not null) execute function darkroom.audit_change('queue_room', 'owner_id', 'max_queued');
create trigger audit_limit after update of max_queued on darkroom.queue_room
  for each row execute function darkroom.audit_change('queue_room', 'owner_id', 'max_queued');
create trigger audit after insert on public.credit_ledger
  for each row when (new.kind = 'grant') execute function darkroom.audit_change('credit_ledger', 'owner_id', 'seq', 'amount');
create trigger audit_is_append_only before update or delete or truncate on darkroom.audit_log
  for each statement execute function darkroom.refuse_change();

-- +goose Down
drop trigger audit_is_append_only on darkroom.audit_log;
drop trigger audit on public.credit_ledger;
drop trigger audit_limit on darkroom.queue_room;
drop trigger audit on darkroom.queue_room;
drop trigger audit on darkroom.queue_settings;
drop trigger audit on public.tools;
drop trigger audit on public.task_types;
drop trigger audit on darkroom.access_tokens;
drop trigger audit on public.users;
drop trigger remember_deleted_generation on public.generations;
drop trigger fill_project on public.projects;
drop trigger refuse_move on public.shot_generations;
drop trigger refuse_move on public.shots;
drop trigger log_projects_insert on public.projects;
drop trigger log_projects_update on public.projects;
drop trigger log_projects_delete on public.projects;
drop trigger log_shots_insert on public.shots;
drop trigger log_shots_update on public.shots;
drop trigger log_shots_delete on public.shots;
drop trigger log_credits_insert on public.credit_ledger;
drop trigger log_shot_generations_insert on public.shot_generations;
drop trigger log_shot_generations_update on public.shot_generations;
drop trigger log_shot_generations_delete on public.shot_generations;
drop trigger log_generations_insert on public.generations;
drop trigger log_generations_update on public.generations;
drop trigger log_generations_delete on public.generations;
drop trigger keep_shot_generation on public.shot_generations;
drop trigger fill_shot_generation on public.shot_generations;
drop trigger fill_generation on public.generations;
drop trigger broadcast_task_status_update_insert on public.tasks;
drop trigger broadcast_task_status_update_update on public.tasks;
drop trigger broadcast_task_status_update_delete on public.tasks;
drop trigger create_generation_on_task_complete on public.tasks;
drop trigger forget_preview on public.tasks;
drop trigger file_new_task on public.tasks;
drop trigger prepare_task on public.tasks;
