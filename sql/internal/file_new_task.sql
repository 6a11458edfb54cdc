-- Deferred trigger after insert on tasks: files the task at COMMIT, so that a long transaction of an app holds its owner's
-- lock for milliseconds only, and a task that commits late still stands in its place. Raises TD011 (the owner has too many queued tasks).
create or replace function darkroom.file_new_task()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_task public.tasks;
  v_filed text[];
  v_ignored boolean;
begin
  -- Of many made together the first files the others. See file_new_tasks.
  if new.dependant_on is null and current_setting('darkroom.filed', true) <> '' then
    v_filed := string_to_array(current_setting('darkroom.filed', true), '|');
    if v_filed[1] is distinct from new.project_id::text or new.job_no > v_filed[2]::bigint or new.created_at < v_filed[3]::timestamptz then
      perform darkroom.file_new_tasks(new);
    end if;
    return null;
  end if;

  v_ignored := darkroom.lock_owner(new.owner_id);
  select t.* into v_task from public.tasks t where t.id = new.id and (t.status = 'Queued') is true;
  if found then
    -- A running tree needs its children.
    v_ignored := darkroom.check_queue_room(v_task.owner_id, v_task.job_no, v_task.orchestrator_task_id is null);
    perform darkroom.file_task(v_task);
  end if;
  return null;
end
$$;
comment on function darkroom.file_new_task is 'Files a new task in the queue at commit.';
revoke all on function darkroom.file_new_task from public;
