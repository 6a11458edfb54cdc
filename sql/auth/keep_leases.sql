-- A gateway says every second that it lives, and what its subscriptions have received: all without a position of their own up to upto, and these
-- leases up to positions (null: as all), whose clients have used the message numbers refs, and which have lost their connection or not.
create or replace function auth.keep_leases(gateway uuid, upto text, leases uuid[], refs bigint[], positions text[], lost boolean[])
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- The leases first: what a lease without a position has received must never seem more than it is.
  update darkroom.realtime_leases l
  set last_ref = s.ref, position = s.position, lost_at = case when s.lost then clock_timestamp() end, updated_at = clock_timestamp()
  from unnest(keep_leases.leases, keep_leases.refs, keep_leases.positions, keep_leases.lost) as s (id, ref, position, lost)
  where l.id = s.id and l.gateway_id = keep_leases.gateway;
  insert into darkroom.realtime_gateways as g (id, position) values (keep_leases.gateway, keep_leases.upto)
  on conflict (id) do update set position = excluded.position, seen_at = clock_timestamp();
end
$$;
comment on function auth.keep_leases is 'What the subscriptions of a gateway have received.';
revoke all on function auth.keep_leases from public;
grant execute on function auth.keep_leases to authenticator;
