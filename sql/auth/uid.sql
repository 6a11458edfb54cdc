-- The user who is signed in for this transaction, or null. Anybody may ask; row security is built on it.
create or replace function auth.uid()
returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')::uuid;
end
$$;
comment on function auth.uid is 'The user who is signed in.';
revoke all on function auth.uid from public;
grant execute on function auth.uid to anon, authenticated, worker, service_role;
