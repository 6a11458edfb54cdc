-- The personal access token with which this transaction is signed in, or null. Anybody may ask; row security of workers is built on it.
create or replace function auth.token_id()
returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'token_id', '')::uuid;
end
$$;
comment on function auth.token_id is 'The personal access token of who is signed in.';
revoke all on function auth.token_id from public;
grant execute on function auth.token_id to anon, authenticated, worker, service_role;
