-- The slow repair behind everything: looks at the oldest Queued tasks and at all hints, and calls admit_tasks for the owners where
-- something does not fit; makes missing generations. To be called about once a minute. Returns what it looked at and mended:
-- anything but zero repairs is a fault of ours and worth an alarm. Owners that are busy come at the next call.
create or replace function public.sweep_tasks(max_tasks integer default 20000)
returns public.sweep_report
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_owner uuid;
  v_report public.sweep_report := (0, 0, 0);
begin
  perform darkroom.refuse_tokens();
  -- first, because it waits for owners, in their order: afterwards none is waited for
  select count(*)::integer into v_report.admitted from public.repair_generations(null, 1000);

  for v_owner in
    with queued as (
      select t.* from public.tasks t where t.status = 'Queued' order by t.created_at limit sweep_tasks.max_tasks
    ), backlog as (
      select b.* from darkroom.task_backlog b limit sweep_tasks.max_tasks
    )
    -- Queued, but nowhere, or not waiting for all it must
    select q.owner_id from queued q
    where not exists (select from darkroom.task_ready r
        where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (q.owner_id, q.task_type, q.cost, q.created_at, q.job_no))
      and not exists (select from darkroom.task_backlog b
        where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no) = (q.owner_id, q.task_type, q.cost, q.created_at, q.job_no))
      and not exists (select from darkroom.task_deps d where d.task_id = q.id)
      and not exists (select from darkroom.task_delayed d where d.task_id = q.id)
    union
    select q.owner_id from queued q join public.tasks w on w.id = any (q.dependant_on)
    where w.status <> 'Complete' and not exists (select from darkroom.task_deps d where d.dep_id = w.id and d.task_id = q.id)
    union
    -- ready or backlog, but cannot run, or in two places
    select h.owner_id
    from (select r.owner_id, r.task_type, r.cost, r.created_at, r.job_no, r.task_id from darkroom.task_ready r
          union all select b.* from backlog b) h
    where not exists (select from public.tasks t where t.id = h.task_id and (t.status = 'Queued') is true and coalesce(t.run_after <= clock_timestamp(), true)
            and (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no) = (h.owner_id, h.task_type, h.cost, h.created_at, h.job_no))
       or exists (select from darkroom.task_deps d where d.task_id = h.task_id)
       or exists (select from darkroom.task_delayed d where d.task_id = h.task_id)
    union
    select b.owner_id from backlog b
    where exists (select from darkroom.task_ready r
      where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no))
    union
    -- parked, but affordable
    select r.owner_id from (select distinct l.owner_id, l.cost from darkroom.task_ready l where l.parked) r
    left join lateral darkroom.account(r.owner_id) a on true
    where r.cost <= coalesce(a.balance_after - a.held_after, 0)
    union
    -- backlog, but as old as ready
    select b.owner_id from (select o.owner_id, o.task_type, o.cost, min(o.created_at) as oldest
                            from darkroom.task_backlog o group by o.owner_id, o.task_type, o.cost) b
    where not exists (select from darkroom.task_ready r
                      where r.owner_id = b.owner_id and r.task_type = b.task_type and r.cost = b.cost)
       or exists (select from darkroom.task_ready r
                  where r.owner_id = b.owner_id and r.task_type = b.task_type and r.cost = b.cost and r.created_at > b.oldest)
    union
    -- waits for what has ended, or for what it does not depend on
    select d.owner_id from darkroom.task_deps d
    where not exists (select from public.tasks t join public.tasks w on w.id = d.dep_id
      where t.id = d.task_id and (t.status = 'Queued') is true and d.dep_id = any (t.dependant_on) and w.status in ('Queued', 'In Progress'))
    union
    -- delayed, but not Queued, or until another time
    select d.owner_id from darkroom.task_delayed d
    where not exists (select from public.tasks t where t.id = d.task_id and (t.status = 'Queued') is true and t.run_after = d.run_after)
    order by 1
  loop
    v_report.checked := v_report.checked + 1;
    if darkroom.lock_owner(v_owner, false) then
      v_report.repaired := v_report.repaired + public.admit_tasks(v_owner);
    end if;
  end loop;
  return v_report;
end
$$;
comment on function public.sweep_tasks is 'Looks for anything the queue or the trigger missed, and mends it.';
revoke all on function public.sweep_tasks from public;
grant execute on function public.sweep_tasks to worker, service_role;
