-- Ends a running attempt and gives the task back: Queued, or Failed when its attempts are used up. A release is not counted.
-- An orchestrator whose children live cannot be given back: its hold pays for them; a release leaves it as it is, and a
-- failure closes the tree. p_task is the row as it was, locked. The caller holds the owner's lock. Returns the task as it is then.
create or replace function darkroom.requeue_task(p_task public.tasks, p_outcome text, p_error text, p_delay interval default null)
returns public.tasks
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_counted boolean := p_outcome <> 'released';
  v_max integer;
  v_task public.tasks;
begin
  select ty.max_attempts into v_max from public.task_types ty where ty.name = p_task.task_type;

  if darkroom.has_live_children(p_task.id) then
    if v_counted then
      perform darkroom.close_tasks(p_task.owner_id, p_task.id, 'Failed', p_error, p_outcome);
    end if;
  elsif v_counted and p_task.failed_attempts + 1 >= v_max then
    perform darkroom.close_tasks(p_task.owner_id, p_task.id, 'Failed',
      case when v_max = 1 then p_error else format('%s (attempt %s of %s)', p_error, p_task.failed_attempts + 1, v_max) end, p_outcome);
  else
    update public.tasks t
    set status = 'Queued', worker_id = null, claimed_at = null, progress = null, error_message = p_error,
        failed_attempts = t.failed_attempts + v_counted::integer, run_after = clock_timestamp() + p_delay, updated_at = clock_timestamp()
    where t.id = p_task.id
    returning t.* into v_task;
    perform darkroom.end_attempt(p_task, p_outcome, p_error);
    perform darkroom.file_task(v_task);
  end if;

  select t.* into v_task from public.tasks t where t.id = p_task.id;
  return v_task;
end
$$;
comment on function darkroom.requeue_task is 'Ends an attempt and queues the task again, or fails it; the caller holds the owner''s lock.';
revoke all on function darkroom.requeue_task from public;
