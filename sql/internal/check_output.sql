-- Refuses an output that a task may not have. p_output is a URL or a text, of which only our own storage's public URLs are looked at, or
-- a key of our storage. It must lie in the folder of the task's owner; in the folder of another task only if that is in the tree of this one;
-- and in the folder of the attempt p_attempt where it names an attempt of this task: so what an older attempt stored late is refused.
-- Raises TD031 (another attempt's), TD041 (not this task's).
create or replace function darkroom.check_output(p_task public.tasks, p_output text, p_attempt integer)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  c_ours constant text := '/storage/v1/object/public/image_uploads/';
  v_key text := p_output;
  v_of text[];
begin
  if strpos(p_output, c_ours) > 0 then
    v_key := substr(p_output, strpos(p_output, c_ours) + length(c_ours));
  end if;
  v_key := regexp_replace(v_key, '[?#].*$', '');
  if not starts_with(v_key, p_task.owner_id || '/') or v_key ~* '(^|/)(\.|%2e)+(/|$)' then
    raise exception 'Not allowed' using errcode = 'TD041', detail = 'The output lies in somebody else''s folder.';
  end if;

  v_of := string_to_array(v_key, '/');  -- owner, 'tasks', task, attempt, name ...
  if v_of[2] <> 'tasks' then
    return;
  elsif v_of[3] <> p_task.id::text then
    if not exists (select from public.tasks c where c.id = darkroom.as_uuid(to_jsonb(v_of[3])) and c.orchestrator_task_id = p_task.id) then
      raise exception 'Not allowed' using errcode = 'TD041', detail = 'The output belongs to another task, which is not in the tree of this one.';
    end if;
  elsif v_of[4] ~ '^[0-9]{1,9}$' and v_of[5] is not null and v_of[4]::integer <> p_attempt then
    raise exception 'Lease lost' using errcode = 'TD031',
      detail = format('The output was stored by attempt %s, the task is at attempt %s.', v_of[4], p_attempt),
      hint = 'Stop working on it: nothing was changed.';
  end if;
end
$$;
comment on function darkroom.check_output is 'Refuses an output that is not the task''s.';
revoke all on function darkroom.check_output from public;
