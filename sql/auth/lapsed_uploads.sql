-- Gives the caller up to 100 reservations whose holders did not end them in time, for a minute each: he looks what is stored and ends them with
-- finish_upload. No row: there are none. For the gateway.
create or replace function auth.lapsed_uploads()
returns table (object_key text, reservation uuid)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  update darkroom.uploads u set reservation = gen_random_uuid(), reserved_until = clock_timestamp() + interval '1 minute'
  where u.key in (
    select l.key from darkroom.uploads l where l.reserved_until < clock_timestamp() order by l.reserved_until limit 100 for update skip locked
  )
  returning u.key, u.reservation
$$;
comment on function auth.lapsed_uploads is 'Takes over reservations that have lapsed.';
revoke all on function auth.lapsed_uploads from public;
grant execute on function auth.lapsed_uploads to authenticator;
