-- Trigger before insert or update on shot_generations: owner and project are the generation's, and the shot must be of the
-- same project (TD024), so that nobody's picture gets onto a stranger's shot. What is somebody else's is answered as what is not there.
create or replace function darkroom.fill_shot_generation()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  select g.owner_id, g.project_id into new.owner_id, new.project_id from public.generations g where g.id = new.generation_id;
  if new.owner_id <> darkroom.caller_owner()
     or not exists (select from public.shots s where s.id = new.shot_id and s.project_id = new.project_id) then
    raise exception 'Shot not found' using errcode = 'TD024',
      detail = format('There is no shot %s in the project of a generation %s.', new.shot_id, new.generation_id);
  end if;
  return new;
end
$$;
comment on function darkroom.fill_shot_generation is 'Sets owner and project of a shot link and keeps it within the project.';
revoke all on function darkroom.fill_shot_generation from public;
