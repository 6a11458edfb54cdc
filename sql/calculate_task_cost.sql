-- What a task would cost now, in credits. Takes what create_task takes: tool_id and input, or task_type and params.
-- Raises TD001, TD002, TD003 and TD004 as create_task does. Anybody may ask; nothing is written.
create or replace function public.calculate_task_cost(
  tool_id text default null, input jsonb default null, task_type text default null, params jsonb default null)
returns numeric
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type public.task_types := darkroom.resolve_task_type(tool_id, task_type);
  v_params jsonb := coalesce(params, input, '{}');
begin
  perform darkroom.check_params(v_type, v_params);
  return darkroom.price_of(v_type, v_params);
end
$$;
comment on function public.calculate_task_cost is 'Price of a task in credits.';
revoke all on function public.calculate_task_cost from public;
grant execute on function public.calculate_task_cost to anon, authenticated, worker, service_role;
