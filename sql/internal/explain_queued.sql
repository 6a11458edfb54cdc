-- explain_task for a Queued task. What the claim asks of a task is asked here: its place in the queue, what it waits for, what its owner can pay
-- (claim_next_tasks, the part "claim"). A test holds the two to each other.
create or replace function darkroom.explain_queued(p_task public.tasks)
returns public.task_explanation
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  c_listed constant integer := 10;  -- so many tasks or engines are named in a detail
  c_sets constant integer := 8;     -- so many kinds of workers are asked how many tasks come before
  c_entries constant integer := 500; -- so many ledger entries are looked at for holds
  v_now constant timestamptz := clock_timestamp();
  v_place constant text := darkroom.queue_place(p_task);
  v_route text;
  v_max integer;
  v_waits jsonb;
  v_waiting bigint;
  v_dead bigint;
  v_account constant public.credit_ledger := darkroom.account(p_task.owner_id);
  v_available constant numeric := coalesce(v_account.balance_after - v_account.held_after, 0);
  v_payable constant boolean := p_task.cost = 0 or p_task.cost <= v_available;
  v_holding bigint;
  v_run_after timestamptz;
  v_workers darkroom.able_worker[];
  v_able bigint;
  v_alive bigint;
  v_usable bigint;
  v_slots bigint;
  v_free bigint;
  v_seen timestamptz;
  v_down jsonb;
  v_set record;
  v_before darkroom.tasks_before;
  v_least darkroom.tasks_before;
  v_attempt public.task_attempts;
  v_reasons jsonb := '[]'::jsonb;
  v_runnable boolean;
  v_position bigint;
  v_start timestamptz;
begin
  select ty.route, ty.max_attempts into v_route, v_max from public.task_types ty where ty.name = p_task.task_type;

  -- what it waits for
  if p_task.dependant_on is not null then
    select count(*), count(*) filter (where d.status in ('Failed', 'Cancelled')),
           jsonb_agg(jsonb_build_object('task_id', d.id, 'task_type', d.task_type, 'status', d.status) order by d.status, d.created_at, d.job_no)
             filter (where d.place <= c_listed)
    into v_waiting, v_dead, v_waits
    from (select t.id, t.task_type, t.status, t.created_at, t.job_no,
                 row_number() over (order by t.status in ('Failed', 'Cancelled') desc, t.status = 'In Progress' desc, t.created_at, t.job_no) as place
          from public.tasks t where t.id = any (p_task.dependant_on) and t.status <> 'Complete') d;
  end if;
  v_runnable := v_place in ('ready', 'backlog') and coalesce(v_waiting, 0) = 0 and v_payable;

  if v_dead > 0 then
    v_reasons := v_reasons || darkroom.reason('dependency_failed', 'It waits for a task that has failed or was cancelled, and fails for that.',
      jsonb_build_object('tasks', v_waits, 'count', v_waiting));
  elsif v_waiting > 0 then
    v_reasons := v_reasons || darkroom.reason('waits_for_tasks',
      case v_waiting when 1 then format('It waits for a %s that is %s.', v_waits #>> '{0,task_type}', v_waits #>> '{0,status}')
                     else format('It waits for %s tasks.', v_waiting) end,
      jsonb_build_object('tasks', v_waits, 'count', v_waiting));
  end if;

  -- its place
  if v_place = 'delayed' then
    select d.run_after into v_run_after from darkroom.task_delayed d where d.task_id = p_task.id;
    v_reasons := v_reasons || case
      when v_run_after > v_now then darkroom.reason('retry_delayed', format('Its last attempt failed; the next one may begin at %s.', darkroom.in_words(v_run_after)),
        jsonb_build_object('run_after', v_run_after, 'failed_attempts', p_task.failed_attempts, 'max_attempts', v_max, 'error', p_task.error_message))
      else darkroom.reason('retry_due', 'The pause after its last attempt is over; admit_due_tasks, which runs each second, puts it in the queue.',
        jsonb_build_object('run_after', v_run_after, 'failed_attempts', p_task.failed_attempts, 'max_attempts', v_max, 'error', p_task.error_message)) end;
  elsif v_place = 'nowhere' and coalesce(v_dead, 0) = 0 then
    v_reasons := v_reasons || darkroom.reason('not_filed',
      'It stands nowhere in the queue. The commit of the transaction that made it files it; what was missed there, sweep_tasks mends within a minute.');
  elsif v_place = 'stuck' or v_place = 'parked' and v_payable or v_place = 'deps' and coalesce(v_waiting, 0) = 0 then
    v_reasons := v_reasons || darkroom.reason('misfiled', 'It stands in the wrong place of the queue; sweep_tasks mends that within a minute.',
      jsonb_build_object('place', v_place));
  end if;

  -- credits
  if not v_payable then
    if v_account.held_after > 0 then
      select count(*) into v_holding
      from (select l.kind, l.task_id, l.attempt from public.credit_ledger l where l.owner_id = p_task.owner_id order by l.seq desc limit c_entries) l
      join public.tasks t on t.id = l.task_id and t.attempt = l.attempt and t.status = 'In Progress' where l.kind = 'hold';
    end if;
    v_reasons := v_reasons || darkroom.reason('insufficient_credits',
      format('It costs %s credits and %s are available: %s are missing.', trim_scale(p_task.cost), trim_scale(v_available), trim_scale(p_task.cost - v_available))
        || case when v_holding > 0 then format(' %s are held for %s running tasks.', trim_scale(v_account.held_after), v_holding) else '' end,
      jsonb_build_object('needs', p_task.cost, 'available', v_available, 'missing', p_task.cost - v_available,
                         'balance', coalesce(v_account.balance_after, 0), 'held', coalesce(v_account.held_after, 0), 'held_by', coalesce(v_holding, 0)));
  end if;

  -- workers
  select array_agg(w), count(*), count(*) filter (where w.alive), count(*) filter (where w.usable), sum(w.slots) filter (where w.usable),
         sum(greatest(w.slots - w.running, 0)) filter (where w.usable), max(w.seen)
  into v_workers, v_able, v_alive, v_usable, v_slots, v_free, v_seen
  from darkroom.able_workers(p_task) w;
  if v_able = 0 then
    v_reasons := v_reasons || darkroom.reason('no_worker',
      case v_route when 'any' then format('No worker takes tasks of type %s.', p_task.task_type)
                   else format('No worker takes tasks of type %s: it needs the capability %s.', p_task.task_type, v_route) end,
      jsonb_build_object('task_type', p_task.task_type, 'route', v_route));
  elsif v_alive = 0 then
    v_reasons := v_reasons || darkroom.reason('workers_silent',
      format('No worker for tasks of type %s is alive; the last one was heard from at %s.', p_task.task_type, darkroom.in_words(v_seen)),
      jsonb_build_object('task_type', p_task.task_type, 'route', v_route, 'workers', v_able, 'last_seen', v_seen));
  elsif v_usable = 0 then
    -- Why an engine is down may name hosts of others: said of one's own workers alone.
    select jsonb_agg(jsonb_build_object('worker_id', l.id, 'name', l.engine -> 'name', 'kind', l.engine -> 'kind', 'since', l.engine -> 'since')
                     || case when l.own then jsonb_build_object('reason', l.engine -> 'reason') else '{}' end)
    into v_down
    from (select w.* from unnest(v_workers) w where w.alive order by w.id limit c_listed) l;
    v_reasons := v_reasons || darkroom.reason('engines_down', format('The engines that do tasks of type %s are down.', p_task.task_type),
      jsonb_build_object('task_type', p_task.task_type, 'workers', v_alive, 'engines', v_down));
  elsif v_runnable and v_free = 0 then
    v_reasons := v_reasons || darkroom.reason('workers_busy',
      case v_slots when 1 then 'The worker for it is busy.' else format('All %s slots for it are busy.', v_slots) end,
      jsonb_build_object('task_type', p_task.task_type, 'workers', v_usable, 'slots', v_slots));
  end if;

  -- its turn: as the worker finds it that comes to it first
  if v_runnable then
    for v_set in
      select w.own, w.task_types, array_agg(w) as workers from unnest(v_workers) w
      where w.alive and (w.usable or v_usable = 0)
      group by w.own, w.task_types order by w.own desc, cardinality(w.task_types), w.task_types limit c_sets
    loop
      v_before := darkroom.tasks_before(p_task, v_set.task_types, v_set.own);
      if v_least is null or (v_before.more, v_before.total) < (v_least.more, v_least.total) then
        v_least := v_before;
      end if;
      exit when v_least.total = 0;
    end loop;
    v_before := coalesce(v_least, darkroom.tasks_before(p_task, array[p_task.task_type], false));
    v_position := case when v_before.more then 1000 else v_before.total end + 1;
    if v_before.total > 0 then
      v_reasons := v_reasons || darkroom.reason('behind_others',
        case when v_before.more then 'More than 1000 tasks come before it.'
             when v_before.total = 1 then 'One task comes before it.' else format('%s tasks come before it.', v_before.total) end,
        jsonb_build_object('before', v_position - 1, 'of_yours', v_before.own, 'more', v_before.more, 'by_type', v_before.by_type));
    end if;
  end if;

  -- what happened to it before
  if p_task.attempt > 0 then
    select a.* into v_attempt from public.task_attempts a where a.task_id = p_task.id and a.attempt = p_task.attempt;
    v_reasons := v_reasons || darkroom.reason('queued_again',
      format('Attempt %s ended (%s): %s', p_task.attempt, v_attempt.outcome, coalesce(v_attempt.error, 'no reason was given.')),
      jsonb_build_object('attempt', p_task.attempt, 'outcome', v_attempt.outcome, 'error', v_attempt.error, 'worker_id', v_attempt.worker_id,
                         'ended_at', v_attempt.ended_at, 'failed_attempts', p_task.failed_attempts, 'max_attempts', v_max));
  end if;

  -- when
  if v_usable > 0 and v_run_after > v_now and v_payable and coalesce(v_waiting, 0) = 0 then
    v_start := v_run_after;
  elsif v_usable > 0 and v_runnable and not v_before.more then
    v_start := v_now + case when v_free >= v_position then interval '0'
      else darkroom.expected_wait(p_task, array(select w from unnest(v_workers) w where w.usable), v_before.by_type) end;
  end if;
  return (p_task.id, p_task.status, v_runnable, v_reasons, v_position, v_start)::public.task_explanation;
end
$$;
comment on function darkroom.explain_queued is 'Explains a Queued task.';
revoke all on function darkroom.explain_queued from public;
