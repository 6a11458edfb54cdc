-- Trigger after insert, update or delete on generations, shots, shot_generations or projects, for each statement: appends what it changed to the event
-- log and rings the bell. The table's name is the trigger's argument. A shot's owner is its project's. The event of a new generation or link does not repeat
-- what stands in its other columns and in the generation's task: auth.read_events puts it back.
create or replace function darkroom.log_row_change()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_argv[0] = 'projects' then
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, c.id, 'projects', tg_op, c.id, to_jsonb(c) from changed c;
  elsif tg_argv[0] = 'shots' then
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), p.owner_id, c.project_id, 'shots', tg_op, c.id, to_jsonb(c)
    from changed c join public.projects p on p.id = c.project_id;
  elsif tg_argv[0] = 'generations' and tg_op = 'INSERT' then
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, c.project_id, 'generations', 'INSERT', c.id,
      case when c.source_task_id is null then to_jsonb(c)
           else jsonb_build_object('type', c.type, 'location', c.location, 'thumbnail_url', c.thumbnail_url, 'metadata', c.metadata,
                                   'source_task_id', c.source_task_id, 'created_at', c.created_at) end
    from changed c;
  elsif tg_argv[0] = 'shot_generations' and tg_op = 'INSERT' then
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, c.project_id, 'shot_generations', 'INSERT', c.id,
      to_jsonb(c) - '{id,owner_id,project_id}'::text[]
    from changed c;
  else
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, c.project_id, tg_argv[0], tg_op, c.id, to_jsonb(c) from changed c;
  end if;
  if found and pg_sequence_last_value('darkroom.event_bell') = 2 then
    perform darkroom.ring_event_bell();
  end if;
  return null;
end
$$;
comment on function darkroom.log_row_change is 'Appends a change to the event log.';
revoke all on function darkroom.log_row_change from public;
