-- Creates one task, Queued, and returns it. Takes the spec's {project_id, tool_id, input} or the worker's
-- {task_id, project_id, task_type, params, dependant_on}; both may be mixed. It is filed for claiming at COMMIT.
--
-- Idempotent: the same task_id or idempotency_key with the same body returns the task that is there; with another body TD030.
-- Raises TD001 missing fields, TD002 unknown type, TD003 invalid params, TD004 too large or deep, TD010 insufficient credits,
-- TD020 no such project of the caller's, TD023 invalid dependency, TD032 its orchestrator has ended, TD040 and TD041 (see
-- darkroom.prepare_task).
-- One transaction creates for one owner, or in order of owner ids. Writes tasks (and at commit the queue).
create or replace function public.create_task(
  project_id uuid, tool_id text default null, input jsonb default null, task_id uuid default null, task_type text default null,
  params jsonb default null, dependant_on uuid[] default null, idempotency_key text default null)
returns public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_caller uuid;
  v_type public.task_types;
  v_params jsonb := coalesce(create_task.params, create_task.input);
  v_deps uuid[] := nullif(create_task.dependant_on, '{}');
  v_task public.tasks;
begin
  if create_task.project_id is null then
    raise exception 'Missing required fields' using errcode = 'TD001', detail = 'project_id is missing.';
  elsif length(create_task.idempotency_key) not between 1 and 200 then
    raise exception 'Missing required fields' using errcode = 'TD001', detail = 'idempotency_key must have 1 to 200 characters.';
  end if;

  -- Without id and key it is no repeat.
  if create_task.task_id is null and create_task.idempotency_key is null then
    insert into public.tasks as t (project_id, tool_id, task_type, params, dependant_on)
    values (create_task.project_id, create_task.tool_id, create_task.task_type, v_params, v_deps)
    returning t.* into v_task;
    return v_task;
  end if;

  v_caller := darkroom.caller_owner();
  v_type := darkroom.resolve_task_type(create_task.tool_id, create_task.task_type);
  if not exists (select from public.projects p where p.id = create_task.project_id and p.owner_id = coalesce(v_caller, p.owner_id)) then
    raise exception 'Project not found' using errcode = 'TD020', detail = format('There is no project %s.', create_task.project_id);
  end if;

  -- A repeat is answered before prices and credits are looked at: they may have changed since.
  select t.* into v_task from public.tasks t where t.id = create_task.task_id;
  if not found and create_task.idempotency_key is not null then
    select t.* into v_task from public.tasks t
    join public.projects p on p.owner_id = t.owner_id
    where p.id = create_task.project_id and t.idempotency_key = create_task.idempotency_key;
  end if;

  if v_task.id is null then
    insert into public.tasks as t (id, project_id, tool_id, task_type, params, dependant_on, idempotency_key)
    values (create_task.task_id, create_task.project_id, create_task.tool_id, v_type.name, v_params,
            v_deps, create_task.idempotency_key)
    on conflict do nothing
    returning t.* into v_task;
    if found then
      return v_task;
    end if;
    -- Somebody committed the same one just now.
    select t.* into v_task from public.tasks t
    where t.id = create_task.task_id
       or t.idempotency_key = create_task.idempotency_key
          and t.owner_id = (select p.owner_id from public.projects p where p.id = create_task.project_id)
    limit 1;
  end if;

  if v_task.project_id <> create_task.project_id or v_task.task_type <> v_type.name or v_task.params is distinct from v_params
     or v_task.dependant_on is distinct from v_deps or v_task.id <> create_task.task_id
     or v_task.idempotency_key is distinct from create_task.idempotency_key then
    raise exception 'Already created with another body' using errcode = 'TD030',
      detail = 'A task with this id or idempotency key exists and differs.', hint = 'Use a new id or key for a new task.';
  end if;
  return v_task;
end
$$;
comment on function public.create_task is 'Creates one task, Queued, after checking it and the credits.';
revoke all on function public.create_task from public;
grant execute on function public.create_task to authenticated, worker, service_role;
