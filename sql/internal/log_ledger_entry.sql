-- Trigger after insert on credit_ledger: appends the entry to the event log and rings the bell. The ledger is append-only: the event says which entry,
-- as owner/seq, and auth.read_events reads it there.
create or replace function darkroom.log_ledger_entry()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into darkroom.task_events (slot, owner_id, table_name, kind, row_id, data)
  values (coalesce(pg_sequence_last_value('darkroom.event_slot'), 0), new.owner_id, 'credit_ledger', tg_op, concat(new.owner_id, '/', new.seq), '{}');
  if pg_sequence_last_value('darkroom.event_bell') = 2 then
    perform darkroom.ring_event_bell();
  end if;
  return null;
end
$$;
comment on function darkroom.log_ledger_entry is 'Appends an entry of the ledger to the event log.';
revoke all on function darkroom.log_ledger_entry from public;
