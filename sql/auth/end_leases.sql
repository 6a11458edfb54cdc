-- Subscriptions that were ended, or that cannot be gone on with: nobody goes on with them.
create or replace function auth.end_leases(gateway uuid, leases uuid[])
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from darkroom.realtime_leases l where l.id = any (end_leases.leases) and l.gateway_id = end_leases.gateway;
end
$$;
comment on function auth.end_leases is 'Ends subscriptions of a gateway.';
revoke all on function auth.end_leases from public;
grant execute on function auth.end_leases to authenticator;
