-- The finished segments of a run, [{"segment_index", "output_location"}] in the order of their creation, of the trees in which the caller runs a task:
-- the stitch, a segment or the orchestrator. Empty when there is none. project_id narrows it further. Raises TD001 (no run), TD041.
create or replace function public.get_completed_segments(run_id text, project_id uuid default null)
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_token uuid := darkroom.caller_token();
  v_owner uuid := darkroom.caller_owner();
begin
  if get_completed_segments.run_id is null then
    raise exception 'Missing required fields' using errcode = 'TD001', detail = 'run_id is missing.';
  end if;
  return (
    with trees as (
      select distinct coalesce(t.orchestrator_task_id, t.id) as id from public.tasks t
      where t.status = 'In Progress' and (v_owner is null or t.owner_id = v_owner)
        and (v_token is null or t.worker_id in (select w.id from public.workers w where w.token_id = v_token))
    )
    select coalesce(jsonb_agg(jsonb_build_object('segment_index', s.params -> 'segment_index', 'output_location', s.output_location)
                              order by s.created_at, s.job_no), '[]')
    from trees r join public.tasks s on s.orchestrator_task_id = r.id
    where s.task_type = 'travel_segment' and s.status = 'Complete' and s.params ->> 'orchestrator_run_id' = get_completed_segments.run_id
      and (get_completed_segments.project_id is null or s.project_id = get_completed_segments.project_id));
end
$$;
comment on function public.get_completed_segments is 'Finished segments of a run that the caller works on.';
revoke all on function public.get_completed_segments from public;
grant execute on function public.get_completed_segments to worker, service_role;
