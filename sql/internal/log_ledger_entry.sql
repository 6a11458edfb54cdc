-- Trigger after insert on credit_ledger, for each statement: appends the entries to the event log and rings the bell. The ledger is append-only: the
-- event says which entry, as owner/seq, and auth.read_events reads it there.
create or replace function darkroom.log_ledger_entry()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into darkroom.task_events (slot, owner_id, table_name, kind, row_id, data)
  select coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), c.owner_id, 'credit_ledger', tg_op, concat(c.owner_id, '/', c.seq), '{}'
  from changed c;
  if found and pg_sequence_last_value('darkroom.event_bell') = 2 then
    perform darkroom.ring_event_bell();
  end if;
  return null;
end
$$;
comment on function darkroom.log_ledger_entry is 'Appends an entry of the ledger to the event log.';
revoke all on function darkroom.log_ledger_entry from public;
