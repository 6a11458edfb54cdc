-- Repairs the queue of one owner: each Queued task gets its one right place, what is not Queued leaves, affordable lanes are shown.
-- Returns how many faults it mended. It should find none; each one is recorded in darkroom.queue_repairs.
create or replace function public.admit_tasks(user_id uuid)
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks;
  v_account public.credit_ledger;
  v_lane record;
  v_faults integer := 0;
  v_found integer;
begin
  perform darkroom.lock_owner(admit_tasks.user_id);

  -- hints that the task's row does not bear out
  with queued as (
    select t.*, t.run_after > clock_timestamp() as delayed, exists (
             select from public.tasks d where d.id = any (t.dependant_on) and d.status <> 'Complete') as waits
    from public.projects p join public.tasks t on t.project_id = p.id
    where p.owner_id = admit_tasks.user_id and t.status = 'Queued'
  ), runnable as (
    select q.* from queued q where not coalesce(q.delayed, false) and not q.waits
  ), stale_ready as (
    delete from darkroom.task_ready r
    using (select l.* from darkroom.task_ready l where l.owner_id = admit_tasks.user_id
             and not exists (select from runnable t where t.id = l.task_id
               and (t.task_type, t.cost, t.created_at, t.job_no) = (l.task_type, l.cost, l.created_at, l.job_no)) for update skip locked) s
    where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (s.owner_id, s.task_type, s.cost, s.created_at, s.job_no)
    returning r.task_id, 'ready, but cannot run' as fault
  ), stale_backlog as (
    delete from darkroom.task_backlog b where b.owner_id = admit_tasks.user_id
      and (not exists (select from runnable t where t.id = b.task_id
             and (t.task_type, t.cost, t.created_at, t.job_no) = (b.task_type, b.cost, b.created_at, b.job_no))
           or exists (select from darkroom.task_ready r
             where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no)))
    returning b.task_id, 'backlog, but cannot run or is also ready' as fault
  ), stale_deps as (
    delete from darkroom.task_deps d where d.owner_id = admit_tasks.user_id
      and not exists (select from queued t join public.tasks w on w.id = d.dep_id
        where t.id = d.task_id and d.dep_id = any (t.dependant_on) and w.status in ('Queued', 'In Progress'))
    returning d.task_id, 'waits for nothing' as fault
  ), stale_delayed as (
    delete from darkroom.task_delayed d where d.owner_id = admit_tasks.user_id
      and (not exists (select from queued t where t.id = d.task_id and t.run_after = d.run_after)
           or d.run_after <= clock_timestamp() and (
             exists (select from darkroom.task_ready r where r.owner_id = d.owner_id and r.task_id = d.task_id)
             or exists (select from darkroom.task_backlog b where b.owner_id = d.owner_id and b.task_id = d.task_id)))
    returning d.task_id, 'delayed, but not Queued or not delayed' as fault
  ), missing_deps as (
    insert into darkroom.task_deps (owner_id, dep_id, task_id)
    select t.owner_id, d.id, t.id from queued t join public.tasks d on d.id = any (t.dependant_on)
    where d.status in ('Queued', 'In Progress')
    on conflict do nothing
    returning task_id, 'does not wait for all it must' as fault
  )
  insert into darkroom.queue_repairs (owner_id, task_id, fault)
  select admit_tasks.user_id, f.task_id, f.fault
  from (select * from stale_ready union all select * from stale_backlog union all select * from stale_deps
        union all select * from stale_delayed union all select * from missing_deps) f;
  get diagnostics v_found = row_count;
  v_faults := v_faults + v_found;

  -- lanes whose backlog is not younger than their ready rows, or that stand empty before it: bring the oldest forward
  for v_lane in
    select b.owner_id, b.task_type, b.cost, min(b.created_at) as oldest,
           (select max(r.created_at) from darkroom.task_ready r
            where r.owner_id = b.owner_id and r.task_type = b.task_type and r.cost = b.cost) as youngest
    from darkroom.task_backlog b where b.owner_id = admit_tasks.user_id
    group by b.owner_id, b.task_type, b.cost
  loop
    with moved as (
      delete from darkroom.task_backlog b
      where b.owner_id = v_lane.owner_id and b.task_type = v_lane.task_type and b.cost = v_lane.cost
        and b.created_at <= coalesce(v_lane.youngest, v_lane.oldest)
      returning b.*
    ), shown as (
      insert into darkroom.task_ready (owner_id, task_type, cost, created_at, job_no, task_id)
      select m.owner_id, m.task_type, m.cost, m.created_at, m.job_no, m.task_id from moved m
    )
    insert into darkroom.queue_repairs (owner_id, task_id, fault)
    select m.owner_id, m.task_id, 'backlog, but as old as ready' from moved m;
    get diagnostics v_found = row_count;
    v_faults := v_faults + v_found;
    perform darkroom.lower_ready_mark(v_lane.oldest);
    perform darkroom.refill_lane(v_lane.owner_id, v_lane.task_type, v_lane.cost, '-infinity', 0, false);
  end loop;

  -- Queued tasks that stand nowhere
  for v_task in
    select t.* from public.projects p join public.tasks t on t.project_id = p.id
    where p.owner_id = admit_tasks.user_id and t.status = 'Queued'
      and not exists (select from darkroom.task_ready r
        where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no))
      and not exists (select from darkroom.task_backlog b
        where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no) = (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no))
      and not exists (select from darkroom.task_deps d where d.task_id = t.id)
      and not exists (select from darkroom.task_delayed d where d.task_id = t.id)
    order by t.created_at, t.job_no
  loop
    perform darkroom.file_task(v_task);
    insert into darkroom.queue_repairs (owner_id, task_id, fault) values (v_task.owner_id, v_task.id, 'Queued, but nowhere');
    v_faults := v_faults + 1;
  end loop;

  -- parked lanes that can be paid
  v_account := darkroom.account(admit_tasks.user_id);
  insert into darkroom.queue_repairs (owner_id, task_id, fault)
  select r.owner_id, r.task_id, 'parked, but affordable' from darkroom.task_ready r
  where r.owner_id = admit_tasks.user_id and r.parked and r.cost <= coalesce(v_account.balance_after - v_account.held_after, 0);
  get diagnostics v_found = row_count;
  if v_found > 0 then
    perform darkroom.unpark_lanes(admit_tasks.user_id, coalesce(v_account.balance_after - v_account.held_after, 0));
  end if;
  return v_faults + v_found;
end
$$;
comment on function public.admit_tasks is 'Repairs the queue of one owner; it should find nothing to mend.';
revoke all on function public.admit_tasks from public;
grant execute on function public.admit_tasks to service_role;
