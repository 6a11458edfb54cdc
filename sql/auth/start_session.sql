-- Starts a session of a user whose password was checked: {"session_id", "started_at", "account"}. Null: the password is no longer the one
-- that was checked. token_hash is the SHA-256 of the session's first refresh token. Sessions that were not used for 30 days go, and of
-- more than 100 those that were not used for longest. For the gateway.
create or replace function auth.start_session(user_id uuid, password_hash text, token_hash bytea)
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_most constant integer := 100;
  v_session darkroom.sessions;
begin
  -- Before the sessions: who changes the password ends them, and none may start beside that.
  update darkroom.credentials c set last_sign_in_at = clock_timestamp()
  where c.user_id = start_session.user_id and c.password_hash = start_session.password_hash;
  if not found then
    return null;
  end if;
  delete from darkroom.sessions s
  where s.id in (select o.id from darkroom.sessions o where o.user_id = start_session.user_id order by o.used_at desc offset c_most - 1)
    or (s.user_id = start_session.user_id and s.used_at < clock_timestamp() - darkroom.session_idle());
  insert into darkroom.sessions as s (user_id) values (start_session.user_id) returning s.* into v_session;
  insert into darkroom.refresh_tokens (hash, session_id) values (start_session.token_hash, v_session.id);
  return jsonb_build_object('session_id', v_session.id, 'started_at', v_session.started_at, 'account', darkroom.sign_in_account(start_session.user_id));
end
$$;
comment on function auth.start_session is 'Starts a session of a user.';
revoke all on function auth.start_session from public;
grant execute on function auth.start_session to authenticator;
