-- Books the end of an attempt: its row in task_attempts, and the hold settled (complete) or released (everything else).
-- p_task is the row as it was while the attempt ran. The caller holds the owner's lock. Returns whether money moved.
create or replace function darkroom.end_attempt(p_task public.tasks, p_outcome text, p_error text default null)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_entry public.credit_ledger;
begin
  insert into public.task_attempts (owner_id, task_id, attempt, worker_id, claimed_at, outcome, error)
  values (p_task.owner_id, p_task.id, p_task.attempt, p_task.worker_id, p_task.claimed_at, p_outcome, p_error);

  if p_task.cost > 0 then
    v_entry := darkroom.append_ledger(p_task.owner_id, case p_outcome when 'complete' then 'settle' else 'release' end,
                                      p_task.cost, p_task.id, p_task.attempt);
  end if;
  return v_entry.seq is not null;
end
$$;
comment on function darkroom.end_attempt is 'Books the end of an attempt and its money; the caller holds the owner''s lock.';
revoke all on function darkroom.end_attempt from public;
