-- Changes the account of somebody who is signed in by that session, and returns it as auth.account_of does. Null: the session has ended, or
-- the password is not old_hash any more; nothing is changed. new_hash: a new password, which ends the user's other sessions; null keeps
-- the old one. user_metadata: laid over what is there; a null in it takes its key away. For the gateway.
-- Raises TD003 (user_metadata of more than 16 KiB).
create or replace function auth.change_account(user_id uuid, session_id uuid, old_hash text default null, new_hash text default null, user_metadata jsonb default '{}')
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_most constant integer := 16384;
  v_metadata jsonb;
begin
  select (select coalesce(jsonb_object_agg(e.key, e.value) filter (where e.value <> 'null'), '{}')
          from jsonb_each(c.user_metadata || change_account.user_metadata) e)
  into v_metadata from darkroom.credentials c
  where c.user_id = change_account.user_id and (change_account.new_hash is null or c.password_hash = change_account.old_hash)
  for no key update;
  if not found or not exists (select from darkroom.sessions s where s.id = change_account.session_id and s.user_id = change_account.user_id) then
    return null;
  elsif octet_length(v_metadata::text) > c_most then
    raise exception 'Invalid params' using errcode = 'TD003', detail = format('user_metadata may have %s bytes.', c_most);
  end if;
  update darkroom.credentials c
  set password_hash = coalesce(change_account.new_hash, c.password_hash), user_metadata = v_metadata, updated_at = clock_timestamp()
  where c.user_id = change_account.user_id;
  if change_account.new_hash is not null then
    delete from darkroom.sessions s where s.user_id = change_account.user_id and s.id <> change_account.session_id;
  end if;
  return darkroom.sign_in_account(change_account.user_id);
end
$$;
comment on function auth.change_account is 'Changes password and metadata of a user.';
revoke all on function auth.change_account from public;
grant execute on function auth.change_account to authenticator;
