-- Ends a task as Failed or Cancelled, and with it what cannot go on: the whole tree of an orchestrator ends as it does, and
-- what waits for any of them fails, with the reason. Holds are released, running workers are told. The caller holds the
-- owner's lock. p_outcome is how the task's own attempt ended, if it was running (task_attempts.outcome).
create or replace function darkroom.close_tasks(p_owner uuid, p_task uuid, p_status text, p_error text, p_outcome text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_seeds uuid[] := array[p_task];
  v_status text := p_status;
  v_tree_error text;
  v_closed uuid[];  -- in this round: what waited for those of earlier rounds has been found, so a long chain costs what it is long
  v_tree uuid[];
  v_task public.tasks;
  v_own boolean;
begin
  v_tree_error := format('Task %s of the same tree ended as %s: %s', p_task, p_status, p_error);
  while cardinality(v_seeds) > 0 loop
    with roots as (
      select coalesce(t.orchestrator_task_id, t.id) as id from public.tasks t where t.id = any (v_seeds)
    ), tree as (
      select r.id from roots r
      union select c.id from roots r join public.tasks c on c.orchestrator_task_id = r.id
    )
    select array_agg(x.id) into v_tree from tree x;
    v_closed := '{}';

    for v_task in
      select t.* from public.tasks t
      where t.id = any (v_tree) and t.owner_id = p_owner and t.status in ('Queued', 'In Progress')
      order by t.id for update
    loop
      v_own := v_task.id = p_task;
      update public.tasks t
      set status = v_status, error_message = left(case when v_own then p_error else v_tree_error end, 4000),
          run_after = null, completed_at = clock_timestamp(), updated_at = clock_timestamp(),
          failed_attempts = t.failed_attempts + (v_own and p_outcome in ('failed', 'expired', 'lost') and t.status = 'In Progress')::integer
      where t.id = v_task.id;
      if v_task.status = 'Queued' then
        perform darkroom.drop_from_queue(v_task);
      else
        perform darkroom.end_attempt(v_task, case when v_own then p_outcome else 'cancelled' end,
                                     case when v_own then p_error else v_tree_error end);
        if not (v_own and p_outcome = 'failed') then
          perform darkroom.notify_workers(v_task.job_no);
        end if;
      end if;
      v_closed := v_closed || v_task.id;
    end loop;

    with gone as (delete from darkroom.task_deps d where d.dep_id = any (v_closed) returning d.task_id)
    select coalesce(array_agg(distinct g.task_id) filter (where g.task_id <> all (v_closed)), array[]::uuid[]) into v_seeds from gone g;
    v_status := 'Failed';
    v_tree_error := format('Waits for task %s, which ended as %s: %s', p_task, p_status, p_error);
  end loop;
end
$$;
comment on function darkroom.close_tasks is 'Ends a task as Failed or Cancelled with its tree and what waits for it; the caller holds the owner''s lock.';
revoke all on function darkroom.close_tasks from public;
