-- Which of these sessions have ended: those of users who sign in here, that are not there. For the gateway, which asks for sessions of its own
-- access tokens only.
create or replace function auth.ended_sessions(sessions uuid[], users uuid[])
returns setof uuid
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select a.session from unnest(ended_sessions.sessions, ended_sessions.users) as a (session, owner)
  where exists (select from darkroom.credentials c where c.user_id = a.owner)
    and not exists (select from darkroom.sessions s where s.id = a.session and s.user_id = a.owner)
$$;
comment on function auth.ended_sessions is 'Which of these sessions have ended.';
revoke all on function auth.ended_sessions from public;
grant execute on function auth.ended_sessions to authenticator;
