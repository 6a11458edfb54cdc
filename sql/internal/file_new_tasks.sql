-- Files, at commit, a new task without dependencies and with it all of its project that this transaction made after it, as far as the queue has room. From the
-- first of a lane that goes to the backlog on, the lane's others follow together: they are younger. What it filed stands in the setting darkroom.filed for the
-- triggers of those. See create_tasks. Returns how many. Raises TD011 (the owner has too many queued tasks).
create or replace function darkroom.file_new_tasks(p_first public.tasks)
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Planned once, for any size of the tables: a plan made when they were empty must not be a scan.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_upto bigint;
  v_ids uuid[];
  v_next record;
  v_task public.tasks;
  v_lane public.tasks;
  v_ignored boolean;
begin
  v_ignored := darkroom.lock_owner(p_first.owner_id);
  perform from public.tasks t where t.id = p_first.id and (t.status = 'Queued') is true;
  if not found then
    return 0;
  end if;
  v_ignored := darkroom.check_queue_room(p_first.owner_id, p_first.job_no, p_first.orchestrator_task_id is null);
  select r.to_job_no into v_upto from darkroom.queue_room r where r.owner_id = p_first.owner_id;

  -- What other transactions made of the project since then is in the queue: we hold the owner's lock.
  select array_agg(t.id), max(t.job_no) into v_ids, v_upto
  from public.tasks t
  where t.project_id = p_first.project_id and t.created_at >= p_first.created_at and t.job_no between p_first.job_no and greatest(v_upto, p_first.job_no)
    and (t.status = 'Queued') is true and t.dependant_on is null and t.run_after is null
    and not exists (select from darkroom.task_ready r where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no))
    and not exists (select from darkroom.task_backlog b where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no) = (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no));
  if v_ids is null then
    return 0;
  end if;

  for v_next in
    select t.id, t.task_type, t.cost from public.tasks t where t.id = any (v_ids) order by t.task_type, t.cost, t.created_at, t.job_no
  loop
    continue when v_next.task_type = v_lane.task_type and v_next.cost = v_lane.cost;
    select t.* into v_task from public.tasks t where t.id = v_next.id;
    if darkroom.file_task(v_task) = 'backlog' then
      v_lane := v_task;
      insert into darkroom.task_backlog (owner_id, task_type, cost, created_at, job_no, task_id)
      select t.owner_id, t.task_type, t.cost, t.created_at, t.job_no, t.id
      from public.tasks t
      where t.id = any (v_ids) and t.task_type = v_lane.task_type and t.cost = v_lane.cost and (t.created_at, t.job_no) > (v_lane.created_at, v_lane.job_no);
    end if;
  end loop;
  perform set_config('darkroom.filed', concat_ws('|', p_first.project_id, v_upto, p_first.created_at), true);
  return cardinality(v_ids);
end
$$;
comment on function darkroom.file_new_tasks is 'Files a new task, and those that were made with it.';
revoke all on function darkroom.file_new_tasks from public;
