-- Deletes rows that have served their time, and returns how many. Each kind of row has one statement here.
create or replace function darkroom.purge()
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  c_leases constant integer := 1000;  -- of a user that lost their connection; browsers have few
  v_count bigint;
  v_total bigint := 0::bigint;
begin
  -- Erasures whose files were deleted once more a day after: by then every token of the user has expired and every zombie has ended.
  delete from darkroom.erasures e where e.swept_at > e.requested_at + interval '1 day';
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  -- Sessions that nobody can go on with, and their refresh tokens.
  delete from darkroom.sessions s where s.used_at < clock_timestamp() - darkroom.session_idle();
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  -- Old events; subscriptions that nobody came back to while theirs were kept; and gateways that have none any more.
  perform darkroom.rotate_events();
  delete from darkroom.realtime_leases r
  using darkroom.event_log k
  where coalesce(r.lost_at, (select g.seen_at from darkroom.realtime_gateways g where g.id = r.gateway_id), r.updated_at) < clock_timestamp() - k.keep;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;
  delete from darkroom.realtime_leases r  -- and of those of a user the latest stay
  where r.id in (
    select l.id from (
      select n.id, row_number() over (partition by n.owner_id order by n.lost_at desc) as nth from darkroom.realtime_leases n where n.lost_at is not null
    ) l where l.nth > c_leases);
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;
  delete from darkroom.realtime_gateways g
  where g.seen_at < clock_timestamp() - interval '1 hour' and not exists (select from darkroom.realtime_leases r where r.gateway_id = g.id);
  get diagnostics v_count = row_count;
  return v_total + v_count;
end
$$;
comment on function darkroom.purge is 'Deletes rows that have served their time.';
revoke all on function darkroom.purge from public;
