-- claim_next_task for a worker that never registers: it is made known by its first claim, serves wan2gp, and may be silent for 30 minutes. One
-- that sent heartbeats (func_worker_heartbeat_with_logs) and stopped gets those 30 minutes back. Returns a row, or none: nothing to do.
-- Raises TD003 (a name out of bounds, or a token with too many workers), TD041, TD050. Writes workers and what claim_next_tasks writes.
create or replace function public.claim_for_silent_worker(worker_id text)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_id text := darkroom.meet_worker(claim_for_silent_worker.worker_id);
begin
  update public.workers w set lease_timeout = interval '30 minutes', info = w.info - 'silent_lease'
  where w.id = v_id and w.info ? 'silent_lease' and w.last_heartbeat < clock_timestamp() - w.lease_timeout;
  return query select t.* from public.claim_next_tasks(claim_for_silent_worker.worker_id, 1) t;
end
$$;
comment on function public.claim_for_silent_worker is 'Claims for a worker that never registers.';
revoke all on function public.claim_for_silent_worker from public;
grant execute on function public.claim_for_silent_worker to worker, service_role;
