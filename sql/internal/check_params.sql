-- Refuses params that are no object, too large, too deep, or lack what the type requires: TD003, TD004. Otherwise returns true.
create or replace function darkroom.check_params(p_type public.task_types, p_params jsonb)
returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  c_max_bytes constant integer := 1048576;
  c_max_depth constant integer := 32;
  c_max_values constant integer := 10000;
  v_bytes integer := octet_length(p_params::text);
  v_path text;
  v_found jsonb;
begin
  if p_params is null or jsonb_typeof(p_params) <> 'object' then
    raise exception 'Missing required fields' using errcode = 'TD001',
      detail = 'params (input) must be a JSON object.', hint = 'Send {} if there is nothing to say.';
  end if;
  if v_bytes > c_max_bytes then
    raise exception 'Params too large' using errcode = 'TD004',
      detail = format('params may be up to %s bytes as text.', c_max_bytes), hint = 'Upload large inputs and send their location.';
  end if;
  -- $.**{n} is what lies n levels down; nothing may lie deeper than the limit. Each level takes two bytes at least.
  if v_bytes > 2 * c_max_depth and jsonb_path_exists(p_params, '$.**{33}') then
    raise exception 'Params too large' using errcode = 'TD004',
      detail = format('params may be nested up to %s levels.', c_max_depth), hint = 'Flatten the structure.';
  end if;

  -- Counted only where the text is long enough to hold so many.
  if v_bytes > 2 * c_max_values and (select count(*) from jsonb_path_query(p_params, '$.**')) > c_max_values then
    raise exception 'Params too large' using errcode = 'TD004',
      detail = format('params may hold up to %s values.', c_max_values), hint = 'Upload large inputs and send their location.';
  end if;

  foreach v_path in array p_type.required_params loop
    v_found := p_params #> string_to_array(v_path, '.');
    if v_found is null or v_found in ('null'::jsonb, '""'::jsonb) then
      raise exception 'Missing required fields' using errcode = 'TD001',
        detail = format('%s needs params.%s.', p_type.name, v_path), hint = 'Required params stand in task_types.required_params.';
    end if;
  end loop;
  return true;
end
$$;
comment on function darkroom.check_params is 'Refuses params that are too large, too deep or incomplete for the type.';
revoke all on function darkroom.check_params from public;
