-- Which of these projects and users the caller may see: row security decides, because this runs as the caller. Realtime asks it before it shows
-- an event, again and again, so that what is taken away is no longer shown a few seconds later.
create or replace function auth.readable(ids uuid[])
returns setof uuid
language sql stable security invoker
set search_path = pg_catalog, pg_temp
as $$
  select p.id from public.projects p where p.id = any (ids)
  union all
  select u.id from public.users u where u.id = any (ids)
$$;
comment on function auth.readable is 'Which of these projects and users the caller may see.';
revoke all on function auth.readable from public;
grant execute on function auth.readable to authenticated, service_role;
