-- Goes on to the next partition of the event log when the present one has been written to for a seventh of event_log.keep, and empties it first:
-- it holds the oldest events. Where somebody reads the log for long, such as a backup, it waits 200 ms and leaves it to the next call.
-- Returns whether it went on.
create or replace function darkroom.rotate_events()
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
as $$
declare
  c_slots constant integer := 8;
  v_next integer;
  v_xid xid8;
  v_at timestamptz;
begin
  perform from darkroom.event_log l
  where l.slot_since < clock_timestamp() - l.keep / (c_slots - 1) for update skip locked;
  if not found then
    return false;
  end if;
  v_next := (((select s.last_value from darkroom.event_slot s) + 1) % c_slots)::integer;
  begin
    case v_next  -- no statement is made up of texts
      when 0 then lock table darkroom.task_events_0 in access exclusive mode;
      when 1 then lock table darkroom.task_events_1 in access exclusive mode;
      when 2 then lock table darkroom.task_events_2 in access exclusive mode;
      when 3 then lock table darkroom.task_events_3 in access exclusive mode;
      when 4 then lock table darkroom.task_events_4 in access exclusive mode;
      when 5 then lock table darkroom.task_events_5 in access exclusive mode;
      when 6 then lock table darkroom.task_events_6 in access exclusive mode;
      else lock table darkroom.task_events_7 in access exclusive mode;
    end case;
  exception when lock_not_available then
    return false;
  end;
  select e.xid into v_xid from darkroom.task_events e where e.slot = v_next order by e.xid desc limit 1;
  select max(e.created_at) into v_at from darkroom.task_events e where e.slot = v_next;
  case v_next
    when 0 then truncate darkroom.task_events_0;
    when 1 then truncate darkroom.task_events_1;
    when 2 then truncate darkroom.task_events_2;
    when 3 then truncate darkroom.task_events_3;
    when 4 then truncate darkroom.task_events_4;
    when 5 then truncate darkroom.task_events_5;
    when 6 then truncate darkroom.task_events_6;
    else truncate darkroom.task_events_7;
  end case;
  update darkroom.event_log l
  set slot_since = clock_timestamp(), trimmed_xid = greatest(l.trimmed_xid, coalesce(v_xid, xid8 '0')), trimmed_at = greatest(l.trimmed_at, v_at);
  perform setval('darkroom.event_slot', v_next);
  return true;
end
$$;
comment on function darkroom.rotate_events is 'Empties the oldest partition of the event log and goes on to it.';
revoke all on function darkroom.rotate_events from public;
