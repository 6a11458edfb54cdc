-- Turns a claimed travel_orchestrator into its tree in one transaction: a travel_segment per pair of images, independent of each
-- other, and a travel_stitch that waits for all of them. The children are free: the orchestrator's hold pays. It stays In Progress
-- without a lease while they live, and completes with the stitch. Returns the children; if they exist already, those.
--
-- params.orchestrator_details: input_image_paths_resolved (n+1 locations), num_new_segments_to_generate (n), and optionally
-- segment_frames_expanded [n] (25), frame_overlap_expanded [n-1] (1: the shared image is shown once), base_prompts_expanded [n],
-- negative_prompts_expanded [n], parsed_resolution_wh ("768x512"), fps_helpers (16), seed_base, run_id, shot_id.
-- Raises TD003 (these do not fit together), TD021, TD031, TD032.
create or replace function public.expand_travel_orchestrator(task_id uuid, worker_id text, attempt integer)
returns setof public.tasks
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks;
  v_d jsonb;
  v_n integer;
  v_images jsonb;
  v_frames jsonb;
  v_overlaps jsonb;
  v_segments uuid[];
  v_common jsonb;
begin
  v_task := darkroom.lock_held_task(expand_travel_orchestrator.task_id, coalesce(expand_travel_orchestrator.worker_id, ''), coalesce(expand_travel_orchestrator.attempt, 0));
  if v_task.task_type <> 'travel_orchestrator' then
    raise exception 'Invalid params' using errcode = 'TD003', detail = format('Task %s is a %s.', v_task.id, v_task.task_type);
  end if;

  if not exists (select from public.tasks c where c.orchestrator_task_id = v_task.id) then
    -- validate
    v_d := v_task.params -> 'orchestrator_details';
    v_n := (v_d ->> 'num_new_segments_to_generate')::integer;
    v_images := v_d -> 'input_image_paths_resolved';
    v_frames := coalesce(v_d -> 'segment_frames_expanded', (select jsonb_agg(25) from generate_series(1, v_n)));
    v_overlaps := coalesce(v_d -> 'frame_overlap_expanded', (select jsonb_agg(1) from generate_series(1, v_n - 1)), '[]');
    perform darkroom.check_travel(v_n, v_images, v_frames, v_overlaps, v_d -> 'seed_base');
    v_common := jsonb_build_object(
      'orchestrator_task_id_ref', v_task.id, 'orchestrator_run_id', coalesce(v_d ->> 'run_id', v_task.id::text), 'project_id', v_task.project_id,
      'parsed_resolution_wh', coalesce(v_d ->> 'parsed_resolution_wh', '768x512'), 'fps_helpers', coalesce(v_d -> 'fps_helpers', '16'),
      'orchestrator_details', v_d || jsonb_build_object('orchestrator_task_id', v_task.id));

    -- write
    with made as (
      insert into public.tasks as t (project_id, task_type, params)
      select v_task.project_id, 'travel_segment', v_common || jsonb_build_object(
        'segment_index', i, 'is_first_segment', i = 0, 'is_last_segment', i = v_n - 1,
        'start_image', v_images -> i, 'end_image', v_images -> (i + 1),
        'base_prompt', coalesce(v_d -> 'base_prompts_expanded' -> i, '""'),
        'negative_prompt', coalesce(v_d -> 'negative_prompts_expanded' -> i, '""'),
        'segment_frames_target', v_frames -> i,
        'frame_overlap_from_previous', case when i = 0 then 0 else (v_overlaps ->> (i - 1))::integer end,
        'seed_to_use', case when jsonb_typeof(v_d -> 'seed_base') = 'number' then (v_d ->> 'seed_base')::numeric else 0 end + i)
      from generate_series(0, v_n - 1) i
      order by i
      returning t.id, t.params
    )
    select array_agg(m.id order by (m.params ->> 'segment_index')::integer) into v_segments from made m;

    insert into public.tasks (project_id, task_type, dependant_on, params)
    values (v_task.project_id, 'travel_stitch', v_segments, v_common || jsonb_build_object(
      'num_total_segments_generated', v_n, 'frame_overlap_settings_expanded', v_overlaps,
      -- what the spec's trigger reads there; the whole of it stands in orchestrator_details already
      'full_orchestrator_payload', jsonb_build_object('shot_id', v_d -> 'shot_id', 'thumbnail_url', v_d -> 'thumbnail_url')));
  end if;

  return query select c.* from public.tasks c where c.orchestrator_task_id = v_task.id order by c.created_at, c.job_no;
end
$$;
comment on function public.expand_travel_orchestrator is 'Makes the segments and the stitch of a claimed travel_orchestrator.';
revoke all on function public.expand_travel_orchestrator from public;
grant execute on function public.expand_travel_orchestrator to worker, service_role;
