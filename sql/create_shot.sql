-- Makes a shot in a project and returns it. Raises TD020 (no such project of the caller's), TD040.
create or replace function public.create_shot(project_id uuid, name text default '')
returns public.shots
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_caller uuid := darkroom.caller_owner();
  v_shot public.shots;
begin
  if not exists (select from public.projects p where p.id = create_shot.project_id and p.owner_id = coalesce(v_caller, p.owner_id)) then
    raise exception 'Project not found' using errcode = 'TD020', detail = format('There is no project %s.', create_shot.project_id);
  end if;
  insert into public.shots as s (project_id, name) values (create_shot.project_id, left(coalesce(create_shot.name, ''), 200))
  returning s.* into v_shot;
  return v_shot;
end
$$;
comment on function public.create_shot is 'Makes a shot in a project.';
revoke all on function public.create_shot from public;
grant execute on function public.create_shot to authenticated, service_role;
