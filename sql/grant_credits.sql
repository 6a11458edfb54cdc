-- Adds credits to a user's account and returns the ledger entry. What could not be paid before can be claimed at once.
-- The same idempotency_key with the same amount returns the entry that is there; with another amount TD030.
-- Raises TD005 (the amount is not a positive number with at most 3 decimals), TD025 (no such user).
create or replace function public.grant_credits(
  user_id uuid, amount numeric, idempotency_key text default null, note text default null)
returns public.credit_ledger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_max constant numeric := 100000000.0;
  v_entry public.credit_ledger;
begin
  if amount is null or amount = 'NaN' or amount <= 0 or amount > c_max or amount <> round(amount, 3) then
    raise exception 'Invalid amount' using errcode = 'TD005',
      detail = format('%s is not an amount of credits: above 0, up to %s, at most 3 decimals.', coalesce(trim_scale(amount)::text, 'null'), c_max);
  end if;
  perform darkroom.lock_owner(grant_credits.user_id);
  if not exists (select from public.users u where u.id = grant_credits.user_id) then
    raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', grant_credits.user_id);
  end if;

  select l.* into v_entry from public.credit_ledger l
  where l.owner_id = grant_credits.user_id and l.idempotency_key = grant_credits.idempotency_key;
  if found then
    if v_entry.amount <> grant_credits.amount then
      raise exception 'Already created with another body' using errcode = 'TD030',
        detail = format('This idempotency key granted %s credits.', v_entry.amount), hint = 'Use a new key for a new grant.';
    end if;
    return v_entry;
  end if;
  return darkroom.append_ledger(grant_credits.user_id, 'grant', grant_credits.amount, null, null,
                                grant_credits.idempotency_key, left(grant_credits.note, 1000));
end
$$;
comment on function public.grant_credits is 'Adds credits to a user''s account.';
revoke all on function public.grant_credits from public;
grant execute on function public.grant_credits to service_role;
