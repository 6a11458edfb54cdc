-- How many tasks a claim of these types would hand out before this one: older, shown in the queue, and such as their owner can pay. Counted up to 1000;
-- more: there are at least that many. own: of the same owner. by_type: {"type": how many}. p_own_only: as for a worker that runs its user's tasks alone.
--
-- Bounded for any length of the queue: it reads the older rows of the windows (task_ready) from the mark on, as the claim does, and then the backlogs of just
-- those lanes; no other lane has an older backlog, since all of a lane's window is older than its backlog.
create or replace function darkroom.tasks_before(p_task public.tasks, p_types text[], p_own_only boolean)
returns darkroom.tasks_before
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  c_most constant integer := 1000;
  v_mark timestamptz := timestamptz 'epoch' + (select m.last_value from darkroom.ready_mark m) * interval '1 microsecond';
  v_window darkroom.task_ready[];
  v_before darkroom.tasks_before;
begin
  if p_own_only then
    select array_agg(w.r) into v_window
    from (select r from darkroom.task_ready r
          where r.owner_id = p_task.owner_id and r.task_type = any (p_types) and not r.parked
            and (r.created_at, r.job_no) < (p_task.created_at, p_task.job_no)
          limit c_most + 1) w;
  else
    select array_agg(w.r) into v_window
    from (select o.r from unnest(p_types) ty (name)
          cross join lateral (
            select r from darkroom.task_ready r
            where r.task_type = ty.name and not r.parked and r.created_at >= v_mark and (r.created_at, r.job_no) < (p_task.created_at, p_task.job_no)
            order by r.created_at, r.job_no limit c_most + 1) o
          limit c_most + 1) w;
  end if;

  with lanes as materialized (
    select r.owner_id, r.task_type, r.cost, count(*) as shown from unnest(v_window) r group by r.owner_id, r.task_type, r.cost
  ), payable as materialized (
    select l.* from lanes l
    where l.cost = 0 or l.cost <= coalesce((select a.balance_after - a.held_after from public.credit_ledger a
                                            where a.owner_id = l.owner_id order by a.seq desc limit 1), 0)
  ), waiting as materialized (
    select p.owner_id, p.task_type from payable p
    cross join lateral (
      select from darkroom.task_backlog b
      where b.owner_id = p.owner_id and b.task_type = p.task_type and b.cost = p.cost
        and (b.created_at, b.job_no) < (p_task.created_at, p_task.job_no)
      limit c_most + 1) b
    limit c_most + 1
  ), counted as (
    select p.owner_id, p.task_type, p.shown as n from payable p
    union all select w.owner_id, w.task_type, count(*) from waiting w group by w.owner_id, w.task_type
  ), by_type as (
    select c.task_type, sum(c.n)::bigint as n, (coalesce(sum(c.n) filter (where c.owner_id = p_task.owner_id), 0))::bigint as own
    from counted c group by c.task_type
  )
  select (coalesce(sum(b.n), 0))::bigint, (coalesce(sum(b.own), 0))::bigint, coalesce(sum(b.n), 0) > c_most, coalesce(jsonb_object_agg(b.task_type, b.n), '{}')
  into v_before.total, v_before.own, v_before.more, v_before.by_type
  from by_type b;
  v_before.more := v_before.more or coalesce(cardinality(v_window), 0) > c_most;
  return v_before;
end
$$;
comment on function darkroom.tasks_before is 'How many tasks a claim would hand out before this one, up to 1000.';
revoke all on function darkroom.tasks_before from public;
