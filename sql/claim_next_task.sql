-- Hands this worker the oldest task it may run, In Progress; no row when there is none. See claim_next_tasks.
create or replace function public.claim_next_task(worker_id text)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_worker text := darkroom.caller_worker(claim_next_task.worker_id);
  v_task public.tasks;
begin
  v_task := darkroom.claim_one(v_worker, darkroom.caller_owner(), darkroom.wanted_types(v_worker, claim_next_task.worker_id, null));
  if v_task.id is not null then
    return next v_task;
  end if;
end
$$;
comment on function public.claim_next_task is 'Hands a worker its next task, oldest first, and holds its cost.';
revoke all on function public.claim_next_task from public;
grant execute on function public.claim_next_task to worker, service_role;
