-- The tasks that a worker runs now: In Progress under it and held by its last heartbeat, or claimed about then or later. Orchestrators that wait for their tree are not
-- among them: they hold no slot.
-- By their ids where the worker named them, and of the rest only what is as new as the heartbeat: the index of all that it ever held may be full of dead rows
-- while an old transaction pins them.
create or replace function darkroom.held_tasks(p_worker public.workers)
returns setof public.tasks
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
-- Pages that cost nothing leave tasks_in_progress the cheapest index, whatever was counted when nothing ran: by any other, each worker would read what all run.
set random_page_cost = 0
set seq_page_cost = 0
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
begin
  return query
  with beat as materialized (
    select case when p_worker.running is null then '-infinity' else coalesce(p_worker.last_heartbeat - interval '10 seconds', '-infinity') end as since
  ), named as materialized (
    select n.* from unnest(p_worker.running) r (id) cross join lateral (select t.* from public.tasks t where t.id = r.id offset 0) n
  ), held as (
    select n.* from named n cross join beat b where n.status = 'In Progress' and n.worker_id = p_worker.id and n.claimed_at <= b.since
    union all
    select t.* from public.tasks t where t.status = 'In Progress' and t.worker_id = p_worker.id and t.claimed_at > (select b.since from beat b)
  )
  select h.* from held h
  where not exists (select from public.tasks c where c.orchestrator_task_id = h.id and c.status in ('Queued', 'In Progress'));
end
$$;
comment on function darkroom.held_tasks is 'The tasks that a worker runs now.';
revoke all on function darkroom.held_tasks from public;
