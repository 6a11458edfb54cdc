-- Queues again what a worker holds, because it no longer runs; counted as failed attempts. An orchestrator whose tree runs needs no worker and
-- stays. Returns how many. Takes the locks of their owners, in the order of their ids.
create or replace function darkroom.lose_tasks(p_worker text, p_error text)
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_held record;
  v_task public.tasks;
  v_count integer := 0;
begin
  for v_held in
    select t.owner_id, t.id from public.tasks t
    where t.worker_id = p_worker and t.status = 'In Progress' order by t.owner_id, t.id
  loop
    perform darkroom.lock_owner(v_held.owner_id);
    select t.* into v_task from public.tasks t
    where t.id = v_held.id and (t.status = 'In Progress') is true and t.worker_id = p_worker for update;
    if found and not darkroom.has_live_children(v_task.id) then
      perform darkroom.requeue_task(v_task, 'lost', p_error);
      v_count := v_count + 1;
    end if;
  end loop;
  return v_count;
end
$$;
comment on function darkroom.lose_tasks is 'Queues again what a worker holds that no longer runs.';
revoke all on function darkroom.lose_tasks from public;
