-- Whose rows the caller may touch: null means everybody's. The first line of every function that users or workers may call.
--
-- The service (a member of service_role, or a superuser): everybody's. A worker: those of the user in its claims, or everybody's when
-- they name none. Everybody else: those of the user in the claims; raises TD040 when nobody is signed in. The role is the one that was
-- SET, else the one that logged in: a security definer function does not change either.
create or replace function darkroom.caller_owner()
returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role text := coalesce(nullif(current_setting('role'), 'none'), session_user);
  v_uid uuid;
begin
  if pg_has_role(v_role, 'service_role', 'usage') then
    return null;
  end if;
  v_uid := auth.uid();
  if v_uid is null and not pg_has_role(v_role, 'worker', 'usage') then
    raise exception 'Not signed in' using errcode = 'TD040', detail = 'This needs a user.',
      hint = 'Sign in, or set request.jwt.claims in the transaction.';
  end if;
  return v_uid;
end
$$;
comment on function darkroom.caller_owner is 'The user whose rows the caller may touch; null: everybody''s.';
revoke all on function darkroom.caller_owner from public;
