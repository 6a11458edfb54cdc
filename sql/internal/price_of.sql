-- Price of one task of a type, in credits: base_price + unit_price * units found at unit_path.
-- Raises TD003 when the number of units is not a whole number between 1 and max_units.
create or replace function darkroom.price_of(p_type public.task_types, p_params jsonb)
returns numeric
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_units text;
begin
  if p_type.unit_price = 0 then
    return p_type.base_price;
  end if;

  v_units := p_params #>> string_to_array(p_type.unit_path, '.');
  if v_units is null or v_units !~ '^[0-9]{1,6}$' or v_units::integer not between 1 and p_type.max_units then
    raise exception 'Invalid params' using errcode = 'TD003',
      detail = format('params.%s must be a whole number from 1 to %s.', p_type.unit_path, p_type.max_units),
      hint = 'The price of this task type depends on it.';
  end if;
  return p_type.base_price + p_type.unit_price * v_units::integer;
end
$$;
comment on function darkroom.price_of is 'Price in credits of a task of this type with these params.';
revoke all on function darkroom.price_of from public;
