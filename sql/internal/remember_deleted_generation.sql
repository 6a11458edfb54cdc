-- Trigger after delete on generations: notes that the task had one, so that none is missed and none is made again.
create or replace function darkroom.remember_deleted_generation()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if old.source_task_id is not null then
    insert into darkroom.deleted_generations (task_id, owner_id, generation_id) values (old.source_task_id, old.owner_id, old.id)
    on conflict do nothing;
  end if;
  return null;
end
$$;
comment on function darkroom.remember_deleted_generation is 'Notes that a task''s generation was deleted.';
revoke all on function darkroom.remember_deleted_generation from public;
