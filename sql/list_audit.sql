-- The audit log, newest first: who changed users, tokens, prices and tools, and who granted credits. For the service.
-- target: only what was done to that row (a user's, a token's id, a name). older_than: the id of the last entry seen. max_rows: 1 to 1000.
-- No row: there is none. Raises TD003 (max_rows).
create or replace function public.list_audit(target text default null, max_rows integer default 100, older_than bigint default null)
returns setof public.audit_entry
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if list_audit.max_rows is null or list_audit.max_rows not between 1 and 1000 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'max_rows is 1 to 1000.';
  end if;
  return query
  select a.id, a.created_at, a.login, a.role, a.subject, a.token_id, a.act, a.object, a.target, a.details
  from darkroom.audit_log a
  where (list_audit.target is null or a.target = list_audit.target) and a.id < coalesce(list_audit.older_than, 9223372036854775807)
  order by a.id desc limit list_audit.max_rows;
end
$$;
comment on function public.list_audit is 'Who changed users, tokens, prices and tools, and who granted credits.';
revoke all on function public.list_audit from public;
grant execute on function public.list_audit to service_role;
