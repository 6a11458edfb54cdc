-- For the gateway: a number that all events exceed of transactions from xid on. So a search for events that were not seen need not begin at the first.
--
-- The number is read first and xid assigned afterwards: whoever has a greater xid began to write later, and numbers are given while writing. The xmax of
-- a snapshot would not do: it follows the last transaction that has ended, and greater ones may be running. The message makes the commit wait for
-- the disk, so that after a crash neither the number nor xid is given again.
create or replace function auth.event_floor()
returns table (last_id bigint, xid xid8)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_last bigint;
  v_xid xid8;
begin
  select s.last_value into v_last from darkroom.task_events_id s;
  v_xid := pg_current_xact_id();
  perform pg_logical_emit_message(true, 'darkroom', '');
  return query select v_last, v_xid;
end
$$;
comment on function auth.event_floor is 'A number below which no event appears any more once xid has ended.';
revoke all on function auth.event_floor from public;
grant execute on function auth.event_floor to authenticator;
