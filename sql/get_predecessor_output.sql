-- What the task made that this one waits for: {"predecessor_id", "output_location", "status"}; null when it waits for none. Of several it is the first, and all
-- stand in "predecessors". Raises TD021 (no task that the caller knows of), TD041.
create or replace function public.get_predecessor_output(task_id uuid)
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks := darkroom.known_task(get_predecessor_output.task_id);
  v_list jsonb;
begin
  select jsonb_agg(jsonb_build_object('predecessor_id', t.id, 'output_location', t.output_location, 'status', t.status) order by d.place) into v_list
  from unnest(v_task.dependant_on) with ordinality as d (id, place) join public.tasks t on t.id = d.id;
  return v_list -> 0 || case when jsonb_array_length(v_list) > 1 then jsonb_build_object('predecessors', v_list) else '{}' end;
end
$$;
comment on function public.get_predecessor_output is 'Output of the task that a task waits for.';
revoke all on function public.get_predecessor_output from public;
grant execute on function public.get_predecessor_output to worker, service_role;
