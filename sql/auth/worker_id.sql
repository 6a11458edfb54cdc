-- The id of the caller's worker of that name; the name itself where the caller has none of that name. Workers that come with a token know
-- themselves by name only, and so the REST door reads names in their filters on tasks.worker_id and workers.id. For role worker.
create or replace function auth.worker_id(name text)
returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(darkroom.caller_worker(name), name)
$$;
comment on function auth.worker_id is 'Id of the caller''s worker of a name.';
revoke all on function auth.worker_id from public;
grant execute on function auth.worker_id to worker;
