-- What is known of these uploads, in no order; no row for a key that has none, or whose object is only being stored. For the gateway.
create or replace function auth.describe_uploads(object_keys text[])
returns table (object_key text, content_type text, cache_control text, metadata jsonb, created_at timestamptz, updated_at timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select u.key, u.content_type, u.cache_control, u.metadata, u.created_at, u.updated_at
  from darkroom.uploads u where u.key = any (object_keys) and u.bytes is not null
$$;
comment on function auth.describe_uploads is 'Types, caching and times of uploads.';
revoke all on function auth.describe_uploads from public;
grant execute on function auth.describe_uploads to authenticator;
