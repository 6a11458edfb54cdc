-- The token that binds what the caller may do as a worker: null for whoever is trusted with every worker's tasks (the service, and
-- workers that log in to the database). Raises TD041 for callers that are no workers.
create or replace function darkroom.caller_token()
returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role text := coalesce(nullif(current_setting('role'), 'none'), session_user);
begin
  if pg_has_role(v_role, 'service_role', 'usage') then
    return null;
  elsif not pg_has_role(v_role, 'worker', 'usage') then
    raise exception 'Not allowed' using errcode = 'TD041', detail = 'Only workers may do this.';
  end if;
  return auth.token_id();
end
$$;
comment on function darkroom.caller_token is 'The token that the caller works under; null: trusted with every task.';
revoke all on function darkroom.caller_token from public;
