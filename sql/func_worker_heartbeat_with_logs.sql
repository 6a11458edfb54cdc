-- The heartbeat of Headless-Wan2GP, by the name and parameters that it calls: says that a worker is alive and holds all that it runs. Returns
-- {"success": true, "worker_id", "requeued"}. A worker that is not known is made known, as by its first claim. While heartbeats come, one every 20 s, its tasks
-- are held for 90 s of silence. status_param 'crashed' says that its process is gone: what it held is queued again at once.
--
-- Of the log the newest ten errors are kept, cut, in workers.info; the rest is not stored, and neither are rows after the hundredth. Nothing in a log is an error here.
-- Raises TD003 (a name out of bounds, or a token with too many workers), TD041. Writes workers, and for 'crashed' the tasks it held.
create or replace function public.func_worker_heartbeat_with_logs(
  worker_id_param text, vram_total_mb_param numeric default null, vram_used_mb_param numeric default null, logs_param jsonb default null,
  status_param text default 'active')
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_id text := darkroom.meet_worker(worker_id_param);
  v_logs jsonb := case when jsonb_typeof(logs_param) = 'array' then logs_param else '[]' end;
  v_errors jsonb;
  v_requeued integer := 0;
begin
  select jsonb_agg(jsonb_build_object('timestamp', left(l.row ->> 'timestamp', 40), 'task_id', left(l.row ->> 'task_id', 100),
                                      'message', left(l.row ->> 'message', 500)) order by l.place desc)
  into v_errors
  from (select e.* from jsonb_array_elements(v_logs) with ordinality as e (row, place)
        where e.place <= 100 and upper(e.row ->> 'level') in ('ERROR', 'CRITICAL') order by e.place desc limit 10) l;

  update public.workers w
  set last_heartbeat = clock_timestamp(), running = null, lease_timeout = least(w.lease_timeout, interval '90 seconds'),
      info = case when jsonb_typeof(w.info) = 'object' then w.info else '{}' end
        || jsonb_build_object('vram_total_mb', vram_total_mb_param, 'vram_used_mb', vram_used_mb_param, 'status', left(status_param, 40))
        || case when v_errors is null then '{}' else jsonb_build_object('errors', v_errors) end
        || case when w.lease_timeout > interval '90 seconds' then '{"silent_lease": true}'::jsonb else '{}' end
  where w.id = v_id;
  if status_param = 'crashed' then
    v_requeued := darkroom.lose_tasks(v_id, format('Worker %s crashed.', worker_id_param));
  end if;
  return jsonb_build_object('success', true, 'worker_id', worker_id_param, 'requeued', v_requeued);
end
$$;
comment on function public.func_worker_heartbeat_with_logs is 'The heartbeat of Headless-Wan2GP.';
revoke all on function public.func_worker_heartbeat_with_logs from public;
grant execute on function public.func_worker_heartbeat_with_logs to worker, service_role;
