-- Takes a task out of the queue. The caller holds the owner's lock.
-- A ready row that a claim has locked is left: the claim waits for the owner's lock, then finds it stale and removes it.
create or replace function darkroom.drop_from_queue(p_task public.tasks)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row darkroom.task_ready;
begin
  delete from darkroom.task_ready r
  using (select l.* from darkroom.task_ready l
         where (l.owner_id, l.task_type, l.cost, l.created_at, l.job_no)
             = (p_task.owner_id, p_task.task_type, p_task.cost, p_task.created_at, p_task.job_no)
         for update skip locked) mine
  where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no)
      = (mine.owner_id, mine.task_type, mine.cost, mine.created_at, mine.job_no)
  returning r.* into v_row;
  if found then
    perform darkroom.refill_lane(v_row.owner_id, v_row.task_type, v_row.cost, v_row.created_at, v_row.job_no, v_row.parked);
    return;
  end if;
  delete from darkroom.task_backlog b
  where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no)
      = (p_task.owner_id, p_task.task_type, p_task.cost, p_task.created_at, p_task.job_no);
  delete from darkroom.task_deps d where d.task_id = p_task.id;
  delete from darkroom.task_delayed d where d.task_id = p_task.id;
end
$$;
comment on function darkroom.drop_from_queue is 'Takes a task out of the queue; the caller holds the owner''s lock.';
revoke all on function darkroom.drop_from_queue from public;
