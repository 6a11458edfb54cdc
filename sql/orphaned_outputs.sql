-- Which of these folders in storage, "{owner}/tasks/{task}/{attempt}", hold what nobody will ever see: files of an attempt that is over
-- and whose files no row names. With "/previews" at its end, a folder holds pictures of what is unfinished: those of an attempt that is over are
-- orphans whoever names them. The array holds some of those given, each once; null elements, and what is no such folder, are passed over.
--
-- In doubt a folder is not among them: its task is unknown here or another owner's, its attempt is the task's last and the task may still
-- complete, or is one that this database has not given out; or any task or generation names it anywhere, in locations, params or metadata.
-- Writes nothing. Reads tasks and generations whole, unless each folder is out of the question by its task alone.
-- Files are to be a day old before their folder is asked for, so that nothing is deleted that is just being stored or completed.
create or replace function public.orphaned_outputs(folders text[])
returns text[]
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  c_uuid constant text := '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
  v_over text[];
  v_previews text[];
begin
  perform darkroom.refuse_tokens();
  with given as materialized (
    select distinct f.folder, split_part(f.folder, '/', 1)::uuid as owner_id, split_part(f.folder, '/', 3)::uuid as task_id,
      split_part(f.folder, '/', 4)::integer as attempt, f.folder like '%/previews' as previews
    from unnest(orphaned_outputs.folders) as f (folder)
    where f.folder ~ ('^' || c_uuid || '/tasks/' || c_uuid || '/[1-9][0-9]{0,8}(/previews)?$')
  )
  select array_agg(g.folder) filter (where not g.previews and strpos(t::text, g.folder) = 0),
    coalesce(array_agg(g.folder order by g.folder) filter (where g.previews), '{}')
  into v_over, v_previews
  from given g join public.tasks t on t.id = g.task_id and t.owner_id = g.owner_id
  where g.attempt < t.attempt or g.attempt = t.attempt and t.status in ('Complete', 'Failed', 'Cancelled');
  if v_over is null then
    return v_previews;
  end if;

  return (
    with texts as (
      select concat_ws(' ', t.output_location, t.thumbnail_url, t.params, t.metadata, t.progress) as said from public.tasks t
      union all
      select concat_ws(' ', g.location, g.thumbnail_url, g.params, g.metadata) from public.generations g
    ), named as (
      select m.folder[1] as folder
      from texts x cross join lateral regexp_matches(x.said, '(' || c_uuid || '/tasks/' || c_uuid || '/[0-9]+)', 'g') as m (folder)
      where strpos(x.said, '/tasks/') > 0
    )
    select coalesce(array_agg(o.folder order by o.folder), '{}') from unnest(v_over || v_previews) as o (folder)
    where o.folder = any (v_previews) or not exists (select from named n where n.folder = o.folder)
  );
end
$$;
comment on function public.orphaned_outputs is 'Folders of outputs that no row refers to.';
revoke all on function public.orphaned_outputs from public;
grant execute on function public.orphaned_outputs to worker, service_role;
