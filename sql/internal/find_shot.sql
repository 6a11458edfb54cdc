-- The shot a task's generation belongs on: the first of the paths in its params that holds a uuid. Null when there is none, or when
-- it is not a shot of the task's project; what was named and not found is recorded in generation_errors.
create or replace function darkroom.find_shot(p_task public.tasks, p_paths text[])
returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_path text;
  v_value jsonb;
  v_named jsonb;
  v_shot uuid;
begin
  foreach v_path in array p_paths loop
    v_value := p_task.params #> string_to_array(v_path, '.');
    if jsonb_typeof(v_value) is distinct from 'null' and v_value is not null then
      v_named := coalesce(v_named, v_value);
      v_shot := darkroom.as_uuid(v_value);
      exit when v_shot is not null;
    end if;
  end loop;
  if v_named is null or exists (select from public.shots s where s.id = v_shot and s.project_id = p_task.project_id) then
    return v_shot;
  end if;
  perform darkroom.log_generation_error(p_task, 'shot_link', null,
    format('No shot %s in project %s; the generation was made without link.', left(v_named::text, 100), p_task.project_id));
  return null;
end
$$;
comment on function darkroom.find_shot is 'The shot of the same project that a task''s params name, or null.';
revoke all on function darkroom.find_shot from public;
