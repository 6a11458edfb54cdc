-- The types of task that a worker may claim now: those its capabilities allow, of those that it registered for, of those that it wants (p_types; null:
-- all). Empty when these have nothing in common. The guard of every claim.
-- Raises TD022 (p_worker is not registered; p_name is what the caller called it), TD050 (isolation).
create or replace function darkroom.wanted_types(p_worker text, p_name text, p_types text[])
returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_types text[];
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'Wrong transaction isolation' using errcode = 'TD050',
      detail = format('This transaction is %s; a claim needs read committed.', current_setting('transaction_isolation')),
      hint = 'Call it in a transaction of its own, with the default isolation.';
  end if;
  select coalesce(array_agg(v.task_type) filter (where v.task_type = any (coalesce(p_types, array[v.task_type]))), '{}') into v_types
  from darkroom.worker_types v where v.worker_id = p_worker group by v.worker_id;
  if v_types is null then
    raise exception 'Unknown worker' using errcode = 'TD022',
      detail = format('No worker "%s" is registered.', left(p_name, 200)), hint = 'Call register_worker first.';
  end if;
  return v_types;
end
$$;
comment on function darkroom.wanted_types is 'Types of task that a worker may claim now.';
revoke all on function darkroom.wanted_types from public;
