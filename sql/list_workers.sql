-- The workers that may run the caller's tasks, those that are alive first, at most 200: everybody's and their own; the service sees all. Who was silent for a day is
-- left out.
--
-- alive: heard from within half of its lease_timeout, or the whole of it where it sends no heartbeats. task_types: all that it takes, as the claim reads it.
-- running: [{"task_id", "task_type", "attempt", "claimed_at"}], the caller's own tasks alone, oldest first; not orchestrators, which hold no slot while their tree runs.
-- info: of one's own workers what they say of themselves. Of everybody's: slots, busy, and of each engine name, kind, device, memory, models, types, slots and
-- state. Not why an engine is down, nor what else a worker says: it may name hosts, files, other users' work.
--
-- For pages that ask every few seconds: it costs what there are workers and running tasks. Raises TD040.
create or replace function public.list_workers()
returns setof public.worker_status
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  c_most constant integer := 200;
  c_public constant text[] := array['name', 'kind', 'device', 'memory_bytes', 'models', 'task_types', 'slots', 'busy', 'state', 'since'];
  v_caller uuid := darkroom.caller_owner();
begin
  return query
  with seen as materialized (
    select w.id, darkroom.worker_alive(w, s.seen) and not exists (
             select from darkroom.access_tokens k where k.id = w.token_id and (k.revoked_at is not null or k.expires_at <= clock_timestamp())) as alive
    from public.workers w cross join lateral darkroom.worker_seen(w) s (seen)
    where (v_caller is null or w.owner_id is null or w.owner_id = v_caller) and s.seen > clock_timestamp() - interval '1 day'
    order by alive desc, s.seen desc, w.id
    limit c_most
  )
  select w.id, s.alive, w.last_heartbeat,
    array(select v.task_type from darkroom.worker_types v where v.worker_id = w.id and v.task_type is not null order by v.task_type), w.capabilities,
    case when v_caller is null or w.owner_id is not null then w.info
         else jsonb_strip_nulls(jsonb_build_object('slots', w.info -> 'slots', 'busy', w.info -> 'busy', 'engines', (
           select jsonb_agg((select jsonb_object_agg(f.key, f.value) from jsonb_each(case when jsonb_typeof(e.engine) = 'object' then e.engine end) f
                             where f.key = any (c_public)) order by e.place)
           from jsonb_array_elements(case when jsonb_typeof(w.info -> 'engines') = 'array' then w.info -> 'engines' end) with ordinality e (engine, place)))) end,
    coalesce((select jsonb_agg(jsonb_build_object('task_id', t.id, 'task_type', t.task_type, 'attempt', t.attempt, 'claimed_at', t.claimed_at)
                               order by t.claimed_at, t.job_no)
              from darkroom.held_tasks(w) t where v_caller is null or t.owner_id = v_caller), '[]')
  from seen s join public.workers w on w.id = s.id
  order by s.alive desc, w.id;
end
$$;
comment on function public.list_workers is 'The workers that may run the caller''s tasks, and what they run of them.';
revoke all on function public.list_workers from public;
grant execute on function public.list_workers to authenticated, service_role;
