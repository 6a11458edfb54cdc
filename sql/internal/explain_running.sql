-- explain_task for a task In Progress: its reasons.
create or replace function darkroom.explain_running(p_task public.tasks)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_worker public.workers;
  v_seen timestamptz;
  v_end timestamptz;
  v_max integer;
  v_last boolean;
  v_after text;
  v_all bigint;
  v_done bigint;
  v_running bigint;
  v_detail jsonb;
  v_reasons jsonb := '[]'::jsonb;
begin
  -- an orchestrator
  select count(*), count(*) filter (where c.status = 'Complete'), count(*) filter (where c.status = 'In Progress') into v_all, v_done, v_running
  from public.tasks c where c.orchestrator_task_id = p_task.id;
  if v_all > 0 then
    v_reasons := v_reasons || darkroom.reason('waits_for_children', format('It waits for the tasks of its tree: %s of %s are done.', v_done, v_all),
      jsonb_build_object('done', v_done, 'running', v_running, 'all', v_all));
    if darkroom.has_live_children(p_task.id) then
      return v_reasons;
    end if;
  end if;

  select w.* into v_worker from public.workers w where w.id = p_task.worker_id;
  v_seen := greatest(p_task.claimed_at, v_worker.last_heartbeat);
  v_end := darkroom.lease_end(p_task, v_worker);
  select ty.max_attempts into v_max from public.task_types ty where ty.name = p_task.task_type;
  v_last := p_task.failed_attempts + 1 >= v_max;
  v_after := case when v_last then 'it fails then, as its attempts are used up' else 'it is queued again then' end;
  v_detail := jsonb_build_object('worker_id', p_task.worker_id, 'attempt', p_task.attempt, 'claimed_at', p_task.claimed_at,
    'last_heartbeat', v_worker.last_heartbeat, 'lease_end', v_end, 'progress', p_task.progress, 'last_attempt', v_last);

  if v_end <= v_now then
    v_reasons := v_reasons || darkroom.reason('lease_over',
      format('Its worker %s was not heard from since %s, and its lease is over; requeue_expired_tasks, which runs every 10 s, takes it back.',
             p_task.worker_id, darkroom.in_words(v_seen)), v_detail);
  elsif not darkroom.worker_alive(v_worker, v_seen) then
    v_reasons := v_reasons || darkroom.reason('worker_silent',
      format('Its worker %s has not been heard from since %s. Its lease ends at %s; %s.', p_task.worker_id, darkroom.in_words(v_seen), darkroom.in_words(v_end), v_after), v_detail);
  elsif p_task.id <> all (v_worker.running) and v_worker.last_heartbeat > p_task.claimed_at + interval '10 seconds' then
    v_reasons := v_reasons || darkroom.reason('worker_dropped',
      format('Its worker %s is alive and does not name it among what it runs. Its lease ends at %s; %s.', p_task.worker_id, darkroom.in_words(v_end), v_after), v_detail);
  else
    v_reasons := v_reasons || darkroom.reason('running',
      format('Worker %s has been running it since %s%s.', p_task.worker_id, darkroom.in_words(p_task.claimed_at),
             case when jsonb_typeof(p_task.progress -> 'percent') = 'number' then format(' (%s %%)', round((p_task.progress -> 'percent')::numeric)) else '' end), v_detail);
  end if;
  return v_reasons;
end
$$;
comment on function darkroom.explain_running is 'Explains a running task.';
revoke all on function darkroom.explain_running from public;
