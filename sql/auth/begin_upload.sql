-- Reserves an object of storage for the caller, who then stores or deletes it and ends with finish_upload. For the gateway.
--
-- Grants as many bytes as the quota of the key's owner has free, at most `most`; raises TD070 if these are fewer than `least`. What is stored
-- there now does not count: the new object takes its place. Raises TD071 while somebody else has the object reserved.
create or replace function auth.begin_upload(object_key text, least_bytes bigint, most_bytes bigint, lapses_in interval)
returns table (reservation uuid, granted bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_owner uuid := darkroom.as_uuid(to_jsonb(split_part(object_key, '/', 1)));
  v_reservation uuid := gen_random_uuid();
  v_quota bigint;
  v_used bigint;
  v_granted bigint := most_bytes;
begin
  if v_owner is not null then
    perform darkroom.lock_owner(v_owner);
    perform darkroom.ensure_user(v_owner);
    select u.storage_quota into v_quota from public.users u where u.id = v_owner;
  end if;
  if v_quota is not null then
    select coalesce(sum(greatest(u.bytes, u.reserved)), 0)::bigint into v_used
    from darkroom.uploads u where u.owner_id = v_owner and u.key <> object_key;
    v_granted := greatest(least(most_bytes, v_quota - v_used), 0);
    if v_granted < least_bytes then
      raise exception 'Storage quota exceeded' using errcode = 'TD070',
        detail = format('%s of %s bytes are used, and this needs %s.', v_used, v_quota, least_bytes), hint = 'Delete files that are not needed.';
    end if;
  end if;
  insert into darkroom.uploads as u (key, owner_id, reservation, reserved, reserved_until)
  values (object_key, v_owner, v_reservation, v_granted, clock_timestamp() + lapses_in)
  on conflict (key) do update
    set reservation = excluded.reservation, reserved = excluded.reserved, reserved_until = excluded.reserved_until
    where u.reservation is null;
  if not found then
    raise exception 'Object is being written' using errcode = 'TD071', detail = format('Another request stores or deletes %s.', object_key),
      hint = 'Try again when that has ended.';
  end if;
  return query select v_reservation, v_granted;
end
$$;
comment on function auth.begin_upload is 'Reserves an object and its bytes.';
revoke all on function auth.begin_upload from public;
grant execute on function auth.begin_upload to authenticator;
