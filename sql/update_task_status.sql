-- What a worker says of a task that it holds, as Headless-Wan2GP says it: with neither worker nor attempt, the token tells whose it is. Returns
-- {"success": true, "changed", "task_id", "status"}.
--
-- status 'In Progress': output_location is a progress text, which goes to progress.message; the worker counts as heard from.
-- 'Failed': output_location (or error_details) is the reason. A reason that is a passing fault of the connection to us
-- ([EDGE_FAIL:<function>:5XX_TRANSIENT], HTTP_500, TIMEOUT, NETWORK) queues the task again while attempts are left.
-- 'Queued': queues it again, counted as a failed attempt: Failed when they are used up. An orchestrator whose tree runs stays as it is.
-- 'Complete': complete_task. 'Cancelled': cancel_task.
--
-- Whoever does not hold the task (any more) changes nothing with all but 'Complete', and is told "changed": false: such reports follow a
-- completion that was refused. 'Complete' for a task that is Complete changes nothing either, whatever its output.
-- Raises TD003 (no such status), TD021 (no task that the caller knows of), and for 'Complete' what complete_task raises. Writes what the
-- functions named write.
create or replace function public.update_task_status(
  task_id uuid, status text, output_location text default null, thumbnail_url text default null, error_details text default null)
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_passing constant text := '\[EDGE_FAIL:[^]]*:(5XX_TRANSIENT|HTTP_5[0-9][0-9]|TIMEOUT|NETWORK)\]';
  v_text text := nullif(btrim(coalesce(update_task_status.error_details, update_task_status.output_location)), '');
  v_before public.tasks;
  v_task public.tasks;
  v_child public.tasks;
begin
  if update_task_status.status is null or update_task_status.status not in ('Queued', 'In Progress', 'Complete', 'Failed', 'Cancelled') then
    raise exception 'Invalid params' using errcode = 'TD003',
      detail = 'status must be Queued, In Progress, Complete, Failed or Cancelled.';
  end if;
  v_before := darkroom.known_task(update_task_status.task_id);
  -- A worker's row is locked before its tasks' owners, here as in register_worker.
  if darkroom.holds_task(v_before, false) then
    update public.workers w set last_heartbeat = clock_timestamp() where w.id = v_before.worker_id;
  end if;
  perform darkroom.lock_owner(v_before.owner_id);
  select t.* into v_before from public.tasks t where t.id = v_before.id for update;
  v_task := v_before;

  if update_task_status.status = 'Complete' then
    if v_before.status <> 'Complete' then
      v_task := public.complete_task(v_before.id, update_task_status.output_location, thumbnail_url => update_task_status.thumbnail_url);
    end if;
  elsif update_task_status.status = 'Cancelled' then
    if v_before.status = 'Queued' and darkroom.holds_task(v_before, true) or darkroom.holds_task(v_before, false)
       or v_before.status in ('Queued', 'In Progress')
          and exists (select from public.tasks o where o.id = v_before.orchestrator_task_id and darkroom.holds_task(o, false)) then
      perform darkroom.close_tasks(v_before.owner_id, v_before.id, 'Cancelled', left(coalesce(v_text, 'Cancelled.'), 4000), 'cancelled');
    end if;
  elsif not darkroom.holds_task(v_before, false) then
    null;
  elsif update_task_status.status = 'Failed' then
    v_task := public.fail_task(v_before.id, v_text, retryable => coalesce(v_text ~ c_passing, false));
  elsif update_task_status.status = 'Queued' then
    if not darkroom.has_live_children(v_before.id) then
      v_task := public.fail_task(v_before.id, v_text, retryable => true);
    end if;
  elsif v_text is not null then
    update public.tasks t
    set progress = coalesce(t.progress, '{}') || jsonb_build_object('message', left(v_text, 1000)), updated_at = clock_timestamp()
    where t.id = v_before.id;
    -- Its tree may have been done before it said that it had made it.
    select c.* into v_child from public.tasks c
    where c.orchestrator_task_id = v_before.id and c.status = 'Complete' order by c.completed_at desc limit 1;
    if found then
      perform darkroom.finish_orchestrator(v_child);
    end if;
  end if;

  select t.* into v_task from public.tasks t where t.id = v_before.id;
  return jsonb_build_object('success', true, 'changed', v_task is distinct from v_before, 'task_id', v_task.id, 'status', v_task.status);
end
$$;
comment on function public.update_task_status is 'What a worker says of a task that it holds, by the token alone.';
revoke all on function public.update_task_status from public;
grant execute on function public.update_task_status to worker, service_role;
