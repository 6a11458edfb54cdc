-- Queues again what is held by a worker that has not been heard from, and returns those tasks as they are then; Failed when their
-- attempts are used up. A lease ends lease_timeout after the later of the claim and the worker's last heartbeat that covers the task.
-- To be called every few seconds. When it was not (the database was down, no caller was there), workers first get 90 s to be
-- heard: an outage burns no lease. An orchestrator whose tree still runs has no lease. Owners that are busy come at the next call.
create or replace function public.requeue_expired_tasks(max_tasks integer default 1000)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_gap constant interval := interval '60 seconds';
  c_grace constant interval := interval '90 seconds';
  v_now timestamptz := clock_timestamp();
  v_resumed timestamptz;
  v_due record;
  v_task public.tasks;
begin
  perform darkroom.refuse_tokens();
  update darkroom.lease_watch l
  set last_run = v_now, resumed_at = case when l.last_run < v_now - c_gap then v_now else l.resumed_at end
  returning l.resumed_at into v_resumed;

  for v_due in
    select t.owner_id, t.id
    from public.tasks t left join public.workers w on w.id = t.worker_id
    where t.status = 'In Progress' and darkroom.lease_end(t, w) < v_now
      and v_now > v_resumed + least(coalesce(w.lease_timeout, c_grace), c_grace)
      and not darkroom.has_live_children(t.id)
    order by t.owner_id, t.id
    limit requeue_expired_tasks.max_tasks
  loop
    continue when not darkroom.lock_owner(v_due.owner_id, false);
    select t.* into v_task from public.tasks t left join public.workers w on w.id = t.worker_id
    where t.id = v_due.id and (t.status = 'In Progress') is true and darkroom.lease_end(t, w) < v_now and not darkroom.has_live_children(t.id)
    for update of t;
    if found then
      return next darkroom.requeue_task(v_task, 'expired', format('Worker %s was not heard from.', v_task.worker_id));
      -- Whoever still runs it hears of it when next it is heard from. A message now could stop the attempt that comes next.
    end if;
  end loop;
end
$$;
comment on function public.requeue_expired_tasks is 'Queues again what is held by workers that have fallen silent.';
revoke all on function public.requeue_expired_tasks from public;
grant execute on function public.requeue_expired_tasks to worker, service_role;
