-- Whether the caller holds a task that names neither worker nor attempt, as callers without a fence mean it: it runs under one of the token's workers,
-- or under anybody's where the caller is trusted. With p_last also when the caller held it last: it was queued again and nobody has taken
-- it since, or it is Complete.
create or replace function darkroom.holds_task(p_task public.tasks, p_last boolean)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_token uuid := darkroom.caller_token();
begin
  if p_task.status = 'In Progress' or p_last and p_task.status = 'Complete' then
    return v_token is null or exists (select from public.workers w where w.id = p_task.worker_id and w.token_id = v_token);
  end if;
  return p_last and p_task.status = 'Queued' and exists (
    select from public.task_attempts a join public.workers w on w.id = a.worker_id
    where a.task_id = p_task.id and a.attempt = p_task.attempt and (v_token is null or w.token_id = v_token));
end
$$;
comment on function darkroom.holds_task is 'Whether the caller holds a task, or held it last.';
revoke all on function darkroom.holds_task from public;
