-- The only place that speaks River's two wire formats (topics river_insert and river_control in schema river).
-- No argument: something can be claimed; rings only if a worker armed the bell, so that busy systems commit without NOTIFY.
-- p_cancel_job_no: tells the worker that runs this task to stop. River knows tasks by their negated job_no.
-- Returns whether it told anybody. A rollback swallows a ring: workers poll besides.
create or replace function darkroom.notify_workers(p_cancel_job_no bigint default null)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_cancel_job_no is not null then
    perform pg_notify('river.river_control',
                      jsonb_build_object('action', 'cancel', 'queue', 'tasks', 'job_id', -p_cancel_job_no)::text);
    return true;
  elsif pg_sequence_last_value('darkroom.worker_bell') = 2 then
    perform setval('darkroom.worker_bell', 1);
    perform pg_notify('river.river_insert', '{"queue":"tasks"}');
    return true;
  end if;
  return false;
end
$$;
comment on function darkroom.notify_workers is 'Wakes idle workers, or tells one to stop a task.';
revoke all on function darkroom.notify_workers from public;
