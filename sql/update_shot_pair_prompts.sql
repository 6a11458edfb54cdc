-- Keeps the prompts that a worker wrote for the pairs of pictures of a shot, in the metadata of the task that it holds: {"enhanced_prompts": {"shot_id", "prompts"}}.
-- Returns {"success": true}. Raises TD003 (no list of up to 200 texts or 32 kB), TD021, TD024 (the shot is not of the task's project), TD031 and TD032 (the
-- caller does not hold the task).
create or replace function public.update_shot_pair_prompts(task_id uuid, shot_id uuid, enhanced_prompts jsonb)
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_task public.tasks;
begin
  if jsonb_typeof(enhanced_prompts) is distinct from 'array' or octet_length(enhanced_prompts::text) > 32768 or jsonb_array_length(enhanced_prompts) > 200 then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'enhanced_prompts must be a list of up to 200 texts, 32 kB in all.';
  end if;
  v_task := darkroom.lock_held_task(update_shot_pair_prompts.task_id, null, null);
  if not exists (select from public.shots s where s.id = update_shot_pair_prompts.shot_id and s.project_id = v_task.project_id) then
    raise exception 'Shot not found' using errcode = 'TD024', detail = format('There is no shot %s.', update_shot_pair_prompts.shot_id);
  end if;
  update public.tasks t
  set metadata = t.metadata || jsonb_build_object('enhanced_prompts',
        jsonb_build_object('shot_id', update_shot_pair_prompts.shot_id, 'prompts', update_shot_pair_prompts.enhanced_prompts)),
      updated_at = clock_timestamp()
  where t.id = v_task.id;
  return jsonb_build_object('success', true);
end
$$;
comment on function public.update_shot_pair_prompts is 'Keeps the prompts that a worker wrote for a shot''s pairs.';
revoke all on function public.update_shot_pair_prompts from public;
grant execute on function public.update_shot_pair_prompts to worker, service_role;
