-- A time-ordered id (UUID version 7, RFC 9562) of a task, generation or link: what is new stands together at the end of each index of ids, where random
-- ones would write to pages all over it. Its other 74 bits are random.
create or replace function darkroom.new_id()
returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Of a version 4: its first 48 bits become the time in ms, its version 0100 becomes 0111.
  return encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
           placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid;
end
$$;
comment on function darkroom.new_id is 'A time-ordered id.';
revoke all on function darkroom.new_id from public;
