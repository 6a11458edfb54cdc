-- Makes a user who signs in with email and password, and returns the account, as auth.account_of does. Null: the email is taken.
-- password_hash is what the gateway made of the password. For the gateway.
create or replace function auth.sign_up(email text, password_hash text, user_metadata jsonb default '{}')
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_email text := darkroom.plain_email(sign_up.email);
  v_user uuid := gen_random_uuid();
begin
  begin
    insert into public.users (id, email) values (v_user, v_email);
    insert into darkroom.credentials (user_id, email, password_hash, user_metadata)
    values (v_user, v_email, sign_up.password_hash, sign_up.user_metadata);
  exception when unique_violation then
    return null;
  end;
  return darkroom.sign_in_account(v_user);
end
$$;
comment on function auth.sign_up is 'Makes a user who signs in with a password.';
revoke all on function auth.sign_up from public;
grant execute on function auth.sign_up to authenticator;
