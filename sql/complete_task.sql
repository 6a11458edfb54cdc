-- Completes a running task in one transaction: status, output, the hold settled, the generation and its shot link (by the trigger
-- create_generation_on_task_complete), what waited for it, its orchestrator, the events. Returns the task.
--
-- worker_id and attempt are the fence, as the claim gave them. Without them the present holder is meant: only for callers that
-- cannot know them. If the task was queued again and nobody has it, that is who held it last: its late result counts, as an attempt of its own.
-- A repeat by the same attempt answers as the first did and changes nothing.
-- With a token, or without the fence, an output in our own storage must be the task's: see darkroom.check_output. metadata is added to what is there.
-- Raises TD003 (metadata is no object), TD006 (no output_location), TD010 (a late result that the owner cannot pay any more), TD021 (no such
-- task), TD031 (lease lost) and TD032 (it has ended otherwise), TD041 (somebody else's file).
-- Writes tasks, task_attempts, credit_ledger, generations, shot_generations, the queue.
create or replace function public.complete_task(
  task_id uuid, output_location text, worker_id text default null, attempt integer default null,
  metadata jsonb default '{}', thumbnail_url text default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- Planned once, for any size of the tables: a plan made when they were empty must not be a scan.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  c_ours constant text := '/storage/v1/object/public/image_uploads/';
  v_token uuid := darkroom.caller_token();
  v_unfenced boolean := complete_task.worker_id is null and complete_task.attempt is null;
  v_worker text := complete_task.worker_id;
  v_attempt integer := complete_task.attempt;
  v_caller uuid := darkroom.caller_owner();
  v_revived boolean := false;
  v_before public.tasks;
  v_task public.tasks;
  v_url text;
  v_ignored boolean;
begin
  -- guard
  if jsonb_typeof(coalesce(complete_task.metadata, '{}')) <> 'object' or octet_length(complete_task.metadata::text) > 65536 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'metadata must be a JSON object of up to 64 kB.';
  end if;
  if coalesce(btrim(complete_task.output_location), '') = '' then
    raise exception 'Missing output' using errcode = 'TD006',
      detail = 'A task is complete only with an output_location.', hint = 'Send output_location, or call fail_task.';
  end if;

  -- lock
  if v_unfenced or v_token is not null then
    if v_unfenced then
      v_revived := darkroom.revive_task(complete_task.task_id);
    end if;
    v_before := darkroom.lock_held_task(complete_task.task_id, complete_task.worker_id, complete_task.attempt, 'complete');
    if v_before.status = 'In Progress' then
      foreach v_url in array array[complete_task.output_location, complete_task.thumbnail_url] loop
        if strpos(v_url, c_ours) > 0 then
          perform darkroom.check_output(v_before, v_url, v_before.attempt - v_revived::integer);
        end if;
      end loop;
    end if;
    v_worker := v_before.worker_id;
    v_attempt := v_before.attempt;
  end if;

  -- write, if the fence lets it through; the owner's lock comes before the row's
  update public.tasks t
  set status = 'Complete', output_location = complete_task.output_location, thumbnail_url = complete_task.thumbnail_url,
      metadata = t.metadata || coalesce(complete_task.metadata, '{}'), error_message = null, completed_at = clock_timestamp(), updated_at = clock_timestamp()
  where t.id = complete_task.task_id and (t.status = 'In Progress') is true
    and t.worker_id = coalesce(v_worker, t.worker_id) and t.attempt = coalesce(v_attempt, t.attempt)
    and t.owner_id = coalesce(v_caller, t.owner_id) and darkroom.lock_owner(t.owner_id)
  returning t.* into v_task;
  if not found then
    v_before := darkroom.lock_held_task(complete_task.task_id, complete_task.worker_id, complete_task.attempt, 'complete');
    if complete_task.attempt is null and v_before.output_location is distinct from complete_task.output_location then
      raise exception 'Task has ended' using errcode = 'TD032',
        detail = format('Task %s is Complete with another output.', v_before.id), hint = 'Terminal states are closed: nothing was changed.';
    end if;
    return v_before;  -- a repeat
  end if;

  v_ignored := darkroom.end_attempt(v_task, 'complete');
  if exists (select from darkroom.task_deps d where d.dep_id = v_task.id) then
    perform darkroom.release_dependents(v_task.id);
  end if;
  if v_task.orchestrator_task_id is not null then
    perform darkroom.finish_orchestrator(v_task);
  end if;
  return v_task;
end
$$;
comment on function public.complete_task is 'Completes a running task: output, credits, generation and events in one transaction.';
revoke all on function public.complete_task from public;
grant execute on function public.complete_task to worker, service_role;
