-- Writes how far the running attempt is: {"percent", "value", "max", "phase", "preview"?}, shown in the task and the event log. preview is the
-- address of a small picture of the unfinished result, and is taken away when the attempt ends (forget_preview).
-- Fenced in the statement that writes. Raises TD003 (no object, or over 4 kB), TD021, TD031 (lease lost), TD032 (ended).
create or replace function public.report_progress(task_id uuid, worker_id text, attempt integer, progress jsonb)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks;
  v_worker text := darkroom.caller_worker(report_progress.worker_id);
begin
  if progress is null or jsonb_typeof(progress) <> 'object' or octet_length(progress::text) > 4096 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'progress must be a JSON object of up to 4 kB.';
  end if;
  update public.tasks t set progress = report_progress.progress, updated_at = clock_timestamp()
  where t.id = report_progress.task_id and (t.status = 'In Progress') is true
    and t.worker_id = v_worker and t.attempt = report_progress.attempt;
  if not found then
    -- The update may have locked the row before it found it changed: the owner's lock, which comes first, must not be taken now.
    select t.* into v_task from public.tasks t where t.id = report_progress.task_id;
    if not found or v_task.owner_id <> darkroom.caller_owner() then
      raise exception 'Task not found' using errcode = 'TD021', detail = format('There is no task %s.', report_progress.task_id);
    end if;
    perform darkroom.refuse_hold(v_task, coalesce(v_worker, ''), coalesce(report_progress.attempt, 0));
  end if;
end
$$;
comment on function public.report_progress is 'Writes how far a running attempt is.';
revoke all on function public.report_progress from public;
grant execute on function public.report_progress to worker, service_role;
