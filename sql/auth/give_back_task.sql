-- Queues a task of the caller's again, with a failed attempt counted: for a worker of others that breaks down and says so. Failed, when its attempts
-- are used up; otherwise it waits from 1 s to 60 s, as after fail_task. An orchestrator whose tree runs stays as it is, for its children wait for
-- nobody. worker_name: only where that worker of the caller's holds it; null: whichever does. Returns the task. Raises TD021, TD031 and TD032 as
-- fail_task does. For role worker. Writes what fail_task writes.
create or replace function auth.give_back_task(task_id uuid, worker_name text, reason text)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_task public.tasks;
begin
  v_task := darkroom.lock_held_task(give_back_task.task_id, worker_name, null);
  if not darkroom.has_live_children(v_task.id) then
    v_task := darkroom.requeue_task(v_task, 'failed', left(coalesce(nullif(btrim(reason), ''), 'The worker gave no reason.'), 4000),
      interval '1 second' * least(60, 2 ^ v_task.failed_attempts));
  end if;
  return next v_task;
end
$$;
comment on function auth.give_back_task is 'Queues a task again for a worker that broke down.';
revoke all on function auth.give_back_task from public;
grant execute on function auth.give_back_task to worker;
