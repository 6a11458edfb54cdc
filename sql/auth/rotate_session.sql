-- Takes a refresh token for the next one: {"session_id", "started_at", "account"}, and "reused": true when nothing else is there because an
-- old token came back. Null: no such token, or its session has ended. For the gateway, which makes next_hash of the token itself, so that
-- whoever sends it twice gets the same next token.
--
-- A token is good once. For 10 s after, and while its successor was not used, it may come again: of a second tab, or because the answer was
-- lost. Later somebody else has it too, and the session ends (RFC 9700, section 4.14.2).
create or replace function auth.rotate_session(token_hash bytea, next_hash bytea)
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_grace constant interval := interval '10 seconds';
  v_session darkroom.sessions;
  v_used timestamptz;
begin
  select s.* into v_session from darkroom.sessions s
  where s.id = (select t.session_id from darkroom.refresh_tokens t where t.hash = rotate_session.token_hash)
  for update;
  if not found then
    return null;
  elsif v_session.used_at < clock_timestamp() - darkroom.session_idle() then
    delete from darkroom.sessions s where s.id = v_session.id;
    return null;
  end if;
  -- Read anew: another rotation may have held the session.
  select t.used_at into v_used from darkroom.refresh_tokens t where t.hash = rotate_session.token_hash;
  if not found then
    return null;
  elsif v_used is null then
    update darkroom.refresh_tokens t set used_at = clock_timestamp() where t.hash = rotate_session.token_hash;
    insert into darkroom.refresh_tokens (hash, session_id) values (rotate_session.next_hash, v_session.id);
    delete from darkroom.refresh_tokens t where t.session_id = v_session.id and t.used_at < clock_timestamp() - darkroom.session_idle();
    update darkroom.sessions s set used_at = clock_timestamp() where s.id = v_session.id;
  elsif v_used < clock_timestamp() - c_grace
    or not exists (select from darkroom.refresh_tokens t where t.hash = rotate_session.next_hash and t.session_id = v_session.id and t.used_at is null) then
    delete from darkroom.sessions s where s.id = v_session.id;
    return jsonb_build_object('reused', true, 'session_id', v_session.id);
  end if;
  return jsonb_build_object('session_id', v_session.id, 'started_at', v_session.started_at, 'account', darkroom.sign_in_account(v_session.user_id));
end
$$;
comment on function auth.rotate_session is 'Takes a refresh token for the next one.';
revoke all on function auth.rotate_session from public;
grant execute on function auth.rotate_session to authenticator;
