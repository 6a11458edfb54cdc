-- The spec's name for the end of a task: output {"output_location", "metadata"?, "thumbnail_url"?} completes it, and
-- {"success": false, "error_message"} fails it. See complete_task and fail_task for the fence and the errors.
create or replace function public.process_completed_task(
  task_id uuid, output jsonb, worker_id text default null, attempt integer default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if output is null or jsonb_typeof(output) <> 'object' then
    raise exception 'Missing required fields' using errcode = 'TD001', detail = 'output must be a JSON object.';
  elsif output -> 'success' = 'false' then
    return public.fail_task(process_completed_task.task_id, coalesce(output ->> 'error_message', 'The worker gave no reason.'),
                            process_completed_task.worker_id, process_completed_task.attempt);
  end if;
  return public.complete_task(process_completed_task.task_id, output ->> 'output_location', process_completed_task.worker_id,
                              process_completed_task.attempt, coalesce(output -> 'metadata', '{}'), output ->> 'thumbnail_url');
end
$$;
comment on function public.process_completed_task is 'The spec''s name for complete_task and fail_task.';
revoke all on function public.process_completed_task from public;
grant execute on function public.process_completed_task to worker, service_role;
