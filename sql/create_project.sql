-- Makes a project of a user, by default the caller's, and returns it. Raises TD025 (no such user, or not the caller), TD040.
create or replace function public.create_project(user_id uuid default null, name text default '')
returns public.projects
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_caller uuid := darkroom.caller_owner();
  v_owner uuid := coalesce(create_project.user_id, v_caller);
  v_project public.projects;
begin
  if v_caller = v_owner then
    perform darkroom.ensure_user(v_caller);
  elsif v_owner is null or v_caller is not null or not exists (select from public.users u where u.id = v_owner) then
    raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', v_owner);
  end if;
  insert into public.projects as p (owner_id, name) values (v_owner, left(coalesce(create_project.name, ''), 200))
  returning p.* into v_project;
  return v_project;
end
$$;
comment on function public.create_project is 'Makes a project of a user.';
revoke all on function public.create_project from public;
grant execute on function public.create_project to authenticated, service_role;
