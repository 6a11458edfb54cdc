-- Trigger after a change of generations, shots, shot_generations or projects: appends it to the event log and rings the bell.
-- The table's name is the trigger's argument. A shot's owner is its project's.
create or replace function darkroom.log_row_change()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row jsonb;
  v_owner uuid;
  v_project uuid;
begin
  if tg_op = 'DELETE' then
    v_row := to_jsonb(old);
  else
    v_row := to_jsonb(new);
  end if;
  v_project := (case tg_argv[0] when 'projects' then v_row ->> 'id' else v_row ->> 'project_id' end)::uuid;
  v_owner := (v_row ->> 'owner_id')::uuid;
  if v_owner is null then
    select p.owner_id into strict v_owner from public.projects p where p.id = v_project;
  end if;
  insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
  values (coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), v_owner, v_project, tg_argv[0], tg_op,
          v_row ->> 'id', v_row);
  if pg_sequence_last_value('darkroom.event_bell') = 2 then
    perform darkroom.ring_event_bell();
  end if;
  return null;
end
$$;
comment on function darkroom.log_row_change is 'Appends a change to the event log.';
revoke all on function darkroom.log_row_change from public;
