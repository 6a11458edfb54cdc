-- What the gateway checks a password against: {"user_id", "password_hash"}, by email or by user. Null: there are none. For the gateway.
create or replace function auth.credentials_of(email text default null, user_id uuid default null)
returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('user_id', c.user_id, 'password_hash', c.password_hash)
  from darkroom.credentials c
  where c.email = darkroom.plain_email(credentials_of.email) or c.user_id = credentials_of.user_id
$$;
comment on function auth.credentials_of is 'Password hash of a user.';
revoke all on function auth.credentials_of from public;
grant execute on function auth.credentials_of to authenticator;
