-- Which of these ids are of no project and no user any more. For the gateway: what happened in a deleted project is shown to whom it belonged,
-- since row security can no longer be asked.
create or replace function auth.vanished(ids uuid[])
returns setof uuid
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select i.id from unnest(ids) as i (id)
  where not exists (select from public.projects p where p.id = i.id) and not exists (select from public.users u where u.id = i.id)
$$;
comment on function auth.vanished is 'Which of these ids are of no project and no user any more.';
revoke all on function auth.vanished from public;
grant execute on function auth.vanished to authenticator;
