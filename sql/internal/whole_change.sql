-- What can change of a task, whole: the data of an event leaves out what is as in a new task.
create or replace function darkroom.whole_change(p_data jsonb)
returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return '{"status": "Queued", "attempt": 0, "worker_id": null, "failed_attempts": 0, "claimed_at": null, "run_after": null, "progress": null, "output_location": null,
    "thumbnail_url": null, "metadata": {}, "error_message": null, "generation_created": false, "completed_at": null}'::jsonb || p_data;
end
$$;
comment on function darkroom.whole_change is 'What can change of a task, from the data of an event.';
revoke all on function darkroom.whole_change from public;
grant execute on function darkroom.whole_change to service_role;
