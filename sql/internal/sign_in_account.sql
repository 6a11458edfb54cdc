-- What a user who signs in here is told of the account: see auth.account_of. Null: the user does not sign in here.
create or replace function darkroom.sign_in_account(p_user uuid)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('id', c.user_id, 'email', c.email, 'user_metadata', c.user_metadata,
    'created_at', c.created_at, 'updated_at', c.updated_at, 'last_sign_in_at', c.last_sign_in_at)
  from darkroom.credentials c
  where c.user_id = p_user
$$;
comment on function darkroom.sign_in_account is 'Account of a user who signs in here.';
revoke all on function darkroom.sign_in_account from public;
