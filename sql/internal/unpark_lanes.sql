-- Puts the lanes that the owner can pay for back in the claim's sight. The caller holds the owner's lock.
-- Rows that stand locked belong to a claim that waits for that lock and decides anew.
create or replace function darkroom.unpark_lanes(p_owner uuid, p_available numeric)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_oldest timestamptz;
begin
  with parked as (
    select r.* from darkroom.task_ready r
    where r.owner_id = p_owner and r.parked and r.cost <= p_available
    for update skip locked
  ), shown as (
    update darkroom.task_ready r set parked = false from parked p
    where (r.owner_id, r.task_type, r.cost, r.created_at, r.job_no) = (p.owner_id, p.task_type, p.cost, p.created_at, p.job_no)
    returning r.created_at
  )
  select min(s.created_at) into v_oldest from shown s;

  if v_oldest is not null then
    perform darkroom.lower_ready_mark(v_oldest);
    perform darkroom.notify_workers();
  end if;
end
$$;
comment on function darkroom.unpark_lanes is 'Shows the lanes an owner can pay for to the claim again.';
revoke all on function darkroom.unpark_lanes from public;
