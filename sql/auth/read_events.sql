-- The events that somebody has not seen, in an order in which each row's changes follow each other as they were committed. For the gateway.
--
-- Transactions commit in another order than they write, so a number alone is no place in the log: numbers below it appear later. What has been seen
-- is therefore said by snapshots: all that was visible in seen, and of what was visible in upto all up to the number after_id. Without upto the
-- events up to now are read, and the first row says which now that was: it is no event, table_name is null, upto is the snapshot to go on with,
-- and id the last number that was given. It comes also when there is no event.
--
-- owner, project: only events of these; then floor, a number that all unseen events exceed, keeps the search short. max_rows: null for all.
-- record: the row after the change; what the event does not repeat is read where it stands: what cannot change of a task, and the params of its generation, in
-- the task, an entry of the ledger in the ledger. old_record: a deleted row, or the id.
-- Without owner it also asks for one NOTIFY when the log next grows (see public.arm_event_bell).
-- Raises TD090 when the position is of another epoch, or events that were not seen have been removed from the log.
create or replace function auth.read_events(
  epoch text, seen pg_snapshot, upto pg_snapshot default null, after_id bigint default 0, floor bigint default 0,
  owner uuid default null, project uuid default null, max_rows integer default null
)
returns table (id bigint, created_at timestamptz, owner_id uuid, project_id uuid, table_name text, kind text, row_id text, record jsonb, old_record jsonb,
               visible_upto pg_snapshot)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_last bigint;
  v_upto pg_snapshot := read_events.upto;
begin
  if read_events.epoch is distinct from auth.event_epoch() then
    raise exception 'Events cannot be resumed' using errcode = 'TD090', detail = 'The position is of another database, or of this one before a restore or failover.',
      hint = 'Read anew what you show, and subscribe from now on.';
  end if;
  if (select l.trimmed_xid >= pg_snapshot_xmin(read_events.seen) from darkroom.event_log l) then
    raise exception 'Events cannot be resumed' using errcode = 'TD090', detail = 'What happened since then is no longer in the event log.',
      hint = 'Read anew what you show, and subscribe from now on.';
  end if;
  if read_events.owner is null and (select b.last_value from darkroom.event_bell b) <> 2 then
    perform setval('darkroom.event_bell', 2);  -- before the snapshot is taken, and so is the number
  end if;
  select s.last_value into v_last from darkroom.task_events_id s;
  v_upto := coalesce(v_upto, pg_current_snapshot());
  return query select v_last, null::timestamptz, null::uuid, null::uuid, null::text, null::text, null::text, null::jsonb, null::jsonb, v_upto;

  return query
  with unseen as (
    select e.* from darkroom.task_events e
    where read_events.owner is null and e.xid >= pg_snapshot_xmax(read_events.seen)
      and pg_visible_in_snapshot(e.xid, v_upto) and e.id > read_events.after_id
    union all
    select e.* from darkroom.task_events e
    where read_events.owner is null and e.xid = any (array(select pg_snapshot_xip(read_events.seen)))
      and pg_visible_in_snapshot(e.xid, v_upto) and e.id > read_events.after_id
    union all
    (select e.* from darkroom.task_events e
     where e.owner_id = read_events.owner and (read_events.project is null or e.project_id = read_events.project)
       and e.id > greatest(read_events.after_id, read_events.floor)
       and not pg_visible_in_snapshot(e.xid, read_events.seen) and pg_visible_in_snapshot(e.xid, v_upto)
     order by e.id limit read_events.max_rows)
  ), page as (
    select u.* from unseen u order by u.id limit read_events.max_rows
  )
  select p.id, p.created_at, p.owner_id, p.project_id, p.table_name, p.kind, p.row_id,
    case
      when p.kind = 'DELETE' then null
      when p.table_name = 'credit_ledger' then to_jsonb(l)
      when p.table_name = 'tasks' then coalesce(to_jsonb(t), i.ids)
        || jsonb_build_object('updated_at', t.created_at) || darkroom.whole_change(p.data)
      when t.id is not null then i.ids || jsonb_build_object('tasks', jsonb_build_array(t.id), 'params', t.params) || p.data
      when p.kind = 'INSERT' and p.table_name in ('generations', 'shot_generations') then i.ids || p.data
      else p.data
    end,
    case p.kind when 'DELETE' then p.data when 'UPDATE' then jsonb_build_object('id', p.row_id) end,
    null::pg_snapshot
  from page p
  cross join lateral (select jsonb_build_object('id', p.row_id, 'owner_id', p.owner_id, 'project_id', p.project_id) as ids) i
  left join public.tasks t
    on p.kind <> 'DELETE'
      and t.id = case p.table_name when 'tasks' then p.row_id::uuid when 'generations' then case p.kind when 'INSERT' then (p.data ->> 'source_task_id')::uuid end end
  left join public.credit_ledger l
    on p.table_name = 'credit_ledger' and l.owner_id = p.owner_id and l.seq = case p.table_name when 'credit_ledger' then split_part(p.row_id, '/', 2)::bigint end
  order by p.id;
end
$$;
comment on function auth.read_events is 'The events that were not seen yet.';
revoke all on function auth.read_events from public;
grant execute on function auth.read_events to authenticator;
