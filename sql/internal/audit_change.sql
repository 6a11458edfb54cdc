-- Trigger after insert, update or delete on what only the service changes: who did it goes to darkroom.audit_log, in the same transaction.
-- Arguments: the table, the column that names the row, and the columns to be noted, none of which holds a secret or an address of a person.
-- An update that changes none of them is not noted.
create or replace function darkroom.audit_change()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_old jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_new jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  v_details jsonb;
begin
  select jsonb_object_agg(c.name, coalesce(v_new, v_old) -> c.name) into v_details from unnest(tg_argv[2:]) c (name)
  where v_old is null or v_new is null or v_old -> c.name is distinct from v_new -> c.name;
  if v_details is not null or tg_op <> 'UPDATE' then
    insert into darkroom.audit_log (login, role, subject, token_id, act, object, target, details)
    values (session_user, coalesce(nullif(current_setting('role'), 'none'), session_user), auth.uid(), auth.token_id(),
            tg_op, tg_argv[0], coalesce(v_new, v_old) ->> tg_argv[1], coalesce(v_details, '{}'));
  end if;
  return null;
end
$$;
comment on function darkroom.audit_change is 'Notes in the audit log who changed a row.';
revoke all on function darkroom.audit_change from public;
