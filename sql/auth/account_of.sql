-- The account of a user who signs in here: {"id", "email", "user_metadata", "created_at", "updated_at", "last_sign_in_at"}, and whether the
-- session is there: "session". Null: the user does not sign in here. For the gateway.
create or replace function auth.account_of(user_id uuid, session_id uuid default null)
returns jsonb
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select darkroom.sign_in_account(account_of.user_id) || jsonb_build_object('session',
    exists (select from darkroom.sessions s where s.id = account_of.session_id and s.user_id = account_of.user_id))
$$;
comment on function auth.account_of is 'Account of a user.';
revoke all on function auth.account_of from public;
grant execute on function auth.account_of to authenticator;
