-- After a child completed: completes its orchestrator when the tree is done, with the output of the stitch. A tree without a
-- stitch is done when all the segments it was priced for are, with the output of the last one, and its worker has said what it made
-- (progress.message, by update_task_status): before that the stitch may be still to come, from a worker that makes a tree task by task.
-- Until then it shows as progress how many of the tree's tasks are done. The caller holds the owner's lock.
create or replace function darkroom.finish_orchestrator(p_child public.tasks)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before public.tasks;
  v_all bigint;
  v_done bigint;
  v_open boolean;
begin
  if p_child.task_type <> 'travel_stitch' then
    select count(*), count(*) filter (where c.status = 'Complete'), bool_or(c.task_type = 'travel_stitch' or c.status in ('Queued', 'In Progress'))
    into v_all, v_done, v_open
    from public.tasks c where c.orchestrator_task_id = p_child.orchestrator_task_id;
    if v_open then
      update public.tasks t
      set progress = coalesce(t.progress, '{}') || jsonb_build_object('percent', 100 * v_done / v_all, 'value', v_done, 'max', v_all, 'phase', 'tasks'),
          updated_at = clock_timestamp()
      where t.id = p_child.orchestrator_task_id and (t.status = 'In Progress') is true;
      return;
    end if;
  end if;

  select t.* into v_before from public.tasks t
  where t.id = p_child.orchestrator_task_id and (t.status = 'In Progress') is true for update;
  if not found or v_open is not null and (
       v_done < (v_before.params #>> '{orchestrator_details,num_new_segments_to_generate}')::integer
       or not coalesce(v_before.progress ? 'message', false)) then
    return;
  end if;

  update public.tasks t
  set status = 'Complete', output_location = p_child.output_location, thumbnail_url = p_child.thumbnail_url, error_message = null,
      progress = jsonb_build_object('percent', 100), completed_at = clock_timestamp(), updated_at = clock_timestamp()
  where t.id = v_before.id;
  perform darkroom.end_attempt(v_before, 'complete');
  perform darkroom.release_dependents(v_before.id);
end
$$;
comment on function darkroom.finish_orchestrator is 'Completes an orchestrator when its tree is done; the caller holds the owner''s lock.';
revoke all on function darkroom.finish_orchestrator from public;
