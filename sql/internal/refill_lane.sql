-- Fills a lane's window from its backlog after rows left it: from fewer than 8 up to 16. The caller holds the owner's lock.
-- p_created_at, p_job_no: the youngest row that left. Everything of the lane's backlog is younger than it, and dead rows lie
-- below it, so all look-ups start there. Returns whether rows came.
create or replace function darkroom.refill_lane(
  p_owner uuid, p_task_type text, p_cost numeric, p_created_at timestamptz, p_job_no bigint, p_parked boolean)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  c_low constant integer := 8;
  c_window constant integer := 16;
  v_count bigint;
  v_created_at timestamptz;
begin
  if exists (select from darkroom.task_ready r
             where r.owner_id = p_owner and r.task_type = p_task_type and r.cost = p_cost and (r.created_at, r.job_no) > (p_created_at, p_job_no)
             order by r.created_at, r.job_no offset c_low - 1)
     or not exists (select from darkroom.task_backlog b
                    where b.owner_id = p_owner and b.task_type = p_task_type and b.cost = p_cost and b.created_at >= p_created_at) then
    return false;
  end if;

  select count(*), max(r.created_at) into v_count, v_created_at
  from darkroom.task_ready r
  where r.owner_id = p_owner and r.task_type = p_task_type and r.cost = p_cost
    and (r.created_at, r.job_no) > (p_created_at, p_job_no);
  with moved as (
    delete from darkroom.task_backlog b
    using (select o.* from darkroom.task_backlog o
           where o.owner_id = p_owner and o.task_type = p_task_type and o.cost = p_cost
             and o.created_at >= coalesce(v_created_at, p_created_at)
           order by o.created_at, o.job_no limit c_window - v_count) oldest
    where (b.owner_id, b.task_type, b.cost, b.created_at, b.job_no)
        = (oldest.owner_id, oldest.task_type, oldest.cost, oldest.created_at, oldest.job_no)
    returning b.*
  )
  insert into darkroom.task_ready (owner_id, task_type, cost, created_at, job_no, task_id, parked)
  select m.owner_id, m.task_type, m.cost, m.created_at, m.job_no, m.task_id, p_parked from moved m;
  return found;
end
$$;
comment on function darkroom.refill_lane is 'Moves the oldest of a lane''s backlog into its window; the caller holds the owner''s lock.';
revoke all on function darkroom.refill_lane from public;
