-- Adds to what a worker says of itself (workers.info), without a heartbeat: for one that reports that it broke down. note is a JSON object, whose
-- keys replace those of the same name. Returns the worker; no row: the caller has none of that name. For role worker. Writes workers.
create or replace function auth.note_worker(worker_name text, note jsonb)
returns setof public.workers
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_typeof(note) is distinct from 'object' then
    raise exception 'Invalid params' using errcode = 'TD003', detail = 'What a worker says of itself must be a JSON object.';
  end if;
  return query update public.workers w set info = w.info || note where w.id = darkroom.caller_worker(worker_name) returning w.*;
end
$$;
comment on function auth.note_worker is 'Adds to what a worker says of itself.';
revoke all on function auth.note_worker from public;
grant execute on function auth.note_worker to worker;
