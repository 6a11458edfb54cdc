-- {"status", "output_location", "params", "dependant_on"} of a task; a failed one says why in output_location.
-- Raises TD021 (no task that the caller knows of), TD041.
create or replace function public.get_task_output(task_id uuid)
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks := darkroom.known_task(get_task_output.task_id);
begin
  return jsonb_build_object('status', v_task.status, 'params', v_task.params, 'dependant_on', v_task.dependant_on,
    'output_location', coalesce(v_task.output_location, case when v_task.status = 'Failed' then v_task.error_message end));
end
$$;
comment on function public.get_task_output is 'Status, output and params of a task.';
revoke all on function public.get_task_output from public;
grant execute on function public.get_task_output to worker, service_role;
