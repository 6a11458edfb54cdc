-- Notes in workers.info which model a worker has loaded; one that is not known is made known. Returns {"success": true}.
-- Raises TD003 (a name out of bounds, or a token with too many workers), TD041.
create or replace function public.update_worker_model(worker_id text, model text)
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_id text := darkroom.meet_worker(update_worker_model.worker_id);
begin
  update public.workers w
  set info = case when jsonb_typeof(w.info) = 'object' then w.info else '{}' end || jsonb_build_object('model', left(update_worker_model.model, 200))
  where w.id = v_id;
  return jsonb_build_object('success', true);
end
$$;
comment on function public.update_worker_model is 'Notes which model a worker has loaded.';
revoke all on function public.update_worker_model from public;
grant execute on function public.update_worker_model to worker, service_role;
