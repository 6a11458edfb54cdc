-- Inserts the generation of a finished task and returns its id. One that is there already for this task is that one.
create or replace function darkroom.insert_generation(p_task public.tasks, p_type text)
returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
begin
  insert into public.generations (owner_id, project_id, type, location, thumbnail_url, params, metadata, tasks, source_task_id, created_at)
  values (p_task.owner_id, p_task.project_id, p_type, p_task.output_location,
          coalesce(p_task.thumbnail_url, p_task.params #>> '{full_orchestrator_payload,thumbnail_url}', p_task.params ->> 'thumbnail_url'),
          p_task.params, p_task.metadata, jsonb_build_array(p_task.id), p_task.id, coalesce(p_task.completed_at, clock_timestamp()))
  on conflict (source_task_id) do nothing
  returning id into v_id;
  if not found then
    select g.id into strict v_id from public.generations g where g.source_task_id = p_task.id;
  end if;
  return v_id;
end
$$;
comment on function darkroom.insert_generation is 'Inserts the generation of a finished task.';
revoke all on function darkroom.insert_generation from public;
