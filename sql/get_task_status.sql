-- {"status"} of a task. Raises TD021 (no task that the caller knows of), TD041.
create or replace function public.get_task_status(task_id uuid)
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks := darkroom.known_task(get_task_status.task_id);
begin
  return jsonb_build_object('status', v_task.status);
end
$$;
comment on function public.get_task_status is 'Status of a task.';
revoke all on function public.get_task_status from public;
grant execute on function public.get_task_status to worker, service_role;
