-- The newest ledger row of an owner: the account. All fields null when nothing was ever granted.
create or replace function darkroom.account(p_owner uuid)
returns public.credit_ledger
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_entry public.credit_ledger;
begin
  select l.* into v_entry from public.credit_ledger l where l.owner_id = p_owner order by l.seq desc limit 1;
  return v_entry;
end
$$;
comment on function darkroom.account is 'Newest ledger row of an owner: balance_after and held_after are the account.';
revoke all on function darkroom.account from public;
