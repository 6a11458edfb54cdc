-- Ends sessions of a user, for somebody who is signed in by one of them: scope 'local' that one, 'others' all but that, 'global' all.
-- Their refresh tokens are worth nothing from now on. False: that session has ended already, and nothing is done. For the gateway.
create or replace function auth.end_sessions(user_id uuid, session_id uuid, scope text)
returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform from darkroom.credentials c where c.user_id = end_sessions.user_id for no key update;
  if not exists (select from darkroom.sessions s where s.id = end_sessions.session_id and s.user_id = end_sessions.user_id) then
    return false;
  end if;
  delete from darkroom.sessions s
  where s.user_id = end_sessions.user_id
    and case end_sessions.scope when 'local' then s.id = end_sessions.session_id when 'others' then s.id <> end_sessions.session_id else true end;
  return true;
end
$$;
comment on function auth.end_sessions is 'Ends sessions of a user.';
revoke all on function auth.end_sessions from public;
grant execute on function auth.end_sessions to authenticator;
