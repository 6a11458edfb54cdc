-- The workers that may claim this task, by the rule of the claim: registered for its type, the owner's own or everybody's, with a token that holds.
--
-- seen: when it was last heard from; a claim counts. alive: see worker_alive. usable: alive, and the engine that does this type is not down. Only of those
-- that are alive is the rest known. engine: what workers.info says of that engine, if anything. slots: how many such tasks it runs side by side; 1 unless
-- it says otherwise. running: how many of those are taken. task_types: what it claims now, but for types whose engine is down.
--
-- Costs what there are workers, and running tasks; not what is queued. What a worker says of itself may be anything, and is never an error.
create or replace function darkroom.able_workers(p_task public.tasks)
returns setof darkroom.able_worker
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  select w.id, w.owner_id is not null, s.seen, coalesce(a.alive, false), coalesce(a.alive and e.engine ->> 'state' is distinct from 'down', false),
         e.engine, n.slots, n.running, y.names
  from darkroom.worker_types v
  join public.workers w on w.id = v.worker_id
  cross join lateral darkroom.worker_seen(w) s (seen)
  -- A lease is a day at most.
  cross join lateral (select case when s.seen > clock_timestamp() - interval '1 day' then darkroom.worker_alive(w, s.seen) end as alive) a
  left join lateral (
    select jsonb_path_query_first(w.info, '$.engines[*] ? (@.task_types[*] == $type)', jsonb_build_object('type', v.task_type), true) as engine
    where a.alive
  ) e on true
  left join lateral (
    select least(m.worker_slots, m.engine_slots) as slots,
           least(m.worker_slots, m.engine_slots) - least(m.worker_slots - c.everything, m.engine_slots - c.here) as running
    from (select count(*)::integer as everything,
                 (count(*) filter (where coalesce(e.engine -> 'task_types' ? t.task_type, true)))::integer as here
          from darkroom.held_tasks(w) t) c
    cross join (select
      case when jsonb_typeof(w.info -> 'slots') = 'number' then greatest(least((w.info -> 'slots')::numeric, 10000), 0)::integer else 1 end as worker_slots,
      case when e.engine ->> 'state' = 'probing' then 1
           when jsonb_typeof(e.engine -> 'slots') = 'number' then greatest(least((e.engine -> 'slots')::numeric, 10000), 0)::integer else 10000 end as engine_slots) m
    where a.alive
  ) n on true
  left join lateral (
    select array_agg(o.task_type order by o.task_type) as names from darkroom.worker_types o
    where o.worker_id = w.id and not coalesce(jsonb_path_exists(
      w.info, '$.engines[*] ? (@.state == "down" && @.task_types[*] == $type)', jsonb_build_object('type', o.task_type), true), false)
      and a.alive
  ) y on true
  where v.task_type = p_task.task_type and (w.owner_id is null or w.owner_id = p_task.owner_id)
    and not exists (select from darkroom.access_tokens k
                    where k.id = w.token_id and (k.revoked_at is not null or k.expires_at <= clock_timestamp()));
end
$$;
comment on function darkroom.able_workers is 'The workers that may claim this task, and how they are.';
revoke all on function darkroom.able_workers from public;
