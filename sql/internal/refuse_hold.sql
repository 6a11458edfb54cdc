-- Says why a task is not held by this worker and attempt: always raises. TD031 (the lease is lost: another attempt, another worker,
-- or queued again) or TD032 (it has ended).
create or replace function darkroom.refuse_hold(p_task public.tasks, p_worker text, p_attempt integer)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_task.status in ('Queued', 'In Progress') or coalesce(p_worker <> p_task.worker_id, p_worker is not null)
     or coalesce(p_attempt <> p_task.attempt, false) then
    raise exception 'Lease lost' using errcode = 'TD031',
      detail = format('Task %s is %s, attempt %s, worker %s; not attempt %s of worker %s.', p_task.id, p_task.status, p_task.attempt,
                      coalesce(p_task.worker_id, 'none'), coalesce(p_attempt::text, 'unnamed'), coalesce(p_worker, 'unnamed')),
      hint = 'Stop working on it: nothing was changed.';
  end if;
  raise exception 'Task has ended' using errcode = 'TD032',
    detail = format('Task %s is %s.', p_task.id, p_task.status), hint = 'Terminal states are closed: nothing was changed.';
end
$$;
comment on function darkroom.refuse_hold is 'Raises why a task is not held by this worker and attempt.';
revoke all on function darkroom.refuse_hold from public;
