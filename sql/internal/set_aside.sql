-- A ready row that a claim has picked and cannot have: it leaves the queue when its task cannot run (it has ended, or the hint is wrong), and its
-- lane is parked when the owner cannot pay for it. The caller holds the owner's lock and the row's.
create or replace function darkroom.set_aside(p_row darkroom.task_ready)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_available numeric;
begin
  delete from darkroom.task_ready r
  where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (p_row.owner_id, p_row.task_type, p_row.cost, p_row.created_at, p_row.job_no)
    and not exists (
      select from public.tasks t
      where t.id = p_row.task_id and (t.status = 'Queued') is true
        and (t.owner_id, t.task_type, t.cost, t.created_at, t.job_no) = (p_row.owner_id, p_row.task_type, p_row.cost, p_row.created_at, p_row.job_no)
        and (t.dependant_on is null or not exists (select from public.tasks d where d.id = any (t.dependant_on) and d.status <> 'Complete')));
  if found then
    perform darkroom.refill_lane(p_row.owner_id, p_row.task_type, p_row.cost, p_row.created_at, p_row.job_no, false);
  end if;

  select coalesce(max(a.balance_after - a.held_after), 0) into v_available from darkroom.account(p_row.owner_id) a;
  if p_row.cost > v_available then
    update darkroom.task_ready r set parked = true
    from (select l.* from darkroom.task_ready l
          where l.owner_id = p_row.owner_id and l.task_type = p_row.task_type and l.cost = p_row.cost and not l.parked
          for update skip locked) lane
    where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (lane.owner_id, lane.task_type, lane.cost, lane.created_at, lane.job_no);
  end if;
end
$$;
comment on function darkroom.set_aside is 'What becomes of a ready row that cannot be claimed.';
revoke all on function darkroom.set_aside from public;
