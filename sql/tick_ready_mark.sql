-- Moves the mark where claims start reading: up to the oldest row they can see, and at least 3 s behind now. To be called about every
-- 25 ms while claims happen (whole = false: from the mark upward), and every 2 s from the start (whole = true), which also mends a
-- mark that is too high. Skips, and returns false, while a late row is being committed or another tick runs.
-- From the start it reads all dead rows that an old transaction pins. So however many call it, that is done once in 2 s, and takes 1/500 of the time at
-- most; a call before it is due reads from the mark upward.
-- Without ticks everything is right, but claims walk over the dead rows of claimed tasks while an old transaction pins them.
create or replace function public.tick_ready_mark(whole boolean default false)
returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  c_mark_lock constant bigint := 7235433876402729074;
  c_pause constant bigint := bigint '1900000';
  v_now timestamptz := clock_timestamp();
  v_micros bigint := (extract(epoch from v_now) * 1000000)::bigint;
  v_whole boolean;
  v_mark bigint;
  v_oldest timestamptz;
begin
  perform darkroom.refuse_tokens();
  if not pg_try_advisory_xact_lock(c_mark_lock) then
    return false;
  end if;
  v_whole := tick_ready_mark.whole and v_micros >= coalesce(pg_sequence_last_value('darkroom.whole_tick'), 0);
  v_mark := coalesce(pg_sequence_last_value('darkroom.ready_mark'), 0);
  select min(h.created_at) into v_oldest
  from public.task_types ty
  cross join lateral (
    select r.created_at from darkroom.task_ready r
    where r.task_type = ty.name and not r.parked
      and r.created_at >= case when v_whole then '-infinity' else timestamptz 'epoch' + v_mark * interval '1 microsecond' end
    order by r.created_at, r.job_no limit 1) h;
  v_oldest := least(v_oldest, v_now - interval '3 seconds');
  if v_whole or v_oldest > timestamptz 'epoch' + v_mark * interval '1 microsecond' then
    perform setval('darkroom.ready_mark', greatest((extract(epoch from v_oldest) * 1000000)::bigint - 1, 0));
  end if;
  if v_whole then
    perform setval('darkroom.whole_tick', v_micros + greatest(c_pause, 500 * (extract(epoch from clock_timestamp() - v_now) * 1000000)::bigint));
  end if;
  return true;
end
$$;
comment on function public.tick_ready_mark is 'Moves the mark where claims start reading.';
revoke all on function public.tick_ready_mark from public;
grant execute on function public.tick_ready_mark to worker, service_role;
