-- Takes up to `wanted` tokens out of a bucket that holds `burst` and refills by `per_second`, for the gateway's limits of rate. All gateways of a
-- database share its buckets, so what they take together never exceeds burst + per_second * time. granted: how many were taken, 0 when there is
-- none. busy: seconds until the bucket is full again; a token comes when that is below (burst - 1) / per_second.
-- A bucket that nobody took from is full, so a full one needs no row: see auth.drop_full_buckets. Waits only for another taker of the same bucket.
create or replace function auth.take_tokens(bucket bytea, per_second double precision, burst integer, wanted integer)
returns table (granted integer, busy double precision)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_full_at timestamptz;
  v_now timestamptz;
begin
  granted := least(take_tokens.wanted, take_tokens.burst);
  busy := granted / take_tokens.per_second;
  loop
    select b.full_at into v_full_at from darkroom.rate_buckets b where b.bucket = take_tokens.bucket for update;
    exit when found;
    insert into darkroom.rate_buckets (bucket, full_at) values (take_tokens.bucket, clock_timestamp() + busy * interval '1 second')
    on conflict do nothing;
    if found then
      return next;
      return;
    end if;
  end loop;

  -- A clock that was set back must not close the bucket for longer than it takes to fill.
  v_now := clock_timestamp();
  busy := least(greatest(extract(epoch from v_full_at - v_now), 0), take_tokens.burst / take_tokens.per_second);
  granted := greatest(least(take_tokens.wanted, floor(take_tokens.burst - busy * take_tokens.per_second + 1e-6)::integer), 0);
  if granted > 0 then
    busy := busy + granted / take_tokens.per_second;
    update darkroom.rate_buckets b set full_at = v_now + busy * interval '1 second' where b.bucket = take_tokens.bucket;
  end if;
  return next;
end
$$;
comment on function auth.take_tokens is 'Takes tokens out of a bucket, for limits of rate.';
revoke all on function auth.take_tokens from public;
grant execute on function auth.take_tokens to authenticator;
