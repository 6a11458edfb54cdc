-- The account of a user: balance, what running tasks hold of it, and what is available. Zeros when nothing was ever granted.
-- Raises TD025 (no such user).
create or replace function public.get_credits(user_id uuid)
returns public.credit_account
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_entry public.credit_ledger;
begin
  if not exists (select from public.users u where u.id = get_credits.user_id) then
    raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', get_credits.user_id);
  end if;
  v_entry := darkroom.account(get_credits.user_id);
  return (get_credits.user_id, coalesce(v_entry.balance_after, 0), coalesce(v_entry.held_after, 0),
          coalesce(v_entry.balance_after - v_entry.held_after, 0))::public.credit_account;
end
$$;
comment on function public.get_credits is 'Balance, held and available credits of a user.';
revoke all on function public.get_credits from public;
grant execute on function public.get_credits to service_role;
