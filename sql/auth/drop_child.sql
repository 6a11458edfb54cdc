-- Cancels one Queued task in the tree of an orchestrator that the caller's worker runs, and leaves the rest of the tree as it is: for a worker that
-- made a child twice. public.cancel_task would end the tree. Returns the task as it was before. A task that is Cancelled already is returned as it is.
-- Raises TD021 (no such child), TD023 (another unfinished task waits for it) and TD032 (it runs or has ended). For role worker.
-- Writes tasks and the queue.
create or replace function auth.drop_child(task_id uuid)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_owner uuid;
  v_task public.tasks;
begin
  select t.owner_id into v_owner from public.tasks t
  where t.id = drop_child.task_id and t.id = any (darkroom.tasks_of_worker()) and t.orchestrator_task_id is not null;
  if not found then
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s in a tree that you run.', drop_child.task_id);
  end if;
  perform darkroom.lock_owner(v_owner);
  select t.* into v_task from public.tasks t where t.id = drop_child.task_id for update;
  if v_task.status = 'Cancelled' then
    return next v_task;
    return;
  elsif v_task.status <> 'Queued' then
    raise exception 'Task has ended' using errcode = 'TD032',
      detail = format('Task %s is %s; only a Queued task can be dropped.', v_task.id, v_task.status), hint = 'Nothing was changed.';
  elsif exists (select from darkroom.task_deps d where d.dep_id = v_task.id) then
    raise exception 'Invalid dependency' using errcode = 'TD023', detail = format('Another task waits for task %s.', v_task.id),
      hint = 'Drop that one first.';
  end if;
  update public.tasks t
  set status = 'Cancelled', error_message = 'Dropped by the worker that made it.', run_after = null,
      completed_at = clock_timestamp(), updated_at = clock_timestamp()
  where t.id = v_task.id;
  perform darkroom.drop_from_queue(v_task);
  return next v_task;
end
$$;
comment on function auth.drop_child is 'Cancels one Queued child that a worker made twice.';
revoke all on function auth.drop_child from public;
grant execute on function auth.drop_child to worker;
