-- The erased users whose files are to be deleted now, those who wait longest first: everything in storage below "{user_id}/". No row: none.
-- A user is due at once, and each hour for a day after: a worker that was cut off, or somebody whose token has not expired yet, may store a
-- file late. Whoever has deleted them calls mark_erasure_swept. Writes nothing. Raises TD041 (a worker with a token).
-- Workers and the service may call it.
create or replace function public.due_erasures()
returns setof public.erasure
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform darkroom.refuse_tokens();
  return query
  select e.owner_id, e.requested_at, e.swept_at from darkroom.erasures e
  where e.swept_at is null or e.swept_at < clock_timestamp() - interval '1 hour'
  order by e.requested_at;
end
$$;
comment on function public.due_erasures is 'Erased users whose files are to be deleted now.';
revoke all on function public.due_erasures from public;
grant execute on function public.due_erasures to worker, service_role;
