-- Trigger after insert, update or delete on tasks: appends the change to the event log in the same transaction and rings the bell.
-- An update carries the columns that can change, so that the events of a task, folded, give its row.
create or replace function public.broadcast_task_status_update()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row public.tasks;
begin
  if tg_op = 'DELETE' then
    v_row := old;
  else
    v_row := new;
  end if;
  insert into darkroom.task_events (slot, owner_id, project_id, table_name, kind, row_id, data)
  values (coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), v_row.owner_id, v_row.project_id, 'tasks', tg_op, v_row.id,
    case tg_op
      when 'UPDATE' then jsonb_build_object(
        'status', new.status, 'worker_id', new.worker_id, 'attempt', new.attempt, 'failed_attempts', new.failed_attempts,
        'claimed_at', new.claimed_at, 'run_after', new.run_after, 'progress', new.progress, 'output_location', new.output_location,
        'thumbnail_url', new.thumbnail_url, 'metadata', new.metadata, 'error_message', new.error_message,
        'generation_created', new.generation_created, 'updated_at', new.updated_at, 'completed_at', new.completed_at)
      else to_jsonb(v_row)
    end);
  if pg_sequence_last_value('darkroom.event_bell') = 2 then
    perform darkroom.ring_event_bell();
  end if;
  return null;
end
$$;
comment on function public.broadcast_task_status_update is 'Appends each change of a task to the event log.';
revoke all on function public.broadcast_task_status_update from public;
