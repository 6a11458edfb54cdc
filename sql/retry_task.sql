-- Makes a Failed or Cancelled task again: a new one with the same tool, type, params and dependencies, checked and priced as create_task does it now. Returns it;
-- the old one stays as it is. With an idempotency_key a repeat returns the task that is there.
-- Raises TD021 (no such task of the caller's), TD033 (it has not failed, it belongs to a travel's tree, or what it waits for ended badly), TD040, and what
-- create_task raises: TD001-TD004, TD010, TD030 and, at commit, TD011. Writes what create_task writes.
create or replace function public.retry_task(task_id uuid, idempotency_key text default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks := public.get_task(retry_task.task_id);
  v_dead uuid;
begin
  if v_task.status not in ('Failed', 'Cancelled') then
    raise exception 'Nothing to retry' using errcode = 'TD033', detail = format('Task %s is %s.', v_task.id, v_task.status),
      hint = 'Only a Failed or Cancelled task can be made again.';
  elsif v_task.orchestrator_task_id is not null then
    raise exception 'Nothing to retry' using errcode = 'TD033', detail = format('Task %s belongs to the tree of task %s.', v_task.id, v_task.orchestrator_task_id),
      hint = 'Retry that one: it makes the tree anew.';
  end if;
  select t.id into v_dead from public.tasks t where t.id = any (v_task.dependant_on) and t.status in ('Failed', 'Cancelled') limit 1;
  if found then
    raise exception 'Nothing to retry' using errcode = 'TD033', detail = format('It waits for task %s, which will not be complete.', v_dead),
      hint = 'Retry that one, and create this one anew to wait for the new one.';
  end if;
  return public.create_task(v_task.project_id, tool_id => v_task.tool_id, task_type => v_task.task_type, params => v_task.params,
    dependant_on => v_task.dependant_on, idempotency_key => retry_task.idempotency_key);
end
$$;
comment on function public.retry_task is 'Makes a Failed or Cancelled task again, as a new one.';
revoke all on function public.retry_task from public;
grant execute on function public.retry_task to authenticated, service_role;
