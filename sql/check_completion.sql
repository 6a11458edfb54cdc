-- Where files of a task go that the caller is about to complete, and whether files stored already may be its output: {"folder", "owner_id", "status",
-- "output_location", "thumbnail_url"}; folder is "{owner}/tasks/{task}/{attempt}". The caller holds the task, or held it last and it is Queued again
-- or Complete. storage_paths are keys of our storage; see darkroom.check_output. Decides nothing: complete_task asks all of it again.
-- Raises TD021 (no task that the caller knows of), TD031 (the caller does not hold it, or a file is another attempt's), TD032 (it has ended), TD041 (a file is not the task's).
create or replace function public.check_completion(task_id uuid, storage_paths text[] default '{}')
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks := darkroom.known_task(check_completion.task_id);
  v_path text;
begin
  if not darkroom.holds_task(v_task, true) then
    perform darkroom.refuse_hold(v_task, null, null);
  end if;
  if v_task.status <> 'Complete' then
    foreach v_path in array storage_paths loop
      perform darkroom.check_output(v_task, v_path, v_task.attempt);
    end loop;
  end if;
  return jsonb_build_object('folder', format('%s/tasks/%s/%s', v_task.owner_id, v_task.id, v_task.attempt), 'owner_id', v_task.owner_id,
    'status', v_task.status, 'output_location', v_task.output_location, 'thumbnail_url', v_task.thumbnail_url);
end
$$;
comment on function public.check_completion is 'Where files of a task go that the caller holds.';
revoke all on function public.check_completion from public;
grant execute on function public.check_completion to worker, service_role;
