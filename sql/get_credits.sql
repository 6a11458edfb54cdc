-- The account of a user, by default the caller's: balance, what running tasks hold of it, and what is available. Zeros when nothing was ever granted.
-- Raises TD025 (no such user, or not the caller), TD040.
create or replace function public.get_credits(user_id uuid default null)
returns public.credit_account
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_caller uuid := darkroom.caller_owner();
  v_user uuid := coalesce(get_credits.user_id, v_caller);
  v_entry public.credit_ledger;
begin
  if v_user is null or v_user <> v_caller or v_caller is null and not exists (select from public.users u where u.id = v_user) then
    raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', v_user);
  end if;
  v_entry := darkroom.account(v_user);
  return (v_user, coalesce(v_entry.balance_after, 0), coalesce(v_entry.held_after, 0),
          coalesce(v_entry.balance_after - v_entry.held_after, 0))::public.credit_account;
end
$$;
comment on function public.get_credits is 'Balance, held and available credits of a user.';
revoke all on function public.get_credits from public;
grant execute on function public.get_credits to authenticated, service_role;
