-- Whether a worker that was last heard from then counts as alive. Whoever sends heartbeats sends several in a lease: half a lease of silence is too long.
-- One that never sent any may be silent for its whole lease.
create or replace function darkroom.worker_alive(p_worker public.workers, p_seen timestamptz)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return p_seen > clock_timestamp() - p_worker.lease_timeout / case when p_worker.last_heartbeat is null then 1 else 2 end;
end
$$;
comment on function darkroom.worker_alive is 'Whether a worker counts as alive.';
revoke all on function darkroom.worker_alive from public;
