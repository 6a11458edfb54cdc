-- Lays the data of a task's events one over the other, oldest first: the row as it is now, without params, which never change.
create or replace function darkroom.fold_events(p_data jsonb[])
returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row jsonb := jsonb_build_object();
  v_data jsonb;
begin
  foreach v_data in array coalesce(p_data, array[]::jsonb[]) loop
    v_row := v_row || case when v_data ? 'id' then v_data else darkroom.whole_change(v_data) end;
  end loop;
  return v_row;
end
$$;
comment on function darkroom.fold_events is 'Folds the events of a row into the row.';
revoke all on function darkroom.fold_events from public;
grant execute on function darkroom.fold_events to service_role;
