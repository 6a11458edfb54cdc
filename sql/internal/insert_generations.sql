-- Inserts the generations of finished tasks and their links to shots. One that is there already for a task is that one, and so is a link.
-- p_types and p_shots: of each task, image or video, and the shot it belongs on, or null. Returns how many links are new. Raises what the rows violate.
create or replace function darkroom.insert_generations(p_tasks public.tasks[], p_types text[], p_shots uuid[])
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_links bigint;
begin
  with made as (
    insert into public.generations as g (id, owner_id, project_id, type, location, thumbnail_url, params, metadata, tasks, source_task_id, created_at)
    select darkroom.new_id(), t.owner_id, t.project_id, p_types[t.ordinality], t.output_location,
      coalesce(t.thumbnail_url, t.params #>> '{full_orchestrator_payload,thumbnail_url}', t.params ->> 'thumbnail_url'),
      t.params, t.metadata, jsonb_build_array(t.id), t.id, coalesce(t.completed_at, clock_timestamp())
    from unnest(p_tasks) with ordinality t
    on conflict (source_task_id) do nothing
    returning g.id, g.source_task_id
  )
  insert into public.shot_generations (id, owner_id, project_id, shot_id, generation_id, position)
  select darkroom.new_id(), l.owner_id, l.project_id, l.shot_id, l.generation_id, null
  from (select t.owner_id, t.project_id, p_shots[t.ordinality] as shot_id, m.id is not null as new,
          coalesce(m.id, (select g.id from public.generations g where g.source_task_id = t.id)) as generation_id
        from unnest(p_tasks) with ordinality t left join made m on m.source_task_id = t.id
        where p_shots[t.ordinality] is not null) l
  where l.new or not exists (select from public.shot_generations sg where sg.shot_id = l.shot_id and sg.generation_id = l.generation_id);
  get diagnostics v_links = row_count;
  return v_links;
end
$$;
comment on function darkroom.insert_generations is 'Inserts the generations of finished tasks, and links them to their shots.';
revoke all on function darkroom.insert_generations from public;
