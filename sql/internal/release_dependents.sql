-- Files what waited for a task that is now Complete, where it waits for nothing else. The caller holds the owner's lock.
create or replace function darkroom.release_dependents(p_done uuid)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_task public.tasks;
begin
  for v_task in
    with gone as (delete from darkroom.task_deps d where d.dep_id = p_done returning d.task_id)
    select t.* from gone g join public.tasks t on t.id = g.task_id
    where t.status = 'Queued'
      and not exists (select from darkroom.task_deps o where o.task_id = g.task_id and o.dep_id <> p_done)
    order by t.created_at, t.job_no
  loop
    perform darkroom.file_task(v_task);
  end loop;
end
$$;
comment on function darkroom.release_dependents is 'Files what waited for a completed task; the caller holds the owner''s lock.';
revoke all on function darkroom.release_dependents from public;
