-- The tasks that a worker's token may see: those that its workers run, the trees of orchestrators among them, and what they wait for.
-- Row security of tasks is built on it, so it must not raise. Empty without a token.
create or replace function darkroom.tasks_of_worker()
returns uuid[]
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with held as (
    select t.id, t.task_type, t.dependant_on from public.tasks t
    where t.status = 'In Progress' and t.worker_id in (select w.id from public.workers w where w.token_id = auth.token_id())
  )
  select coalesce(array_agg(v.id), '{}') from (
    select h.id from held h
    union select c.id from held h join public.tasks c on c.orchestrator_task_id = h.id where h.task_type = 'travel_orchestrator'
    union select unnest(h.dependant_on) from held h
  ) v
$$;
comment on function darkroom.tasks_of_worker is 'Tasks that the caller''s token may see.';
revoke all on function darkroom.tasks_of_worker from public;
grant execute on function darkroom.tasks_of_worker to worker;
