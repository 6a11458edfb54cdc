-- The oldest task of these types that can run now, In Progress under this worker, its cost held; null when there is none. claim_next_tasks says what
-- that means; this is the same for one task, with a statement for each step, which costs half of a batch of one.
-- p_owner: only tasks of this user; null: everybody's.
create or replace function darkroom.claim_one(p_worker text, p_owner uuid, p_types text[])
returns public.tasks
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Planned once, for any size of the tables: a plan made when they were empty must not be a scan.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  v_ignored boolean;
  v_mark timestamptz;
  v_head record;
  v_found darkroom.task_ready;
  v_row darkroom.task_ready;
  v_busy uuid[] := array[]::uuid[];    -- owners whose lock could not be had
  v_locked uuid[] := array[]::uuid[];  -- owners whose lock we hold
  v_armed boolean := false;
  v_task public.tasks;
begin
  loop
    -- pick and lock the oldest ready row: types in the order of their heads, each only if it can beat what is picked
    v_mark := timestamptz 'epoch' + coalesce(pg_sequence_last_value('darkroom.ready_mark'), 0) * interval '1 microsecond';
    v_row := null;
    if p_owner is not null then
      select r.* into v_row from darkroom.task_ready r
      where r.owner_id = p_owner and r.task_type = any (p_types) and not r.parked and r.owner_id <> all (v_busy)
      order by r.created_at, r.job_no limit 1
      for update skip locked;
    else
      for v_head in
        select ty.name, h.created_at, h.job_no
        from unnest(p_types) as ty (name)
        cross join lateral (select r.created_at, r.job_no from darkroom.task_ready r
                            where r.task_type = ty.name and not r.parked and r.created_at >= v_mark and r.owner_id <> all (v_busy)
                            order by r.created_at, r.job_no limit 1) h
        order by h.created_at, h.job_no
      loop
        exit when v_row.task_id is not null and (v_head.created_at, v_head.job_no) > (v_row.created_at, v_row.job_no);
        select r.* into v_found from darkroom.task_ready r
        where r.task_type = v_head.name and not r.parked and (r.created_at, r.job_no) >= (v_head.created_at, v_head.job_no) and r.owner_id <> all (v_busy)
        order by r.created_at, r.job_no limit 1
        for update skip locked;
        if found and (v_row.task_id is null or (v_found.created_at, v_found.job_no) < (v_row.created_at, v_row.job_no)) then
          v_row := v_found;
        end if;
      end loop;
    end if;

    if v_row.task_id is null then
      -- Nothing there. Ask to be woken, then look once more: what came in between has rung no bell.
      if v_armed then
        return null;
      end if;
      v_armed := true;
      if pg_sequence_last_value('darkroom.worker_bell') is distinct from 2 then
        perform setval('darkroom.worker_bell', 2);
      end if;
      continue;
    end if;

    -- lock the owner
    if v_row.owner_id <> all (v_locked) then
      if not darkroom.lock_owner(v_row.owner_id, cardinality(v_locked) = 0, '250ms') then
        v_busy := v_busy || v_row.owner_id;
        continue;
      end if;
      v_locked := v_locked || v_row.owner_id;
    end if;

    -- hold and claim: if its owner can pay, and the row says that it can run
    if v_row.cost > 0 then
      insert into public.credit_ledger (owner_id, seq, kind, amount, balance_after, held_after, task_id, attempt)
      select t.owner_id, a.seq + 1, 'hold', t.cost, a.balance_after, a.held_after + t.cost, t.id, t.attempt + 1
      from public.tasks t
      cross join lateral (select l.* from public.credit_ledger l where l.owner_id = v_row.owner_id order by l.seq desc limit 1) a
      where t.id = v_row.task_id and (t.status = 'Queued') is true and t.cost <= a.balance_after - a.held_after
        and t.owner_id = v_row.owner_id and t.task_type = v_row.task_type and t.cost = v_row.cost
        and t.created_at = v_row.created_at and t.job_no = v_row.job_no
        and (t.dependant_on is null or not exists (select from public.tasks d where d.id = any (t.dependant_on) and d.status <> 'Complete'));
      if not found then
        perform darkroom.set_aside(v_row);
        continue;
      end if;
    end if;
    update public.tasks t
    set status = 'In Progress', worker_id = p_worker, claimed_at = clock_timestamp(), attempt = t.attempt + 1,
        progress = null, run_after = null, updated_at = clock_timestamp()
    where t.id = v_row.task_id and (t.status = 'Queued') is true
      and t.owner_id = v_row.owner_id and t.task_type = v_row.task_type and t.cost = v_row.cost
      and t.created_at = v_row.created_at and t.job_no = v_row.job_no
      and (t.dependant_on is null or not exists (select from public.tasks d where d.id = any (t.dependant_on) and d.status <> 'Complete'))
    returning t.* into v_task;
    if not found then
      assert v_row.cost = 0, 'The task was changed by somebody who does not hold its owner''s lock.';
      perform darkroom.set_aside(v_row);
      continue;
    end if;
    delete from darkroom.task_ready r
    where r.owner_id = v_row.owner_id and r.task_type = v_row.task_type and r.cost = v_row.cost
      and r.created_at = v_row.created_at and r.job_no = v_row.job_no;
    v_ignored := darkroom.refill_lane(v_row.owner_id, v_row.task_type, v_row.cost, v_row.created_at, v_row.job_no, false);
    return v_task;
  end loop;
end
$$;
comment on function darkroom.claim_one is 'Claims the oldest task of these types for a worker, and holds its cost.';
revoke all on function darkroom.claim_one from public;
