-- Tries again to make the generations that finished tasks lack ("can manually process" of the spec), and returns those made.
-- No row: none was missing, or the cause still stands (see generation_errors). project_id: only there.
create or replace function public.repair_generations(project_id uuid default null, max_tasks integer default 1000)
returns setof public.generations
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task record;
begin
  for v_task in
    select t.id, t.owner_id from public.tasks t join public.task_types ty on ty.name = t.task_type
    where t.status = 'Complete' and not t.generation_created and ty.result_type is not null
      and btrim(t.output_location) <> '' and (repair_generations.project_id is null or t.project_id = repair_generations.project_id)
    order by t.owner_id, t.id
    limit repair_generations.max_tasks
  loop
    perform darkroom.lock_owner(v_task.owner_id);
    update public.tasks t set status = status where t.id = v_task.id and not t.generation_created;
    return query select g.* from public.generations g where g.source_task_id = v_task.id;
  end loop;
end
$$;
comment on function public.repair_generations is 'Makes the generations that finished tasks lack.';
revoke all on function public.repair_generations from public;
grant execute on function public.repair_generations to service_role;
