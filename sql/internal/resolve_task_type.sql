-- The type of task that is asked for: by name, or by the tool that makes it (table tools).
-- Raises TD001 when neither is named, TD002 when it is unknown, switched off, or the two disagree.
create or replace function darkroom.resolve_task_type(p_tool_id text, p_task_type text)
returns public.task_types
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type public.task_types;
begin
  if p_tool_id is null and p_task_type is null then
    raise exception 'Missing required fields' using errcode = 'TD001',
      detail = 'Neither tool_id nor task_type is given.', hint = 'Name a tool (table tools) or a task type (table task_types).';
  end if;

  select ty.* into v_type
  from public.task_types ty
  where ty.name = coalesce(p_task_type, (select tl.task_type from public.tools tl where tl.tool_id = p_tool_id));

  if not found or not v_type.enabled then
    raise exception 'Unknown task type' using errcode = 'TD002',
      detail = format('There is no %s.', case when p_task_type is not null then format('task type "%s"', left(p_task_type, 100))
                                              else format('tool "%s"', left(p_tool_id, 100)) end),
      hint = 'The known ones stand in the tables task_types and tools.';
  end if;
  return v_type;
end
$$;
comment on function darkroom.resolve_task_type is 'Task type by its name or by the tool that makes it.';
revoke all on function darkroom.resolve_task_type from public;
