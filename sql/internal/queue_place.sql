-- Where a Queued task stands in the queue: 'ready' or 'backlog' (the claim will come to it), 'parked' (its lane is out of the claim's sight, as its owner could not
-- pay), 'deps', 'delayed'; 'stuck' (in a backlog that no window stands before) or 'nowhere', which are faults of ours.
create or replace function darkroom.queue_place(p_task public.tasks)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_mark constant timestamptz := timestamptz 'epoch' + (select m.last_value from darkroom.ready_mark m) * interval '1 microsecond';
  v_parked boolean;
begin
  select r.parked into v_parked from darkroom.task_ready r
  where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (p_task.owner_id, p_task.task_type, p_task.cost, p_task.created_at, p_task.job_no);
  if found then
    return case when v_parked then 'parked' else 'ready' end;
  end if;
  if exists (select from darkroom.task_backlog b
             where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no)
                 = (p_task.owner_id, p_task.task_type, p_task.cost, p_task.created_at, p_task.job_no)) then
    return case
      -- What is not parked is no older than the mark; dead rows are.
      when exists (select from darkroom.task_ready r
                   where r.owner_id = p_task.owner_id and r.task_type = p_task.task_type and r.cost = p_task.cost and not r.parked
                     and r.created_at >= v_mark and (r.created_at, r.job_no) < (p_task.created_at, p_task.job_no)) then 'backlog'
      when exists (select from darkroom.task_ready r
                   where r.owner_id = p_task.owner_id and r.task_type = p_task.task_type and r.cost = p_task.cost and r.parked) then 'parked'
      else 'stuck' end;
  elsif exists (select from darkroom.task_deps d where d.task_id = p_task.id) then
    return 'deps';
  elsif exists (select from darkroom.task_delayed d where d.task_id = p_task.id) then
    return 'delayed';
  end if;
  return 'nowhere';
end
$$;
comment on function darkroom.queue_place is 'Where a Queued task stands in the queue.';
revoke all on function darkroom.queue_place from public;
