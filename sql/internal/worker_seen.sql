-- When a worker was last heard from: its last heartbeat, or when it was made known; or the claim of a task that it has still, which is looked up only where the heartbeat is
-- too old to be alive by.
create or replace function darkroom.worker_seen(p_worker public.workers)
returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_worker.last_heartbeat > clock_timestamp() - p_worker.lease_timeout / 2 then
    return p_worker.last_heartbeat;
  end if;
  return greatest(coalesce(p_worker.last_heartbeat, p_worker.created_at),
    (select max(t.claimed_at) from public.tasks t where t.worker_id = p_worker.id and t.status = 'In Progress'));
end
$$;
comment on function darkroom.worker_seen is 'When a worker was last heard from.';
revoke all on function darkroom.worker_seen from public;
