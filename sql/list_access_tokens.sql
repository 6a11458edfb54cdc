-- The caller's tokens, newest first, without their secrets; the service sees those of user_id, or all. No row: there are none.
create or replace function public.list_access_tokens(user_id uuid default null)
returns setof public.access_token
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_owner uuid := coalesce(darkroom.caller_owner(), list_access_tokens.user_id);
begin
  return query
  select t.id, t.owner_id, t.scope, t.label, t.prefix, t.created_at, t.expires_at, t.revoked_at, t.last_used_at
  from darkroom.access_tokens t where t.owner_id = v_owner or v_owner is null
  order by t.created_at desc, t.id;
end
$$;
comment on function public.list_access_tokens is 'Personal access tokens, without their secrets.';
revoke all on function public.list_access_tokens from public;
grant execute on function public.list_access_tokens to authenticated, service_role;
