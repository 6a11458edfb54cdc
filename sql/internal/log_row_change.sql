-- Trigger after a change of generations, shot_generations or credit_ledger: appends it to the event log and rings the bell.
-- The table's name is the trigger's argument. credit_ledger has no id and no project: its row is owner/seq.
create or replace function darkroom.log_row_change()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row jsonb;
begin
  if tg_op = 'DELETE' then
    v_row := to_jsonb(old);
  else
    v_row := to_jsonb(new);
  end if;
  insert into darkroom.task_events (owner_id, project_id, table_name, kind, row_id, data)
  values ((v_row ->> 'owner_id')::uuid, (v_row ->> 'project_id')::uuid, tg_argv[0], tg_op,
          coalesce(v_row ->> 'id', concat(v_row ->> 'owner_id', '/', v_row ->> 'seq')), v_row);
  if (select b.last_value from darkroom.event_bell b) = 2 then
    perform darkroom.ring_event_bell();
  end if;
  return null;
end
$$;
comment on function darkroom.log_row_change is 'Appends a change to the event log.';
revoke all on function darkroom.log_row_change from public;
