-- The task, if the caller knows of it: the service and workers that log in to the database know all tasks, a worker's token those that it sees
-- (darkroom.tasks_of_worker) and those that its workers have held. Raises TD021 for all others, TD041 for callers that are no workers.
create or replace function darkroom.known_task(p_task uuid)
returns public.tasks
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_token uuid := darkroom.caller_token();
  v_task public.tasks;
begin
  select t.* into v_task from public.tasks t where t.id = p_task;
  if not found or v_task.owner_id <> darkroom.caller_owner()
     or v_token is not null and p_task <> all (darkroom.tasks_of_worker())
        and not exists (select from public.workers w where w.id = v_task.worker_id and w.token_id = v_token)
        and not exists (select from public.task_attempts a join public.workers w on w.id = a.worker_id
                        where a.task_id = p_task and w.token_id = v_token) then
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s.', p_task);
  end if;
  return v_task;
end
$$;
comment on function darkroom.known_task is 'The task, if the caller knows of it.';
revoke all on function darkroom.known_task from public;
