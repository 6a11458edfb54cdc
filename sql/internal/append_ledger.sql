-- Appends one ledger entry and so moves the account. The caller holds the owner's lock.
-- Where available credits rise, the lanes that can now be paid are put back in the claim's sight.
create or replace function darkroom.append_ledger(
  p_owner uuid, p_kind text, p_amount numeric, p_task uuid default null, p_attempt integer default null,
  p_idempotency_key text default null, p_note text default null)
returns public.credit_ledger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_entry public.credit_ledger;
begin
  insert into public.credit_ledger as l
    (owner_id, seq, kind, amount, balance_after, held_after, task_id, attempt, idempotency_key, note)
  select p_owner, coalesce(b.seq, 0) + 1, p_kind, p_amount,
    coalesce(b.balance_after, 0) + case p_kind when 'grant' then p_amount when 'settle' then -p_amount else 0 end,
    coalesce(b.held_after, 0) + case p_kind when 'hold' then p_amount when 'grant' then 0 else -p_amount end,
    p_task, p_attempt, p_idempotency_key, p_note
  from (select) one
  left join lateral (select a.* from public.credit_ledger a where a.owner_id = p_owner order by a.seq desc limit 1) b on true
  returning * into v_entry;

  if p_kind in ('grant', 'release') then
    perform darkroom.unpark_lanes(p_owner, v_entry.balance_after - v_entry.held_after);
  end if;
  return v_entry;
end
$$;
comment on function darkroom.append_ledger is 'Appends one ledger entry; the caller holds the owner''s lock.';
revoke all on function darkroom.append_ledger from public;
