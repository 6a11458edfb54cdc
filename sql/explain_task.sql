-- Why a task is not running, or how it is: in reasons, [{"code", "message", "detail"}], the most important first. The codes stand in sql/README.md; match them, messages
-- are for people and may change. Empty when a Queued task waits for nothing: it goes to the next claim.
--
-- runnable: a claim may hand it out when its turn comes. It is Queued and filed, what it waits for is Complete, and its owner can pay it now.
-- queue_position: of a runnable task, its turn with the worker that comes to it first: 1 is what that worker's next claim gives. Tasks that their owners cannot pay
-- do not count. Counted up to 1000; 1001 says: more than 1000 come before it (behind_others, more).
-- expected_start: an estimate, see darkroom.expected_wait: now where a slot is free for it, else by how long tasks of these types took lately; of a retry the end of
-- its pause. Null when it is not known: no worker is alive, nothing like it has run yet, something else than its turn keeps it, too many are before it.
--
-- It is asked what a claim asks at this moment, in one snapshot; claims that are under way count as not yet made. Reads only; bounded, however long the queue is.
-- Raises TD021 (no such task of the caller's), TD040.
create or replace function public.explain_task(task_id uuid)
returns public.task_explanation
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
-- Planned for any size of the tables, as the claim.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_task public.tasks := public.get_task(explain_task.task_id);
begin
  if v_task.status = 'Queued' then
    return darkroom.explain_queued(v_task);
  end if;
  return (v_task.id, v_task.status, false,
          case v_task.status when 'In Progress' then darkroom.explain_running(v_task) else darkroom.explain_ended(v_task) end,
          null, null)::public.task_explanation;
end
$$;
comment on function public.explain_task is 'Why a task is not running, its place in the queue, and when it may start.';
revoke all on function public.explain_task from public;
grant execute on function public.explain_task to authenticated, service_role;
