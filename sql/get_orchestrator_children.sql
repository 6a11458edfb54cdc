-- The tasks of an orchestrator's tree, oldest first: {"tasks": [{"id", "task_type", "status", "params", "output_location", "dependant_on"}]}. A failed one says why in
-- output_location. Raises TD021 (no task that the caller knows of), TD041.
create or replace function public.get_orchestrator_children(orchestrator_task_id uuid)
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks := darkroom.known_task(get_orchestrator_children.orchestrator_task_id);
begin
  return jsonb_build_object('tasks', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'id', c.id, 'task_type', c.task_type, 'status', c.status, 'params', c.params, 'dependant_on', c.dependant_on,
      'output_location', coalesce(c.output_location, case when c.status = 'Failed' then c.error_message end)) order by c.created_at, c.job_no), '[]')
    from public.tasks c where c.orchestrator_task_id = v_task.id));
end
$$;
comment on function public.get_orchestrator_children is 'The tasks of an orchestrator''s tree.';
revoke all on function public.get_orchestrator_children from public;
grant execute on function public.get_orchestrator_children to worker, service_role;
