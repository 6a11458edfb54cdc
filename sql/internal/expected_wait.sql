-- How long until the slots of these workers come to a task, when so many tasks of each type are before it: null when nothing is known of how long any of them takes.
--
-- A task takes as long as the median of its type among the newest 500 Complete tasks, measured from the claim that completed it; a type without history
-- as long as the task's own type. Orchestrators take no time: they wait for their tree without a slot. Each slot that runs something is free when that time has passed
-- since its claim, the others are free now; what is before the task is spread evenly over them.
create or replace function darkroom.expected_wait(p_task public.tasks, p_workers darkroom.able_worker[], p_before jsonb)
returns interval
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_wait interval;
begin
  with history as materialized (
    select r.task_type, percentile_cont(0.5) within group (order by extract(epoch from r.completed_at - r.claimed_at)) as seconds
    from (select t.task_type, t.claimed_at, t.completed_at from public.tasks t where t.status = 'Complete' order by t.created_at desc limit 500) r
    where r.completed_at >= r.claimed_at group by r.task_type
  ), own as materialized (
    select (select h.seconds from history h where h.task_type = p_task.task_type) as seconds
  ), slots as (
    select case when coalesce(h.seconds, o.seconds) is not null  -- greatest() passes over null
                then greatest(coalesce(h.seconds, o.seconds) - extract(epoch from clock_timestamp() - t.claimed_at), 0) end as free_in
    from unnest(p_workers) a join public.workers w on w.id = a.id cross join lateral darkroom.held_tasks(w) t
    cross join own o left join history h on h.task_type = t.task_type
    union all
    select 0 from unnest(p_workers) w cross join lateral generate_series(1, w.slots - w.running)
  ), work as (
    select sum(b.n::numeric * case when b.task_type = 'travel_orchestrator' then 0 else coalesce(h.seconds, o.seconds) end) as seconds,
           bool_or(b.task_type <> 'travel_orchestrator' and coalesce(h.seconds, o.seconds) is null) as unknown
    from jsonb_each_text(p_before) b (task_type, n) cross join own o left join history h on h.task_type = b.task_type
  ), spread as (
    -- The first k slots to be free have done the work by then; the least of these times is when all that come into question have.
    select (coalesce(k.seconds, 0) + sum(s.free_in) over w) / count(*) over w as seconds, k.unknown, bool_or(s.free_in is null) over () as unsure
    from slots s cross join work k window w as (order by s.free_in rows unbounded preceding)
  )
  select case when bool_or(s.unknown or s.unsure) then null else min(s.seconds) * interval '1 second' end into v_wait from spread s;
  return v_wait;
end
$$;
comment on function darkroom.expected_wait is 'How long until these workers come to a task.';
revoke all on function darkroom.expected_wait from public;
