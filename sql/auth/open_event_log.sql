-- For the gateway when it connects: makes the log readable, and returns the epoch (auth.event_epoch) and the snapshot from which on to read it.
-- In a database that was restored from a dump the transaction numbers of old events are another cluster's: they become old ones of this.
create or replace function auth.open_event_log()
returns table (epoch text, upto pg_snapshot, last_id bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_before_all constant xid8 := xid8 '3';  -- visible in every snapshot
  v_epoch text := auth.event_epoch();
  v_cluster text := regexp_replace(v_epoch, '-[^-]*$', '');
  v_before text;
  v_last bigint;
begin
  if (select l.origin from darkroom.event_log l) is distinct from v_cluster then
    select l.origin into v_before from darkroom.event_log l for update;
    if v_before is distinct from v_cluster then
      if v_before <> '' then
        update darkroom.task_events e set xid = c_before_all;
        update darkroom.event_log l set trimmed_xid = xid8 '0';
      end if;
      update darkroom.event_log l set origin = v_cluster;
    end if;
  end if;
  select s.last_value into v_last from darkroom.task_events_id s;
  return query select v_epoch, pg_current_snapshot(), v_last;
end
$$;
comment on function auth.open_event_log is 'Where the event log ends now.';
revoke all on function auth.open_event_log from public;
grant execute on function auth.open_event_log to authenticator;
