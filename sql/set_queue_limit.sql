-- Says how many queued tasks an owner may have, or without a user how many everybody may have for whom nothing else was said. Returns that number.
-- max_queued null is the standard again: for a user what holds for everybody, for everybody 10,000. 2147483647 is no limit. What is queued already
-- stays. Raises TD003 (not a positive number), TD025 (no such user).
create or replace function public.set_queue_limit(max_queued integer default null, user_id uuid default null)
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_max integer;
begin
  if set_queue_limit.max_queued < 1 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'max_queued must be 1 or more.', hint = 'To stop an owner, set 1.';
  end if;

  if set_queue_limit.user_id is null then
    update darkroom.queue_settings s set max_queued = coalesce(set_queue_limit.max_queued, 10000) returning s.max_queued into v_max;
    update darkroom.queue_room r set from_job_no = null, to_job_no = null where r.max_queued is null;
    return v_max;
  end if;

  if not exists (select from public.users u where u.id = set_queue_limit.user_id) then
    raise exception 'User not found' using errcode = 'TD025', detail = format('There is no user %s.', set_queue_limit.user_id);
  end if;
  perform darkroom.lock_owner(set_queue_limit.user_id);
  insert into darkroom.queue_room as r (owner_id, max_queued) values (set_queue_limit.user_id, set_queue_limit.max_queued)
  on conflict (owner_id) do update set max_queued = excluded.max_queued, from_job_no = null, to_job_no = null;
  return coalesce(set_queue_limit.max_queued, (select s.max_queued from darkroom.queue_settings s));
end
$$;
comment on function public.set_queue_limit is 'Says how many queued tasks an owner, or everybody, may have.';
revoke all on function public.set_queue_limit from public;
grant execute on function public.set_queue_limit to service_role;
