-- Trigger before insert on generations: the owner is the project's, whoever inserts. Somebody else's project is not found (TD020), as one that is not there.
create or replace function darkroom.fill_generation()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  select p.owner_id into new.owner_id from public.projects p where p.id = new.project_id;
  if not found or new.owner_id <> darkroom.caller_owner() then
    raise exception 'Project not found' using errcode = 'TD020', detail = format('There is no project %s.', new.project_id);
  end if;
  return new;
end
$$;
comment on function darkroom.fill_generation is 'Sets the owner of a generation from its project.';
revoke all on function darkroom.fill_generation from public;
