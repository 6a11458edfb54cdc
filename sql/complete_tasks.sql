-- Completes several tasks of one worker; one that is refused does not touch the others. Returns a row per task, in the order
-- given, with its status then, or the code and message of the refusal. Owners are locked in the order of their ids.
-- Raises TD003 for more than 1,000 at once. Writes what complete_task writes.
--
-- What the fence lets through is completed together, which costs a fraction of one by one, and so are its generations made; where that is refused, the trigger
-- create_generation_on_task_complete makes each by itself. The rest, and all for callers with a token, by complete_task.
create or replace function public.complete_tasks(worker_id text, completions public.completion[])
returns setof public.completion_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- Planned once, for any size of the tables: a plan made when they were empty must not be a scan.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_caller uuid := darkroom.caller_owner();
  v_owner uuid;
  v_task public.tasks;
  v_one record;
  v_done uuid[];
  v_done_places bigint[];
  v_ignored boolean;
  v_rest_places bigint[] := array[]::bigint[];
  v_rest public.completion_result[] := array[]::public.completion_result[];
begin
  if cardinality(completions) > 1000 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'Up to 1000 tasks can be completed at once.';
  end if;

  if complete_tasks.worker_id is not null and darkroom.caller_token() is null then
    -- lock
    for v_owner in
      select distinct t.owner_id from unnest(completions) c join public.tasks t on t.id = c.task_id
      where t.owner_id = coalesce(v_caller, t.owner_id)
      order by t.owner_id
    loop
      v_ignored := darkroom.lock_owner(v_owner);
    end loop;

    -- write, what the fence lets through
    begin
      with wanted as (
        select distinct on (c.task_id) c.* from unnest(completions) with ordinality as c (task_id, attempt, output_location, metadata, thumbnail_url, place)
        where btrim(c.output_location) <> '' and jsonb_typeof(coalesce(c.metadata, '{}')) = 'object' and octet_length(coalesce(c.metadata, '{}')::text) <= 65536
        order by c.task_id, c.place
      ), done as (
        update public.tasks t
        set status = 'Complete', output_location = w.output_location, thumbnail_url = w.thumbnail_url,
            metadata = t.metadata || coalesce(w.metadata, '{}'), error_message = null, completed_at = clock_timestamp(), updated_at = clock_timestamp(),
            generation_created = ty.result_type is not null
        from wanted w, public.task_types ty
        where t.id = w.task_id and ty.name = t.task_type and (t.status = 'In Progress') is true and t.worker_id = complete_tasks.worker_id and t.attempt = coalesce(w.attempt, t.attempt)
          and t.owner_id = coalesce(v_caller, t.owner_id)
        returning w.place, t.id, t.owner_id, t.attempt, t.worker_id, t.claimed_at, t.cost
      ), attempts as (
        insert into public.task_attempts (owner_id, task_id, attempt, worker_id, claimed_at, outcome)
        select d.owner_id, d.id, d.attempt, d.worker_id, d.claimed_at, 'complete' from done d
      ), accounts as (
        select o.owner_id, a.seq, a.balance_after, a.held_after
        from (select distinct d.owner_id from done d where d.cost > 0) o
        cross join lateral (select l.* from public.credit_ledger l where l.owner_id = o.owner_id order by l.seq desc limit 1) a
      ), settles as (
        insert into public.credit_ledger (owner_id, seq, kind, amount, balance_after, held_after, task_id, attempt)
        select d.owner_id, a.seq + row_number() over w, 'settle', d.cost, a.balance_after - sum(d.cost) over w, a.held_after - sum(d.cost) over w, d.id, d.attempt
        from done d join accounts a on a.owner_id = d.owner_id
        where d.cost > 0
        window w as (partition by d.owner_id order by d.place)
      )
      select array_agg(d.id), array_agg(d.place) into v_done, v_done_places from done d;
      -- as create_generation_on_task_complete does for each whose flag is not set
      perform darkroom.insert_generations(array_agg(t), array_agg(ty.result_type), array_agg(darkroom.find_shot(t, ty.shot_id_paths)))
      from public.tasks t join public.task_types ty on ty.name = t.task_type where t.id = any (v_done) and t.generation_created;
    exception when integrity_constraint_violation or data_exception or raise_exception then
      v_done := null;  -- one of them is at fault: each on its own
      v_done_places := null;
    end;

    for v_task in
      select t.* from public.tasks t
      where t.id = any (v_done) and (t.orchestrator_task_id is not null or exists (select from darkroom.task_deps o where o.dep_id = t.id))
      order by t.owner_id, t.created_at, t.job_no
    loop
      perform darkroom.release_dependents(v_task.id);
      if v_task.orchestrator_task_id is not null then
        perform darkroom.finish_orchestrator(v_task);
      end if;
    end loop;
  end if;

  -- the rest: repeats, refusals
  for v_one in
    select c.* from unnest(completions) with ordinality as c (task_id, attempt, output_location, metadata, thumbnail_url, place)
    left join public.tasks t on t.id = c.task_id
    where c.place <> all (coalesce(v_done_places, '{}'))
    order by t.owner_id, c.place
  loop
    v_rest_places := v_rest_places || v_one.place;
    begin
      v_task := public.complete_task(v_one.task_id, v_one.output_location, complete_tasks.worker_id, v_one.attempt, v_one.metadata,
                                     v_one.thumbnail_url);
      v_rest := v_rest || row(v_one.task_id, v_task.status, null, null)::public.completion_result;
    exception when sqlstate 'TD003' or sqlstate 'TD006' or sqlstate 'TD021' or sqlstate 'TD031' or sqlstate 'TD032' then
      v_rest := v_rest || row(v_one.task_id, null, sqlstate, sqlerrm)::public.completion_result;
    end;
  end loop;

  return query
  select a.task_id, a.status, a.error_code, a.error_message
  from (
    select d.task_id, 'Complete'::text as status, null::text as error_code, null::text as error_message, d.place
    from unnest(v_done, v_done_places) as d (task_id, place)
    union all
    select r.task_id, r.status, r.error_code, r.error_message, r.place
    from unnest(v_rest, v_rest_places) as r (task_id, status, error_code, error_message, place)
  ) a
  order by a.place;
end
$$;
comment on function public.complete_tasks is 'Completes several tasks of one worker, each on its own.';
revoke all on function public.complete_tasks from public;
grant execute on function public.complete_tasks to worker, service_role;
