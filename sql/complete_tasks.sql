-- Completes several tasks of one worker; one that is refused does not touch the others. Returns a row per task, in the order
-- given, with its status then, or the code and message of the refusal. Owners are locked in the order of their ids.
-- Raises TD003 for more than 1,000 at once. Writes what complete_task writes.
create or replace function public.complete_tasks(worker_id text, completions public.completion[])
returns setof public.completion_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_one record;
  v_done public.tasks;
  v_results public.completion_result[];
begin
  if cardinality(completions) > 1000 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'Up to 1000 tasks can be completed at once.';
  end if;
  v_results := array_fill(null::public.completion_result, array[coalesce(cardinality(completions), 0)]);
  for v_one in
    select c.*, t.owner_id from unnest(completions) with ordinality
      as c (task_id, attempt, output_location, metadata, thumbnail_url, place)
    left join public.tasks t on t.id = c.task_id
    order by t.owner_id, c.place
  loop
    begin
      v_done := public.complete_task(v_one.task_id, v_one.output_location, complete_tasks.worker_id, v_one.attempt, v_one.metadata,
                                     v_one.thumbnail_url);
      v_results[v_one.place] := row(v_one.task_id, v_done.status, null, null)::public.completion_result;
    exception when sqlstate 'TD003' or sqlstate 'TD006' or sqlstate 'TD021' or sqlstate 'TD031' or sqlstate 'TD032' then
      v_results[v_one.place] := row(v_one.task_id, null, sqlstate, sqlerrm)::public.completion_result;
    end;
  end loop;
  return query select r.task_id, r.status, r.error_code, r.error_message from unnest(v_results) with ordinality as r (task_id, status, error_code, error_message, place) order by r.place;
end
$$;
comment on function public.complete_tasks is 'Completes several tasks of one worker, each on its own.';
revoke all on function public.complete_tasks from public;
grant execute on function public.complete_tasks to worker, service_role;
