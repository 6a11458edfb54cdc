-- The uuid in a JSON value: a string, or an object that has it under id or uuid. Null for everything else; never an error.
create or replace function darkroom.as_uuid(p_value jsonb)
returns uuid
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_text text := case jsonb_typeof(p_value)
                   when 'string' then p_value #>> '{}'
                   when 'object' then coalesce(p_value ->> 'id', p_value ->> 'uuid')
                 end;
begin
  return case when v_text ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then v_text::uuid end;
end
$$;
comment on function darkroom.as_uuid is 'The uuid in a JSON value, or null; never an error.';
revoke all on function darkroom.as_uuid from public;
