-- What the tasks that this one waits for have made, in the order of dependant_on. No row: it waits for none.
-- Raises TD021 (no such task, or with a token: none that it runs).
create or replace function public.get_dependency_outputs(task_id uuid)
returns setof public.dependency_output
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_deps uuid[];
begin
  select t.dependant_on into v_deps from public.tasks t where t.id = get_dependency_outputs.task_id;
  if not found or darkroom.caller_token() is not null and get_dependency_outputs.task_id <> all (darkroom.tasks_of_worker()) then
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s.', get_dependency_outputs.task_id);
  end if;
  return query
  select d.place::integer, t.id, t.task_type, t.output_location, t.params, t.metadata
  from unnest(v_deps) with ordinality as d (id, place) join public.tasks t on t.id = d.id
  order by d.place;
end
$$;
comment on function public.get_dependency_outputs is 'Outputs of the tasks that a task waits for.';
revoke all on function public.get_dependency_outputs from public;
grant execute on function public.get_dependency_outputs to worker, service_role;
