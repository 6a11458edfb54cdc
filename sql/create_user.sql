-- Makes a user known and returns the row; one that exists is returned as it is.
-- Raises TD080 (that user was erased less than a day ago).
create or replace function public.create_user(user_id uuid default null, email text default null)
returns public.users
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_user public.users;
begin
  insert into public.users as u (id, email) values (coalesce(create_user.user_id, gen_random_uuid()), create_user.email)
  on conflict (id) do nothing
  returning u.* into v_user;
  perform darkroom.refuse_erased(create_user.user_id);
  if v_user.id is null then
    select u.* into v_user from public.users u where u.id = create_user.user_id;
  end if;
  return v_user;
end
$$;
comment on function public.create_user is 'Makes a user known.';
revoke all on function public.create_user from public;
grant execute on function public.create_user to service_role;
