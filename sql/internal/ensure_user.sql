-- Makes sure that the user who is signed in has a row: the first thing that somebody does whose token another service issued.
create or replace function darkroom.ensure_user(p_user uuid)
returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into public.users (id, email) values (p_user, case when p_user = auth.uid() then auth.jwt() ->> 'email' end) on conflict do nothing
$$;
comment on function darkroom.ensure_user is 'Makes a row for a user who signs in by another service.';
revoke all on function darkroom.ensure_user from public;
