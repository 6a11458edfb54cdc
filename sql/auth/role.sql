-- The role in the claims of this transaction, or null. Anybody may ask. Nothing of ours is decided by it: see darkroom.caller_owner.
create or replace function auth.role()
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role';
end
$$;
comment on function auth.role is 'The role in the claims of who is signed in.';
revoke all on function auth.role from public;
grant execute on function auth.role to anon, authenticated, worker, service_role;
