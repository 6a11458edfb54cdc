-- Trigger before insert on tasks: the one place where a new task is checked, whether it came by create_task or by INSERT.
-- Owner, cost and all that belongs to a running task are set here; what a client says of them does not count.
-- A user makes tasks in their own projects. A worker with a token makes only tasks in the tree of an orchestrator that it runs, which are
-- free: its price covers them. A user's task in a tree would be free as well, and is refused.
-- Raises TD001-TD004 (bad input), TD010 (credits), TD020 (project), TD023 (dependency), TD032 (its orchestrator has ended), TD040 (nobody
-- is signed in), TD041 (a task in a tree that the caller does not run, or a worker's task in none).
create or replace function darkroom.prepare_task()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_caller uuid := darkroom.caller_owner();
  v_token uuid := case when auth.role() = 'worker' then auth.token_id() end;  -- of a worker; one that logs in has no claims
  c_max_deps constant integer := 500;
  v_type public.task_types;
  v_orchestrator public.tasks;
  v_missing uuid;
  v_ignored boolean;
  v_available numeric;
begin
  select p.owner_id into new.owner_id from public.projects p where p.id = new.project_id;
  if not found or new.owner_id <> v_caller then
    raise exception 'Project not found' using errcode = 'TD020', detail = format('There is no project %s.', new.project_id);
  end if;

  v_type := darkroom.resolve_task_type(new.tool_id, new.task_type);
  v_ignored := darkroom.check_params(v_type, new.params);

  -- Dependencies and the tree stay within the project.
  if cardinality(new.dependant_on) = 0 then
    new.dependant_on := null;
  elsif new.dependant_on is not null then
    if cardinality(new.dependant_on) > c_max_deps or array_ndims(new.dependant_on) > 1 then
      raise exception 'Invalid dependency' using errcode = 'TD023', detail = format('A task may wait for up to %s others.', c_max_deps);
    end if;
    select d.id into v_missing from unnest(new.dependant_on) d (id)
    where d.id is null or not exists (select from public.tasks t where t.id = d.id and t.project_id = new.project_id) limit 1;
    if found then
      raise exception 'Invalid dependency' using errcode = 'TD023',
        detail = format('dependant_on names task %s, which is not in this project.', coalesce(v_missing::text, 'null')),
        hint = 'Create the task that is waited for first.';
    end if;
  end if;

  new.orchestrator_task_id := null;
  if new.params ->> 'orchestrator_task_id_ref' is not null then
    select t.* into v_orchestrator from public.tasks t
    where t.id = darkroom.as_uuid(new.params -> 'orchestrator_task_id_ref') and t.project_id = new.project_id
      and t.task_type = 'travel_orchestrator';
    if not found then
      raise exception 'Invalid dependency' using errcode = 'TD023',
        detail = 'params.orchestrator_task_id_ref names no travel_orchestrator of this project.';
    elsif v_orchestrator.status <> 'In Progress' then
      raise exception 'Task has ended' using errcode = 'TD032',
        detail = format('The orchestrator %s is %s.', v_orchestrator.id, v_orchestrator.status),
        hint = 'Only a running orchestrator can have new tasks in its tree.';
    end if;
    new.orchestrator_task_id := v_orchestrator.id;
  end if;
  if v_token is not null and coalesce(new.orchestrator_task_id <> all (darkroom.tasks_of_worker()), true)
     or v_token is null and v_caller is not null and new.orchestrator_task_id is not null then
    raise exception 'Not allowed' using errcode = 'TD041',
      detail = 'Only the worker that runs an orchestrator adds tasks to its tree, and it adds no others.';
  end if;

  -- The orchestrator's price covers its tree.
  new.cost := case when new.orchestrator_task_id is null then darkroom.price_of(v_type, new.params) else 0 end;
  if new.cost > 0 then
    select l.balance_after - l.held_after into v_available from public.credit_ledger l where l.owner_id = new.owner_id order by l.seq desc limit 1;
    if coalesce(v_available, 0) < new.cost then
      raise exception 'Insufficient credits' using errcode = 'TD010',
        detail = format('The task costs %s credits and %s are available.', new.cost, coalesce(v_available, 0)), hint = 'Add credits, then try again.';
    end if;
  end if;

  new.id := coalesce(new.id, darkroom.new_id());
  new.task_type := v_type.name;
  new.status := 'Queued';
  new.attempt := 0;
  new.failed_attempts := 0;
  new.worker_id := null;
  new.claimed_at := null;
  new.run_after := null;
  new.progress := null;
  new.output_location := null;
  new.thumbnail_url := null;
  new.metadata := coalesce(new.metadata, '{}');
  new.error_message := null;
  new.generation_created := false;
  new.completed_at := null;
  new.created_at := clock_timestamp();
  new.updated_at := new.created_at;
  return new;
end
$$;
comment on function darkroom.prepare_task is 'Checks a new task and sets what a client may not: owner, cost, status.';
revoke all on function darkroom.prepare_task from public;
