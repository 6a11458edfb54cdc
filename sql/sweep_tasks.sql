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
  for v_owner in
    with queued as (
      select t.* from public.tasks t where t.status = 'Queued' order by t.created_at limit sweep_tasks.max_tasks
    )
    select q.owner_id from queued q
    where not exists (select from darkroom.task_ready r
        where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (q.owner_id, q.task_type, q.cost, q.created_at, q.job_no))
      and not exists (select from darkroom.task_backlog b
        where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no) = (q.owner_id, q.task_type, q.cost, q.created_at, q.job_no))
      and not exists (select from darkroom.task_deps d where d.task_id = q.id)
      and not exists (select from darkroom.task_delayed d where d.task_id = q.id)
    union
    select r.owner_id from darkroom.task_ready r
    where not exists (select from public.tasks t where t.id = r.task_id and t.status = 'Queued')
    union
    select r.owner_id from (select distinct l.owner_id, l.cost from darkroom.task_ready l where l.parked) r
    left join lateral darkroom.account(r.owner_id) a on true
    where r.cost <= coalesce(a.balance_after - a.held_after, 0)
    union
    select b.owner_id from (select o.owner_id, o.task_type, o.cost, min(o.created_at) as oldest
                            from darkroom.task_backlog o group by o.owner_id, o.task_type, o.cost) b
    where not exists (select from darkroom.task_ready r
                      where r.owner_id = b.owner_id and r.task_type = b.task_type and r.cost = b.cost)
       or exists (select from darkroom.task_ready r
                  where r.owner_id = b.owner_id and r.task_type = b.task_type and r.cost = b.cost and r.created_at > b.oldest)
    union
    select d.owner_id from darkroom.task_deps d
    where not exists (select from public.tasks t where t.id = d.task_id and t.status = 'Queued')
       or not exists (select from public.tasks t where t.id = d.dep_id and t.status in ('Queued', 'In Progress'))
    order by 1
  loop
    v_report.checked := v_report.checked + 1;
    if darkroom.lock_owner(v_owner, false) then
      v_report.repaired := v_report.repaired + public.admit_tasks(v_owner);
    end if;
  end loop;

  select count(*)::integer into v_report.admitted from public.repair_generations(null, 1000);
  return v_report;
end
$$;
comment on function public.sweep_tasks is 'Looks for anything the queue or the trigger missed, and mends it.';
revoke all on function public.sweep_tasks from public;
grant execute on function public.sweep_tasks to worker, service_role;
