-- Trigger after a change of generations, shots, shot_generations, projects or credit_ledger: appends it to the event log and rings the bell.
-- The table's name is the trigger's argument. credit_ledger has no id and no project: its row is owner/seq. A shot's owner is its project's.
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
  values ((select s.last_value from darkroom.event_slot s), v_owner, v_project, tg_argv[0], tg_op,
          coalesce(v_row ->> 'id', concat(v_row ->> 'owner_id', '/', v_row ->> 'seq')), v_row);
  if (select b.last_value from darkroom.event_bell b) = 2 then
    perform darkroom.ring_event_bell();
  end if;
  return null;
end
$$;
comment on function darkroom.log_row_change is 'Appends a change to the event log.';
revoke all on function darkroom.log_row_change from public;
