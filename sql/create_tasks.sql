-- Creates several tasks in one transaction, all or none, and returns them in the order given. Each is an element of type
-- new_task: the arguments of create_task. A later one may depend on an earlier one by its task_id. All must be of one owner, or
-- given in order of owners. Raises what create_task raises. TD003 for more than 10,000 at once.
create or replace function public.create_tasks(tasks public.new_task[])
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  c_max constant integer := 10000;
  v_new public.new_task;
begin
  if cardinality(tasks) > c_max then
    raise exception 'Invalid params' using errcode = 'TD003', detail = format('Up to %s tasks can be created at once.', c_max);
  end if;

  -- To be filed together. See darkroom.file_new_tasks.
  if cardinality(tasks) > 1 then
    perform set_config('darkroom.filed', '-|0|infinity', true);
  end if;

  -- Without ids and keys none is a repeat: together.
  if not exists (select from unnest(create_tasks.tasks) n where n.project_id is null or n.task_id is not null or n.idempotency_key is not null) then
    return query
    insert into public.tasks as t (project_id, tool_id, task_type, params, dependant_on)
    select n.project_id, n.tool_id, n.task_type, coalesce(n.params, n.input), nullif(n.dependant_on, '{}')
    from unnest(create_tasks.tasks) with ordinality n (project_id, tool_id, input, task_id, task_type, params, dependant_on, idempotency_key, place)
    order by n.place
    returning t.*;
    return;
  end if;
  foreach v_new in array coalesce(tasks, '{}') loop
    return next public.create_task(v_new.project_id, v_new.tool_id, v_new.input, v_new.task_id, v_new.task_type, v_new.params,
                                   v_new.dependant_on, v_new.idempotency_key);
  end loop;
end
$$;
comment on function public.create_tasks is 'Creates several tasks, all or none.';
revoke all on function public.create_tasks from public;
grant execute on function public.create_tasks to authenticated, worker, service_role;
