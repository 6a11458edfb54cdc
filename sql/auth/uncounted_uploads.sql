-- Which of these keys, of objects in storage, no row counts. For the gateway, which counts them then.
create or replace function auth.uncounted_uploads(object_keys text[])
returns setof text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select k.key from unnest(object_keys) as k (key) where not exists (select from darkroom.uploads u where u.key = k.key)
$$;
comment on function auth.uncounted_uploads is 'Keys that have no row.';
revoke all on function auth.uncounted_uploads from public;
grant execute on function auth.uncounted_uploads to authenticator;
