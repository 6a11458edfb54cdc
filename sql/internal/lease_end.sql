-- When the lease of a running task ends: lease_timeout after the later of its claim and the last heartbeat that covers it. A
-- heartbeat that names tasks covers only those.
create or replace function darkroom.lease_end(p_task public.tasks, p_worker public.workers)
returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select greatest(p_task.claimed_at,
                  case when p_worker.running is null or p_task.id = any (p_worker.running) then p_worker.last_heartbeat end)
         + coalesce(p_worker.lease_timeout, interval '30 minutes')
$$;
comment on function darkroom.lease_end is 'When the lease of a running task ends.';
revoke all on function darkroom.lease_end from public;
