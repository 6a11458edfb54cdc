-- Forgets the buckets that are full, up to max_buckets of them: without a row they are as full as with one. Returns how many. Those that somebody
-- takes from just now are left. For the gateway, every few minutes.
create or replace function auth.drop_full_buckets(max_buckets integer default 10000)
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_dropped integer;
begin
  delete from darkroom.rate_buckets b
  using (select r.bucket from darkroom.rate_buckets r where r.full_at <= clock_timestamp() limit drop_full_buckets.max_buckets for update skip locked) f
  where b.bucket = f.bucket;
  get diagnostics v_dropped = row_count;
  return v_dropped;
end
$$;
comment on function auth.drop_full_buckets is 'Forgets buckets of limits of rate that are full.';
revoke all on function auth.drop_full_buckets from public;
grant execute on function auth.drop_full_buckets to authenticator;
