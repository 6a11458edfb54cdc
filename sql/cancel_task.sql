-- Cancels a Queued or running task, with its tree; what waits for it fails. Holds are released, nothing is charged, and a running
-- worker is told at once and at its next heartbeat. Returns the task; a task that is Cancelled already is returned as it is.
-- Raises TD021 (no such task that the caller may cancel), TD032 (it is Complete or Failed). A worker with a token may cancel what it runs
-- and the tree of an orchestrator that it runs.
create or replace function public.cancel_task(task_id uuid, reason text default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_owner uuid;
  v_task public.tasks;
begin
  select t.owner_id into v_owner from public.tasks t where t.id = cancel_task.task_id;
  if not found or v_owner <> darkroom.caller_owner()
     or auth.token_id() is not null and auth.role() = 'worker' and cancel_task.task_id <> all (darkroom.tasks_of_worker()) then
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s.', cancel_task.task_id);
  end if;
  perform darkroom.lock_owner(v_owner);
  select t.* into v_task from public.tasks t where t.id = cancel_task.task_id for update;
  if not found then
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s any more.', cancel_task.task_id);
  elsif v_task.status = 'Cancelled' then
    return v_task;
  elsif v_task.status not in ('Queued', 'In Progress') then
    raise exception 'Task has ended' using errcode = 'TD032',
      detail = format('Task %s is %s.', v_task.id, v_task.status), hint = 'Terminal states are closed: nothing was changed.';
  end if;

  perform darkroom.close_tasks(v_owner, v_task.id, 'Cancelled', left(coalesce(cancel_task.reason, 'Cancelled.'), 4000), 'cancelled');
  select t.* into v_task from public.tasks t where t.id = cancel_task.task_id;
  return v_task;
end
$$;
comment on function public.cancel_task is 'Cancels a task and its tree; nothing is charged.';
revoke all on function public.cancel_task from public;
grant execute on function public.cancel_task to authenticated, worker, service_role;
