-- How much there is to do for the caller, as {"totals": {"queued_only", "eligible_queued", "active_only"}}: tasks that stand in line, those of them that could be
-- claimed now, and those that the caller's workers run. Read from the indexes of the queue and bounded, so that an idle worker may ask at
-- every poll: each number ends at 1000, eligible_queued looks at 16 tasks of a kind at most (the windows of the queue), and tasks that
-- wait for others or for a retry are not counted. eligible_queued is above zero whenever something can be claimed. Raises TD041.
create or replace function public.task_counts()
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  c_most constant integer := 1000;
  v_token uuid := darkroom.caller_token();
  v_owner uuid := darkroom.caller_owner();
  v_mark timestamptz := timestamptz 'epoch' + (select m.last_value from darkroom.ready_mark m) * interval '1 microsecond';
  v_eligible bigint;
  v_others bigint;
  v_active bigint;
begin
  if v_owner is not null then
    select count(*) filter (where not r.parked), count(*) filter (where r.parked) into v_eligible, v_others
    from (select q.parked from darkroom.task_ready q where q.owner_id = v_owner limit c_most) r;
    v_others := v_others + (select count(*) from (select from darkroom.task_backlog b where b.owner_id = v_owner limit c_most) b);
  else
    select count(*) into v_eligible
    from (select from public.task_types ty cross join lateral (
            select from darkroom.task_ready r where r.task_type = ty.name and not r.parked and r.created_at >= v_mark limit c_most) r
          limit c_most) e;
    v_others := (select count(*) from (select from darkroom.task_ready r where r.parked limit c_most) p)
      + (select count(*) from (select from darkroom.task_backlog b limit c_most) b);
  end if;

  select count(*) into v_active
  from (select from public.tasks t
        where t.status = 'In Progress' and (v_owner is null or t.owner_id = v_owner)
          and (v_token is null or t.worker_id in (select w.id from public.workers w where w.token_id = v_token))
        limit c_most) a;
  return jsonb_build_object('totals', jsonb_build_object('queued_only', least(v_eligible + v_others, c_most), 'eligible_queued', v_eligible,
                                                         'active_only', v_active));
end
$$;
comment on function public.task_counts is 'How much there is to do, bounded.';
revoke all on function public.task_counts from public;
grant execute on function public.task_counts to worker, service_role;
