-- Hands this worker up to max_tasks tasks, oldest first, and returns them In Progress, each with its attempt number: the fence
-- that heartbeat, progress, completion, failure and release must carry. No row: nothing this worker may run can be claimed now.
--
-- A task is handed out when it is Queued, what it waits for is Complete, its type is one the worker runs, and its owner's
-- available credits cover its cost; then the cost is held. Among those the oldest is taken, but for what another claim has
-- locked at that moment. A batch may hold less than max_tasks although more could be claimed (a busy owner's): ask again.
--
-- task_types: the only types wanted now, of those the worker registered, such as those it has a free slot for; null: all of them.
-- A worker that finds none of them is woken by the next task of any type.
--
-- A worker with a user's token gets only tasks of that user.
--
-- The queue is a hint (darkroom.task_ready), the row is the truth: all is decided again under the owner's lock. It waits for that
-- lock 250 ms at most, and only while it holds no other; then it takes somebody else's task.
-- Raises TD003 (max_tasks), TD022 (unknown worker), TD050 (isolation). Workers may call it.
create or replace function public.claim_next_tasks(worker_id text, max_tasks integer default 1, task_types text[] default null)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- Planned once, for any size of the tables: a plan made when they were empty must not be a scan.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_owner_only uuid := darkroom.caller_owner();
  v_worker text := darkroom.caller_worker(claim_next_tasks.worker_id);
  -- While a lane has a backlog, its window holds 8 rows or more (refill_lane): a round that ends with the eighth of a lane is in exact order.
  c_lane constant integer := 8;
  c_round constant integer := 100;
  v_types text[];
  v_one public.tasks;
  v_want integer;
  v_seen integer;
  v_refilled boolean;
  v_total integer := 0;
  v_mark timestamptz;
  v_head record;
  v_found darkroom.task_ready[];
  v_picked darkroom.task_ready[];
  v_busy uuid[] := array[]::uuid[];      -- owners whose lock could not be had
  v_locked uuid[] := array[]::uuid[];    -- owners whose lock we hold
  v_owner uuid;
  v_count integer := 0;
  v_armed boolean := false;
  v_lane darkroom.task_ready;
begin
  -- guard
  if max_tasks is null or max_tasks not between 1 and 1000 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'max_tasks must be 1 to 1000.';
  end if;
  v_types := darkroom.wanted_types(v_worker, claim_next_tasks.worker_id, claim_next_tasks.task_types);
  if max_tasks = 1 then
    v_one := darkroom.claim_one(v_worker, v_owner_only, v_types);
    if v_one.id is not null then
      return next v_one;
    end if;
    return;
  end if;

  loop
    -- pick and lock the oldest ready rows: types in the order of their heads, each only as far as it can beat what is picked
    v_want := least(c_round, max_tasks - v_total);
    v_mark := timestamptz 'epoch' + (select m.last_value from darkroom.ready_mark m) * interval '1 microsecond';
    v_picked := '{}';
    if v_owner_only is not null then
      select coalesce(array_agg(l.r), '{}') into v_picked
      from (select r from darkroom.task_ready r
            where r.owner_id = v_owner_only and r.task_type = any (v_types) and not r.parked and r.owner_id <> all (v_busy)
            order by r.created_at, r.job_no limit v_want
            for update skip locked) l;
    else
      for v_head in
        select ty.name, h.created_at, h.job_no
        from unnest(v_types) as ty (name)
        cross join lateral (select r.created_at, r.job_no from darkroom.task_ready r
                            where r.task_type = ty.name and not r.parked and r.created_at >= v_mark and r.owner_id <> all (v_busy)
                            order by r.created_at, r.job_no limit 1) h
        order by h.created_at, h.job_no
      loop
        exit when cardinality(v_picked) = v_want
          and (v_head.created_at, v_head.job_no) > (v_picked[v_want].created_at, v_picked[v_want].job_no);
        select array_agg(l.r) into v_found
        from (select r from darkroom.task_ready r
              where r.task_type = v_head.name and not r.parked and (r.created_at, r.job_no) >= (v_head.created_at, v_head.job_no) and r.owner_id <> all (v_busy)
              order by r.created_at, r.job_no limit v_want
              for update skip locked) l;
        if cardinality(v_picked) = 0 then
          v_picked := coalesce(v_found, '{}');
        else
          select array_agg(m.r) into v_picked
          from (select f as r from unnest(v_picked || v_found) f order by f.created_at, f.job_no limit v_want) m;
        end if;
      end loop;
    end if;

    v_seen := cardinality(v_picked);
    if cardinality(v_picked) > c_lane then
      select array_agg(c.r order by c.place) into v_picked
      from (select n.r, n.place, max(n.nth) over (order by n.place rows between unbounded preceding and 1 preceding) as before
            from (select p as r, row_number() over (order by p.created_at, p.job_no) as place,
                    row_number() over (partition by p.owner_id, p.task_type, p.cost order by p.created_at, p.job_no) as nth
                  from unnest(v_picked) p) n) c
      where coalesce(c.before, 0) < c_lane;
    end if;

    if cardinality(v_picked) = 0 then
      -- Nothing there. Ask to be woken, then look once more: what came in between has rung no bell.
      exit when v_armed or v_total > 0;
      v_armed := true;
      if (select b.last_value from darkroom.worker_bell b) <> 2 then
        perform setval('darkroom.worker_bell', 2);
      end if;
      continue;
    end if;

    -- lock the owners
    for v_owner in
      select p.owner_id from unnest(v_picked) p where p.owner_id <> all (v_locked) group by p.owner_id
      order by min(p.created_at), p.owner_id
    loop
      if darkroom.lock_owner(v_owner, cardinality(v_locked) = 0, '250ms') then
        v_locked := v_locked || v_owner;
      else
        v_busy := v_busy || v_owner;
      end if;
    end loop;

    -- claim: what its owner can pay in order of age, if the row says that it can run; hold its cost; take it out of the queue
    return query
    with mine as (
      select p.*, sum(p.cost) over (partition by p.owner_id order by p.created_at, p.job_no) as upto
      from unnest(v_picked) p
      where p.owner_id = any (v_locked)
    ), accounts as (
      select o.owner_id, a.seq, a.balance_after, a.held_after
      from (select distinct m.owner_id from mine m where m.cost > 0) o
      cross join lateral (select l.* from public.credit_ledger l where l.owner_id = o.owner_id order by l.seq desc limit 1) a
    ), claimed as (
      update public.tasks t
      set status = 'In Progress', worker_id = v_worker, claimed_at = clock_timestamp(), attempt = t.attempt + 1,
          progress = null, run_after = null, updated_at = clock_timestamp()
      from mine m left join accounts a on a.owner_id = m.owner_id
      where t.id = m.task_id and (t.status = 'Queued') is true and (m.cost = 0 or m.upto <= a.balance_after - a.held_after)
        and (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no) = (m.owner_id, m.task_type, m.cost, m.created_at, m.job_no)
        and (t.dependant_on is null or not exists (select from public.tasks d where d.id = any (t.dependant_on) and d.status <> 'Complete'))
      returning t.*
    ), holds as (
      insert into public.credit_ledger (owner_id, seq, kind, amount, balance_after, held_after, task_id, attempt)
      select c.owner_id, a.seq + row_number() over w, 'hold', c.cost, a.balance_after, a.held_after + sum(c.cost) over w, c.id, c.attempt
      from claimed c join accounts a on a.owner_id = c.owner_id
      where c.cost > 0
      window w as (partition by c.owner_id order by c.created_at, c.job_no)
    ), gone as (
      delete from darkroom.task_ready r using claimed c
      where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (c.owner_id, c.task_type, c.cost, c.created_at, c.job_no)
    )
    select c.* from claimed c order by c.created_at, c.job_no;
    get diagnostics v_count = row_count;

    -- what could not be claimed
    if v_count < cardinality(v_picked) then
      perform darkroom.set_aside(p) from unnest(v_picked) p
      where p.owner_id = any (v_locked) and exists (
        select from darkroom.task_ready r
        where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (p.owner_id, p.task_type, p.cost, p.created_at, p.job_no));
    end if;

    -- refill the lanes that rows have left
    v_refilled := false;
    for v_lane in
      select distinct on (p.owner_id, p.task_type, p.cost) p.* from unnest(v_picked) p
      where p.owner_id = any (v_locked) and not exists (
        select from darkroom.task_ready r
        where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (p.owner_id, p.task_type, p.cost, p.created_at, p.job_no))
      order by p.owner_id, p.task_type, p.cost, p.created_at desc, p.job_no desc
    loop
      v_refilled := darkroom.refill_lane(v_lane.owner_id, v_lane.task_type, v_lane.cost, v_lane.created_at, v_lane.job_no, false) or v_refilled;
    end loop;

    v_total := v_total + v_count;
    exit when v_total >= max_tasks or v_seen < v_want and v_count = v_seen and not v_refilled;  -- that was all
  end loop;
end
$$;
comment on function public.claim_next_tasks is 'Hands a worker its next tasks, oldest first, and holds their cost.';
revoke all on function public.claim_next_tasks from public;
grant execute on function public.claim_next_tasks to worker, service_role;
