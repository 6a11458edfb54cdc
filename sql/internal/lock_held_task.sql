-- Locks the owner of a task, then the task, and checks the fence: it must be In Progress under this worker and attempt.
-- Without worker and attempt the present holder is meant. Raises TD021 (no such task), TD031 (the lease is lost: another attempt,
-- another worker, or queued again) and TD032 (it has ended).
-- A caller with a token has only the tasks of its own workers, p_worker being the name it gives itself; other users' tasks are not found.
-- p_repeat: when this very attempt has ended with that outcome already, the task is returned as it is, not In Progress: the caller
-- repeats itself, and is answered as before. Looked up under the lock, because the first call may be on its way still.
create or replace function darkroom.lock_held_task(p_task uuid, p_worker text, p_attempt integer, p_repeat text default null)
returns public.tasks
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_owner uuid;
  v_task public.tasks;
  v_token uuid := darkroom.caller_token();
  v_worker text := p_worker;
  v_mine boolean;
begin
  select t.owner_id into v_owner from public.tasks t where t.id = p_task and t.owner_id = coalesce(darkroom.caller_owner(), t.owner_id);
  if found then
    perform darkroom.lock_owner(v_owner);
  end if;
  select t.* into v_task from public.tasks t where t.id = p_task and t.owner_id = v_owner for update;
  if not found then  -- or not any more
    raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s.', p_task);
  end if;

  if v_token is not null then
    -- An unknown name becomes one that nobody has.
    v_worker := coalesce(darkroom.caller_worker(p_worker), case when p_worker is not null then '' end);
    v_mine := exists (select from public.workers w where w.id = v_task.worker_id and w.token_id = v_token);
  end if;

  if v_task.status <> 'In Progress' and coalesce(v_mine, true) and exists (
       select from public.task_attempts a where a.task_id = p_task and a.attempt = v_task.attempt and a.outcome = p_repeat
         and a.attempt = coalesce(p_attempt, a.attempt) and a.worker_id = coalesce(v_worker, a.worker_id)) then
    return v_task;
  elsif v_task.status <> 'In Progress' or v_worker <> v_task.worker_id or p_attempt <> v_task.attempt or not coalesce(v_mine, true) then
    perform darkroom.refuse_hold(v_task, case when v_mine or v_mine is null then v_worker else '' end, p_attempt);
  end if;
  return v_task;
end
$$;
comment on function darkroom.lock_held_task is 'Locks owner and task and checks the fence of (worker, attempt).';
revoke all on function darkroom.lock_held_task from public;
