-- Makes a task that was queued again run once more under the worker that held it last, for a caller that brings its result late: so the work is not
-- lost while nobody else has begun it. It gets the next attempt number and its hold, and leaves the queue. Returns whether it did: false
-- when the task is not Queued, or was last held by somebody else.
-- Takes the owner's lock. Raises TD010 when the owner cannot pay any more.
create or replace function darkroom.revive_task(p_task uuid)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_task public.tasks;
  v_worker text;
  v_available numeric;
begin
  select t.* into v_task from public.tasks t where t.id = p_task and (t.status = 'Queued') is true and t.attempt > 0;
  if not found or v_task.owner_id <> darkroom.caller_owner() then
    return false;
  end if;
  perform darkroom.lock_owner(v_task.owner_id);
  select t.* into v_task from public.tasks t where t.id = p_task for update;
  if not found or v_task.status <> 'Queued' or not darkroom.holds_task(v_task, true) then
    return false;
  end if;
  select a.worker_id into v_worker from public.task_attempts a where a.task_id = p_task and a.attempt = v_task.attempt;

  if v_task.cost > 0 then
    select coalesce(max(a.balance_after - a.held_after), 0) into v_available from darkroom.account(v_task.owner_id) a;
    if v_available < v_task.cost then
      raise exception 'Insufficient credits' using errcode = 'TD010',
        detail = format('The task costs %s credits and %s are available.', v_task.cost, v_available), hint = 'Add credits, then try again.';
    end if;
  end if;

  perform darkroom.drop_from_queue(v_task);
  update public.tasks t
  set status = 'In Progress', worker_id = v_worker, claimed_at = clock_timestamp(), attempt = t.attempt + 1,
      progress = null, run_after = null, updated_at = clock_timestamp()
  where t.id = p_task;
  if v_task.cost > 0 then
    perform darkroom.append_ledger(v_task.owner_id, 'hold', v_task.cost, p_task, v_task.attempt + 1);
  end if;
  return true;
end
$$;
comment on function darkroom.revive_task is 'Lets the worker that held a task last finish it, while nobody else has it.';
revoke all on function darkroom.revive_task from public;
