-- Refuses a task that is to be filed when its owner has as many queued tasks as they may: TD011. With p_refuse false, for a task that somebody's
-- running tree needs, it only counts. Otherwise returns true. The caller holds the owner's lock.
--
-- Counting costs as much as there is to count, so one count serves for many tasks: with room for n more, the owner's tasks among the next n job
-- numbers fit, however many of those are theirs. Only a task outside of that range is counted for anew. What was queued before and comes back after a
-- lost attempt is never refused, and counts from the next count on.
create or replace function darkroom.check_queue_room(p_owner uuid, p_job_no bigint, p_refuse boolean)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_room darkroom.queue_room;
  v_max integer;
  v_queued integer;
begin
  select r.* into v_room from darkroom.queue_room r where r.owner_id = p_owner;
  if p_job_no between v_room.from_job_no and v_room.to_job_no then
    return true;
  end if;

  -- Locked, so that set_queue_limit finds all counts that were made with the old limit.
  select s.max_queued into v_max from darkroom.queue_settings s for share;
  v_max := coalesce(v_room.max_queued, v_max);
  select count(*)::integer into v_queued
  from (
    select r.task_id from darkroom.task_ready r where r.owner_id = p_owner
    union all select b.task_id from darkroom.task_backlog b where b.owner_id = p_owner
    union all select d.task_id from darkroom.task_delayed d where d.owner_id = p_owner
    union all (select distinct d.task_id from darkroom.task_deps d where d.owner_id = p_owner)
    limit v_max
  ) q;
  if p_refuse and v_queued >= v_max then
    raise exception 'Too many queued tasks' using errcode = 'TD011', detail = format('Up to %s tasks of one owner may be queued.', v_max),
      hint = 'Wait until some of them have run, or cancel some.';
  end if;

  insert into darkroom.queue_room as r (owner_id, from_job_no, to_job_no) values (p_owner, p_job_no, p_job_no + (v_max - v_queued) - 1)
  on conflict (owner_id) do update set from_job_no = excluded.from_job_no, to_job_no = excluded.to_job_no;
  return true;
end
$$;
comment on function darkroom.check_queue_room is 'Refuses a task when its owner has too many queued; the caller holds the owner''s lock.';
revoke all on function darkroom.check_queue_room from public;
