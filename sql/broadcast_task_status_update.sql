-- Trigger on tasks after update or delete for each statement, after insert for each row, so that a row is in the log before anything is done to it (by
-- file_new_task, where constraints are immediate). Appends what was changed to the event log in the same transaction and rings the bell.
-- An event carries the columns that can change, but for what is as in a new task (darkroom.whole_change): nothing, when it is new. The others stand in the row.
create or replace function public.broadcast_task_status_update()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'UPDATE' then
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, c.project_id, 'tasks', 'UPDATE', c.id,
      jsonb_strip_nulls(jsonb_build_object(
        'status', c.status, 'worker_id', c.worker_id, 'attempt', c.attempt, 'failed_attempts', nullif(c.failed_attempts, 0),
        'claimed_at', c.claimed_at, 'run_after', c.run_after, 'output_location', c.output_location, 'thumbnail_url', c.thumbnail_url,
        'error_message', c.error_message, 'generation_created', nullif(c.generation_created, false), 'updated_at', c.updated_at,
        'completed_at', c.completed_at))
      || case when c.progress is null then '{}' else jsonb_build_object('progress', c.progress) end
      || case when c.metadata = '{}' then '{}' else jsonb_build_object('metadata', c.metadata) end
    from changed c;
  elsif tg_op = 'INSERT' then
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    values (coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), new.owner_id, new.project_id, 'tasks', 'INSERT', new.id, '{}');
  else
    insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
    select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, c.project_id, 'tasks', 'DELETE', c.id, to_jsonb(c) - 'params' from changed c;
  end if;
  if found and pg_sequence_last_value('darkroom.event_bell') = 2 then
    perform darkroom.ring_event_bell();
  end if;
  return null;
end
$$;
comment on function public.broadcast_task_status_update is 'Appends each change of a task to the event log.';
revoke all on function public.broadcast_task_status_update from public;
