-- Ends a personal access token: the gateway refuses it within 5 seconds. Returns it; one that was revoked already stays as it is.
-- What its workers run is given to others when the lease is over. Raises TD026 (no such token of the caller's), TD040.
create or replace function public.revoke_access_token(token_id uuid)
returns public.access_token
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_caller uuid := darkroom.caller_owner();
  v_token darkroom.access_tokens;
begin
  update darkroom.access_tokens t set revoked_at = coalesce(t.revoked_at, clock_timestamp())
  where t.id = revoke_access_token.token_id and (v_caller is null or t.owner_id = v_caller)
  returning t.* into v_token;
  if not found then
    raise exception 'Token not found' using errcode = 'TD026', detail = format('There is no token %s.', revoke_access_token.token_id);
  end if;
  return (v_token.id, v_token.owner_id, v_token.scope, v_token.label, v_token.prefix, v_token.created_at, v_token.expires_at,
          v_token.revoked_at, v_token.last_used_at)::public.access_token;
end
$$;
comment on function public.revoke_access_token is 'Ends a personal access token.';
revoke all on function public.revoke_access_token from public;
grant execute on function public.revoke_access_token to authenticated, service_role;
