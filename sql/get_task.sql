-- One task. Raises TD021 (no such task of the caller's), TD040.
create or replace function public.get_task(task_id uuid)
returns public.tasks
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks;
begin
  select t.* into v_task from public.tasks t where t.id = get_task.task_id;
  if not found or v_task.owner_id <> darkroom.caller_owner() then
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s.', get_task.task_id);
  end if;
  return v_task;
end
$$;
comment on function public.get_task is 'One task.';
revoke all on function public.get_task from public;
grant execute on function public.get_task to authenticated, service_role;
