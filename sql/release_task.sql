-- Gives a running task back without blame: Queued again, in its old place, the attempt not counted. For a worker that stops.
-- Returns the task. An orchestrator whose tree still runs stays In Progress. Fenced; raises TD021, TD031, TD032.
create or replace function public.release_task(task_id uuid, worker_id text, attempt integer, reason text default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks;
begin
  v_task := darkroom.lock_held_task(release_task.task_id, coalesce(release_task.worker_id, ''), coalesce(release_task.attempt, 0));
  return darkroom.requeue_task(v_task, 'released', left(release_task.reason, 4000));
end
$$;
comment on function public.release_task is 'Gives a running task back; the attempt is not counted.';
revoke all on function public.release_task from public;
grant execute on function public.release_task to worker, service_role;
