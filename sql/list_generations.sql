-- The gallery of a project, or of one shot of it, newest first. older_than: created_at of the last one seen, to read on.
-- No row: there is none (any more). Raises TD020 (no such project of the caller's), TD003 (max_rows not 1 to 1000), TD040.
create or replace function public.list_generations(
  project_id uuid, shot_id uuid default null, max_rows integer default 100, older_than timestamptz default null)
returns setof public.generations
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_caller uuid := darkroom.caller_owner();
begin
  if max_rows is null or max_rows not between 1 and 1000 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'max_rows must be 1 to 1000.';
  elsif not exists (
      select from public.projects p where p.id = list_generations.project_id and p.owner_id = coalesce(v_caller, p.owner_id)) then
    raise exception 'Project not found' using errcode = 'TD020', detail = format('There is no project %s.', list_generations.project_id);
  end if;
  return query
  select g.* from public.generations g
  where g.project_id = list_generations.project_id and g.created_at < coalesce(older_than, 'infinity')
    and (list_generations.shot_id is null or exists (
      select from public.shot_generations sg where sg.generation_id = g.id and sg.shot_id = list_generations.shot_id))
  order by g.created_at desc, g.id
  limit max_rows;
end
$$;
comment on function public.list_generations is 'The gallery of a project or shot, newest first.';
revoke all on function public.list_generations from public;
grant execute on function public.list_generations to authenticated, service_role;
