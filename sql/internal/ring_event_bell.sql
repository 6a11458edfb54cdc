-- Wakes the readers of the event log. The triggers call it when a reader armed the bell since it last rang (arm_event_bell).
-- At most one NOTIFY per arming, because commits with a NOTIFY are serialised. A rollback swallows a ring: readers poll besides.
create or replace function darkroom.ring_event_bell()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform setval('darkroom.event_bell', 1);
  perform pg_notify('darkroom_events', '');
end
$$;
comment on function darkroom.ring_event_bell is 'Wakes the readers of the event log and disarms the bell.';
revoke all on function darkroom.ring_event_bell from public;
