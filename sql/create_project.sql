-- Makes a project of a user and returns it. Raises TD025 (no such user).
create or replace function public.create_project(user_id uuid, name text default '')
returns public.projects
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_project public.projects;
begin
  if not exists (select from public.users u where u.id = create_project.user_id) then
    raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', create_project.user_id);
  end if;
  insert into public.projects as p (owner_id, name) values (create_project.user_id, left(coalesce(create_project.name, ''), 200))
  returning p.* into v_project;
  return v_project;
end
$$;
comment on function public.create_project is 'Makes a project of a user.';
revoke all on function public.create_project from public;
grant execute on function public.create_project to service_role;
