-- explain_task for a task that is Complete, Failed or Cancelled: its reasons.
create or replace function darkroom.explain_ended(p_task public.tasks)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type public.task_types;
  v_generation uuid;
  v_deleted timestamptz;
  v_error public.generation_errors;
  v_attempt public.task_attempts;
  v_root public.tasks;
  v_deps jsonb;
  v_detail jsonb;
begin
  select ty.* into v_type from public.task_types ty where ty.name = p_task.task_type;

  if p_task.status = 'Complete' then
    select g.id into v_generation from public.generations g where g.source_task_id = p_task.id;
    select d.deleted_at into v_deleted from darkroom.deleted_generations d where d.task_id = p_task.id;
    select e.* into v_error from public.generation_errors e where e.task_id = p_task.id order by e.id desc limit 1;
    v_detail := jsonb_build_object('completed_at', p_task.completed_at, 'generation_id', v_generation);
    return jsonb_build_array(case
      when v_generation is not null and v_error.step = 'shot_link' then
        darkroom.reason('shot_link_failed', format('It is complete and has its generation, which stands in no shot: %s', v_error.message),
          v_detail || jsonb_build_object('sqlstate', v_error.sqlstate, 'error', v_error.message))
      when v_generation is not null then darkroom.reason('complete', 'It is complete, and its generation is there.', v_detail)
      when v_type.result_type is null then
        darkroom.reason('complete', format('It is complete; tasks of type %s make no generation.', p_task.task_type), v_detail)
      when v_deleted is not null then
        darkroom.reason('generation_deleted', format('It is complete; its generation was deleted at %s.', darkroom.in_words(v_deleted)),
          v_detail || jsonb_build_object('deleted_at', v_deleted))
      when coalesce(btrim(p_task.output_location), '') = '' then
        darkroom.reason('no_output', 'It is complete without an output_location; its generation is made when that is set.', v_detail)
      when v_error.id is not null then
        darkroom.reason('generation_failed', format('It is complete, but its generation could not be made: %s', v_error.message),
          v_detail || jsonb_build_object('sqlstate', v_error.sqlstate, 'error', v_error.message))
      else darkroom.reason('no_generation', 'It is complete, but its generation has not been made; repair_generations makes it.', v_detail) end);
  end if;

  -- Failed or Cancelled
  select a.* into v_attempt from public.task_attempts a where a.task_id = p_task.id and a.attempt = p_task.attempt;
  v_detail := jsonb_build_object('error', p_task.error_message, 'ended_at', p_task.completed_at, 'attempts', p_task.attempt,
    'failed_attempts', p_task.failed_attempts, 'max_attempts', v_type.max_attempts, 'outcome', v_attempt.outcome, 'worker_id', v_attempt.worker_id);
  if p_task.status = 'Failed' and v_attempt.outcome in ('failed', 'expired', 'lost') then
    return jsonb_build_array(case
      when v_type.max_attempts > 1 and p_task.failed_attempts >= v_type.max_attempts then
        darkroom.reason('attempts_used_up', format('All %s attempts failed. The last error: %s', v_type.max_attempts, p_task.error_message), v_detail)
      else darkroom.reason('failed', p_task.error_message, v_detail) end);
  end if;

  -- It did not run, or was stopped: for the sake of another one, or because somebody said so.
  select jsonb_agg(jsonb_build_object('task_id', d.id, 'task_type', d.task_type, 'status', d.status) order by d.created_at, d.job_no) into v_deps
  from (select t.* from public.tasks t where t.id = any (p_task.dependant_on) and t.status in ('Failed', 'Cancelled') order by t.created_at, t.job_no limit 10) d;
  select t.* into v_root from public.tasks t where t.id = p_task.orchestrator_task_id and t.status in ('Failed', 'Cancelled');
  return jsonb_build_array(case
    when v_root.id is not null then
      darkroom.reason('tree_ended', coalesce(p_task.error_message, 'Its tree ended.'), v_detail || jsonb_build_object('orchestrator_task_id', v_root.id, 'status', v_root.status))
    when p_task.status = 'Failed' and v_deps is not null then
      darkroom.reason('dependency_failed', coalesce(p_task.error_message, 'A task that it waits for ended.'), v_detail || jsonb_build_object('tasks', v_deps))
    when p_task.status = 'Failed' then darkroom.reason('failed', coalesce(p_task.error_message, 'No reason was given.'), v_detail)
    else darkroom.reason('cancelled', coalesce(p_task.error_message, 'It was cancelled.'), v_detail) end);
end
$$;
comment on function darkroom.explain_ended is 'Explains a task that has ended.';
revoke all on function darkroom.explain_ended from public;
