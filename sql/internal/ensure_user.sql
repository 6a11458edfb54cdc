-- Makes sure that the user who is signed in has a row: the first thing that somebody does whose token another service issued.
-- Raises TD080 (the user was erased lately).
create or replace function darkroom.ensure_user(p_user uuid)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.users (id, email) values (p_user, case when p_user = auth.uid() then auth.jwt() ->> 'email' end) on conflict do nothing;
  perform darkroom.refuse_erased(p_user);  -- afterwards: the insert has waited for an erasure that was going on
end
$$;
comment on function darkroom.ensure_user is 'Makes a row for a user who signs in by another service.';
revoke all on function darkroom.ensure_user from public;
