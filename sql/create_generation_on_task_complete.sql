-- Trigger before update on tasks, when status is Complete and generation_created is false: makes the generation of a
-- finished task, links it to its shot, and sets generation_created. BEFORE, so that the flag is part of the same row version;
-- gated on the flag and not on a change of status, so that UPDATE tasks SET status = status repairs a task whose generation failed.
-- (A task is always inserted as Queued: prepare_task.)
--
-- Only types with a result_type make one (single_image an image, travel_stitch a video). Missing output_location: skipped, and made
-- when it is set. A shot id that is no uuid, unknown, or of another project: a generation without link. What the insert violates is
-- recorded in generation_errors and logged, and never fails the update. One per task: unique source_task_id.
create or replace function public.create_generation_on_task_complete()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type record;
  v_shot uuid;
  v_state text;
  v_message text;
  v_ignored bigint;
begin
  select ty.result_type, ty.shot_id_paths into v_type from public.task_types ty where ty.name = new.task_type;
  if v_type.result_type is null or coalesce(btrim(new.output_location), '') = '' then
    return new;
  end if;
  v_shot := darkroom.find_shot(new, v_type.shot_id_paths);

  begin
    v_ignored := darkroom.insert_generations(array[new], array[v_type.result_type], array[v_shot]);
    new.generation_created := true;
    return new;
  exception when integrity_constraint_violation or data_exception or raise_exception or sqlstate 'TD020' or sqlstate 'TD024' then
    v_state := sqlstate;
    v_message := sqlerrm;
  end;

  -- If only the link was refused, the generation is good without it.
  begin
    v_ignored := darkroom.insert_generations(array[new], array[v_type.result_type], array[null::uuid]);
    new.generation_created := true;
  exception when integrity_constraint_violation or data_exception or raise_exception or sqlstate 'TD020' or sqlstate 'TD024' then
    if (sqlstate, sqlerrm) <> (v_state, v_message) then
      perform darkroom.log_generation_error(new, 'shot_link', v_state, v_message);
    end if;
    perform darkroom.log_generation_error(new, 'generation', sqlstate, sqlerrm);
    return new;
  end;
  perform darkroom.log_generation_error(new, 'shot_link', v_state, v_message);
  return new;
end
$$;
comment on function public.create_generation_on_task_complete is 'Makes exactly one generation of a finished task, and links it to its shot.';
revoke all on function public.create_generation_on_task_complete from public;
