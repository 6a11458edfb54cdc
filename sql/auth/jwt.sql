-- The claims of whoever is signed in for this transaction (request.jwt.claims), or null. Anybody may ask.
create or replace function auth.jwt()
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- After a transaction that set it, the setting is '' and not null.
  return nullif(current_setting('request.jwt.claims', true), '')::jsonb;
end
$$;
comment on function auth.jwt is 'The claims of who is signed in.';
revoke all on function auth.jwt from public;
grant execute on function auth.jwt to anon, authenticated, worker, service_role;
