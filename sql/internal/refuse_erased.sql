-- Raises TD080 for a user who was erased less than a day ago: a token of theirs that has not expired yet must not make them anew.
create or replace function darkroom.refuse_erased(p_user uuid)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from darkroom.erasures e where e.owner_id = p_user) then
    raise exception 'User was erased' using errcode = 'TD080', detail = format('User %s was erased lately.', p_user),
      hint = 'Sign out. Another account has another id.';
  end if;
end
$$;
comment on function darkroom.refuse_erased is 'Raises TD080 for a user who was erased lately.';
revoke all on function darkroom.refuse_erased from public;
