-- Files the tasks whose retry is due and returns how many. To be called about every second. Busy owners come at the next call.
create or replace function public.admit_due_tasks(max_tasks integer default 1000)
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_due record;
  v_task public.tasks;
  v_count integer := 0;
begin
  perform darkroom.refuse_tokens();
  for v_due in
    select d.owner_id, d.task_id from darkroom.task_delayed d where d.run_after <= clock_timestamp()
    order by d.run_after limit admit_due_tasks.max_tasks
  loop
    continue when not darkroom.lock_owner(v_due.owner_id, false);
    delete from darkroom.task_delayed d where d.task_id = v_due.task_id and d.run_after <= clock_timestamp();
    if found then
      select t.* into v_task from public.tasks t where t.id = v_due.task_id and (t.status = 'Queued') is true;
      if found then
        perform darkroom.file_task(v_task);
        v_count := v_count + 1;
      end if;
    end if;
  end loop;
  return v_count;
end
$$;
comment on function public.admit_due_tasks is 'Files the tasks whose retry is due.';
revoke all on function public.admit_due_tasks from public;
grant execute on function public.admit_due_tasks to worker, service_role;
