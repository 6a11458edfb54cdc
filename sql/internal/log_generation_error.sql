-- Records why a finished task has no generation or no shot link, and says so in the server's log.
create or replace function darkroom.log_generation_error(p_task public.tasks, p_step text, p_sqlstate text, p_message text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.generation_errors (owner_id, task_id, step, sqlstate, message)
  values (p_task.owner_id, p_task.id, p_step, p_sqlstate, left(p_message, 2000));
  raise log 'task %: %: % %', p_task.id, p_step, coalesce(p_sqlstate, ''), left(p_message, 2000);
end
$$;
comment on function darkroom.log_generation_error is 'Records a failed step of generation creation.';
revoke all on function darkroom.log_generation_error from public;
