-- Trigger before update, delete or truncate on what is only ever added to. Raises TD089 for everybody.
create or replace function darkroom.refuse_change()
returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'Append-only' using errcode = 'TD089', detail = 'What stands here is never changed.';
end
$$;
comment on function darkroom.refuse_change is 'Raises TD089: rows are only added.';
revoke all on function darkroom.refuse_change from public;
