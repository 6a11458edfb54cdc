-- Gives a Queued task its one place: delayed, deps, ready or backlog. The caller holds the owner's lock.
-- Returns where: 'delayed', 'deps', 'ready', 'backlog', or 'failed' when a dependency already ended badly.
--
-- Ready holds the oldest of each lane, up to 16; the backlog is always younger. An older arrival (a retry, a late commit)
-- goes straight to ready, so the oldest of a lane never has to be looked for.
create or replace function darkroom.file_task(p_task public.tasks)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  c_window constant integer := 16;
  v_mark timestamptz;
  v_window darkroom.task_ready[];
  v_behind boolean;
  v_dead record;
  v_parked boolean := false;
  v_ignored boolean;
begin
  if p_task.run_after > clock_timestamp() then
    insert into darkroom.task_delayed (owner_id, task_id, run_after) values (p_task.owner_id, p_task.id, p_task.run_after);
    return 'delayed';
  end if;

  if p_task.dependant_on is not null then
    select d.id, d.task_type, d.status into v_dead
    from public.tasks d where d.id = any (p_task.dependant_on) and d.status in ('Failed', 'Cancelled') limit 1;
    if found then
      perform darkroom.close_tasks(p_task.owner_id, p_task.id, 'Failed', format('Waits for task %s (%s), which is %s.', v_dead.id, v_dead.task_type, v_dead.status), 'failed');
      return 'failed';
    end if;
    insert into darkroom.task_deps (owner_id, dep_id, task_id)
    select p_task.owner_id, d.id, p_task.id
    from public.tasks d where d.id = any (p_task.dependant_on) and d.status <> 'Complete';
    if found then
      return 'deps';
    end if;
  end if;

  -- It goes to the backlog when it is younger than the window, and that is full or others wait behind it. The usual case of many, with others there, comes
  -- first, because it looks at two rows. Dead rows of claimed tasks lie at the old end of the window: the mark keeps the look-ups from walking over them.
  -- Parked rows may be older than the mark.
  v_mark := timestamptz 'epoch' + coalesce(pg_sequence_last_value('darkroom.ready_mark'), 0) * interval '1 microsecond';
  perform from (
    select r.created_at, r.job_no from darkroom.task_ready r
    where r.owner_id = p_task.owner_id and r.task_type = p_task.task_type and r.cost = p_task.cost and r.created_at >= v_mark
    order by r.created_at desc, r.job_no desc limit 1) youngest
  where (p_task.created_at, p_task.job_no) > (youngest.created_at, youngest.job_no) and exists (
    select from darkroom.task_backlog b
    where b.owner_id = p_task.owner_id and b.task_type = p_task.task_type and b.cost = p_task.cost
      and (b.created_at, b.job_no) > (youngest.created_at, youngest.job_no));
  v_behind := found;
  if not v_behind then
    select array_agg(w.r order by (w.r).created_at desc, (w.r).job_no desc) into v_window
    from (
      (select r from darkroom.task_ready r
       where r.owner_id = p_task.owner_id and r.task_type = p_task.task_type and r.cost = p_task.cost and r.created_at >= v_mark
       order by r.created_at desc, r.job_no desc limit c_window)
      union all
      (select r from darkroom.task_ready r
       where r.parked and r.owner_id = p_task.owner_id and r.task_type = p_task.task_type and r.cost = p_task.cost
         and r.created_at < v_mark)
    ) w;
    v_behind := (p_task.created_at, p_task.job_no) > (v_window[1].created_at, v_window[1].job_no)
      and (cardinality(v_window) >= c_window or exists (
        select from darkroom.task_backlog b
        where b.owner_id = p_task.owner_id and b.task_type = p_task.task_type and b.cost = p_task.cost
          and (b.created_at, b.job_no) > (v_window[1].created_at, v_window[1].job_no)));
  end if;
  if v_behind then
    insert into darkroom.task_backlog (owner_id, task_type, cost, created_at, job_no, task_id)
    values (p_task.owner_id, p_task.task_type, p_task.cost, p_task.created_at, p_task.job_no, p_task.id);
    return 'backlog';
  end if;

  -- A lane is parked as a whole, but credits may have come while a row of it stood locked.
  if v_window[1].parked then
    select coalesce(a.balance_after - a.held_after, 0) < p_task.cost into v_parked from darkroom.account(p_task.owner_id) a;
  end if;
  insert into darkroom.task_ready (owner_id, task_type, cost, created_at, job_no, task_id, parked)
  values (p_task.owner_id, p_task.task_type, p_task.cost, p_task.created_at, p_task.job_no, p_task.id, v_parked);
  v_ignored := darkroom.lower_ready_mark(p_task.created_at);
  v_ignored := darkroom.notify_workers();
  return 'ready';
end
$$;
comment on function darkroom.file_task is 'Gives a Queued task its one place in the queue; the caller holds the owner''s lock.';
revoke all on function darkroom.file_task from public;
