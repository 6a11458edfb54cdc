-- Ends a reservation by saying what is stored now: how many bytes, null for nothing. The other columns that are null stay as they are. False: the
-- reservation is not there any more, because it had lapsed, and nothing was changed. For the gateway.
create or replace function auth.finish_upload(
  object_key text, reservation uuid, stored bigint, content_type text default null, cache_control text default null, metadata jsonb default null
)
returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if stored is null then
    delete from darkroom.uploads u where u.key = object_key and u.reservation = finish_upload.reservation;
    return found;
  end if;
  update darkroom.uploads u
  set bytes = stored, content_type = coalesce(finish_upload.content_type, u.content_type),
    cache_control = coalesce(finish_upload.cache_control, u.cache_control), metadata = coalesce(finish_upload.metadata, u.metadata),
    updated_at = clock_timestamp(), reservation = null, reserved = null, reserved_until = null
  where u.key = object_key and u.reservation = finish_upload.reservation;
  return found;
end
$$;
comment on function auth.finish_upload is 'Says what is stored, and ends the reservation.';
revoke all on function auth.finish_upload from public;
grant execute on function auth.finish_upload to authenticator;
