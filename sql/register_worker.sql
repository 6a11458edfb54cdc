-- Makes a worker known, or says that it started anew; returns its row. What it held before is lost work: queued again at once,
-- counted as a failed attempt. To be called when a worker starts, before its first claim.
-- capabilities: routes it serves besides 'any' (travel types want wan2gp). task_types: the only types it wants; null for all that
-- its capabilities allow. if_unknown: leaves a worker that is known as it is, for callers that see only its claims.
-- lease_timeout: how long it may be silent; 30 minutes unless it sends heartbeats more often. info: what it says of itself, for people.
-- A caller with a token has workers of its own: others may have the same name, and a user's run only that user's tasks.
-- Raises TD002 for a task type that is not in the table, TD003 for an id, a list or a lease out of bounds. Writes workers, and the
-- tasks it held.
create or replace function public.register_worker(
  worker_id text, capabilities text[] default '{}', task_types text[] default null,
  lease_timeout interval default interval '30 minutes', info jsonb default '{}',
  if_unknown boolean default false)
returns public.workers
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_most constant integer := 100;
  v_owner uuid := darkroom.caller_owner();
  v_token uuid := darkroom.caller_token();
  v_id text := register_worker.worker_id;
  v_lease interval := coalesce(register_worker.lease_timeout, interval '30 minutes');
  v_worker public.workers;
  v_unknown text;
begin
  if length(coalesce(register_worker.worker_id, '')) not between 1 and 200
     or v_lease not between interval '1 second' and interval '1 day'
     or cardinality(register_worker.capabilities) > 100 or cardinality(register_worker.task_types) > 1000 then
    raise exception 'Invalid params' using errcode = 'TD003',
      detail = 'worker_id needs 1 to 200 characters, lease_timeout 1 second to 1 day, and the lists must be short.';
  end if;
  select wanted.name into v_unknown
  from unnest(register_worker.task_types) wanted (name) where not exists (select from public.task_types ty where ty.name = wanted.name) limit 1;
  if found then
    raise exception 'Unknown task type' using errcode = 'TD002', detail = format('There is no task type "%s".', left(v_unknown, 100)),
      hint = 'Add a row to the table task_types, or do not offer to run it.';
  end if;

  -- A token's worker has the id of its name, or where that is taken one that nobody else can have. A user's has always such a one: otherwise
  -- users could take the names of the service's own workers before those start.
  if v_token is not null then
    v_id := (select w.id from public.workers w where w.token_id = v_token and w.name = register_worker.worker_id);
    if v_id is null then
      if (select count(*) from public.workers w where w.token_id = v_token) >= c_most then
        raise exception 'Invalid params' using errcode = 'TD003', detail = format('A token may have up to %s workers.', c_most),
          hint = 'Give workers names that stay the same when they start anew.';
      end if;
      v_id := register_worker.worker_id;
      if v_owner is not null or exists (select from public.workers w where w.id = v_id) then
        v_id := v_id || '#' || left(v_token::text, 18);
      end if;
    end if;
  end if;

  insert into public.workers as w (id, token_id, name, owner_id, capabilities, task_types, lease_timeout, info, running, last_heartbeat)
  values (v_id, v_token, case when v_token is not null then register_worker.worker_id end, v_owner,
          coalesce(register_worker.capabilities, '{}'), register_worker.task_types, v_lease, coalesce(register_worker.info, '{}'),
          case when not register_worker.if_unknown then '{}'::uuid[] end, case when not register_worker.if_unknown then clock_timestamp() end)
  on conflict (id) do update
  set capabilities = excluded.capabilities, task_types = excluded.task_types, lease_timeout = excluded.lease_timeout,
      info = excluded.info, running = '{}', last_heartbeat = excluded.last_heartbeat
  where w.token_id is not distinct from excluded.token_id and not register_worker.if_unknown
  returning w.* into v_worker;
  if not found then
    select w.* into v_worker from public.workers w where w.id = v_id and w.token_id is not distinct from v_token;
    if not found then
      raise exception 'Invalid params' using errcode = 'TD003', detail = format('Another worker has the id "%s".', v_id),
        hint = 'Give this one another id.';
    end if;
    return v_worker;
  end if;

  perform darkroom.lose_tasks(v_id, format('Worker %s started anew and lost it.', v_id));
  return v_worker;
end
$$;
comment on function public.register_worker is 'Makes a worker known; what it held before is queued again.';
revoke all on function public.register_worker from public;
grant execute on function public.register_worker to worker, service_role;
