-- Ends a running attempt as failed, with the reason: the task is Failed, its hold released, and what waits for it or stands in its
-- tree fails too. With retryable it is Queued again instead while attempts are left (task_types.max_attempts), after a pause that
-- doubles from 1 s to 60 s. Returns the task. A repeat by the same attempt answers as the first did.
-- worker_id and attempt are the fence, as for complete_task. Raises TD021, TD031, TD032. Writes what complete_task writes.
create or replace function public.fail_task(
  task_id uuid, error_message text, worker_id text default null, attempt integer default null, retryable boolean default false,
  retry_delay interval default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_max_delay constant interval := interval '1 hour';
  v_error text := left(coalesce(nullif(btrim(fail_task.error_message), ''), 'The worker gave no reason.'), 4000);
  v_task public.tasks;
begin
  v_task := darkroom.lock_held_task(fail_task.task_id, fail_task.worker_id, fail_task.attempt, 'failed');
  if v_task.status <> 'In Progress' then
    return v_task;
  end if;
  if fail_task.retryable then
    return darkroom.requeue_task(v_task, 'failed', v_error,
      least(coalesce(fail_task.retry_delay, interval '1 second' * least(60, 2 ^ v_task.failed_attempts)), c_max_delay));
  end if;

  perform darkroom.close_tasks(v_task.owner_id, v_task.id, 'Failed', v_error, 'failed');
  select t.* into v_task from public.tasks t where t.id = fail_task.task_id;
  return v_task;
end
$$;
comment on function public.fail_task is 'Ends a running attempt as failed; Queued again only where the worker calls it retryable.';
revoke all on function public.fail_task from public;
grant execute on function public.fail_task to worker, service_role;
