-- Says that a worker is alive, and returns what it must stop: one row per task it should no longer work on, with the verdict
-- 'cancelled' (the task has ended) or 'lost' (the lease is gone). No row: go on.
-- running: what it works on, as JSON [{"task_id", "attempt", "progress"?}]; tasks not named are not held by this heartbeat. Null:
-- it does not say, and all that it holds stays held. Progress is written as report_progress does, but skipped where somebody else
-- has the row locked. info: replaces what the worker said of itself; null leaves it. Raises TD022 (unknown worker), TD003 (running is malformed). Writes workers, tasks.progress.
create or replace function public.heartbeat_worker(worker_id text, running jsonb default null, info jsonb default null)
returns setof public.heartbeat_verdict
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_worker text := darkroom.caller_worker(heartbeat_worker.worker_id);
  v_names uuid[];
begin
  if running is not null then
    if jsonb_typeof(running) <> 'array' or jsonb_array_length(running) > 1000 or exists (
         select from jsonb_array_elements(running) r
         where darkroom.as_uuid(r -> 'task_id') is null or coalesce(r ->> 'attempt', '') !~ '^[0-9]{1,9}$'
            or coalesce(jsonb_typeof(r -> 'progress'), 'object') not in ('object', 'null')) then
      raise exception 'Invalid params' using errcode = 'TD003',
        detail = 'running must be a list of up to 1000 {"task_id": uuid, "attempt": number, "progress"?: object}.';
    end if;
    select coalesce(array_agg(darkroom.as_uuid(r -> 'task_id')), '{}') into v_names from jsonb_array_elements(running) r;
  end if;

  update public.workers w
  set last_heartbeat = clock_timestamp(), running = v_names, info = coalesce(heartbeat_worker.info, w.info)
  where w.id = v_worker;
  if not found then
    raise exception 'Unknown worker' using errcode = 'TD022',
      detail = format('No worker "%s" is registered.', left(heartbeat_worker.worker_id, 200)), hint = 'Call register_worker first.';
  end if;

  with said as (
    select darkroom.as_uuid(r -> 'task_id') as id, (r ->> 'attempt')::integer as attempt, r -> 'progress' as progress
    from jsonb_array_elements(running) r where jsonb_typeof(r -> 'progress') = 'object'
  ), mine as (
    select t.id, s.progress from said s join public.tasks t on t.id = s.id
    where (t.status = 'In Progress') is true and t.worker_id = v_worker and t.attempt = s.attempt
      and t.progress is distinct from s.progress
    for update of t skip locked
  )
  update public.tasks t set progress = m.progress, updated_at = clock_timestamp() from mine m where t.id = m.id;

  -- With a token, a worker learns nothing of tasks that it never held: they are lost, whether they exist or not.
  return query
  select s.id, s.attempt,
    case when t.status in ('Complete', 'Failed', 'Cancelled') and t.attempt = s.attempt and (
           darkroom.caller_token() is null or exists (
             select from public.task_attempts a where a.task_id = t.id and a.attempt = t.attempt and a.worker_id = v_worker))
         then 'cancelled' else 'lost' end
  from (select darkroom.as_uuid(r -> 'task_id') as id, (r ->> 'attempt')::integer as attempt from jsonb_array_elements(running) r) s
  left join public.tasks t on t.id = s.id
  where t.id is null or t.status <> 'In Progress' or t.worker_id <> v_worker or t.attempt <> s.attempt;
end
$$;
comment on function public.heartbeat_worker is 'Says that a worker is alive; returns the tasks it must stop.';
revoke all on function public.heartbeat_worker from public;
grant execute on function public.heartbeat_worker to worker, service_role;
