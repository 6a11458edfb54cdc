-- A subscription begins at a gateway: returns its lease, and the position that it goes on from when the same client had it before and its
-- connection broke; a null position begins now.
--
-- The same client: what it subscribed to is the same (key), and its message numbers go on (ref): they are counted by the page, and a new page
-- begins near 1. The nearest lease is taken over. One that is not known to have lost its connection stays, since it may be of another page; then
-- only its position is taken. Where several are near, the oldest position is: it costs some events twice, never one.
create or replace function auth.take_lease(gateway uuid, key bytea, owner uuid, ref bigint)
returns table (lease_id uuid, resume_from text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  c_near constant bigint := 16::bigint;                         -- messages that may be under way when a connection breaks, and more
  c_silent constant interval := interval '10 seconds';  -- a gateway says every second that it lives
  v_nearest record;
  v_from text;
begin
  perform pg_advisory_xact_lock(hashtextextended(encode(take_lease.key, 'hex'), 0));
  select l.id, l.last_ref, l.came_from, l.lost_at is not null or coalesce(g.seen_at < clock_timestamp() - c_silent, true) as lost into v_nearest
  from darkroom.realtime_leases l left join darkroom.realtime_gateways g on g.id = l.gateway_id
  where l.key = take_lease.key and (take_lease.ref is null or l.last_ref < take_lease.ref)
  order by case when take_lease.ref is null then l.lost_at is not null end desc, l.last_ref desc, 4 desc limit 1;
  if not found then
    return query insert into darkroom.realtime_leases as n (key, owner_id, gateway_id, last_ref)
      values (take_lease.key, take_lease.owner, take_lease.gateway, coalesce(take_lease.ref, 0)) returning n.id, null::text;
    return;
  end if;

  -- What it came from, at gateways of which nobody knew yet that they had died, is left over; unless there are others, which may have come back instead.
  with recursive before as (
    select l.id, l.came_from, l.lost_at, l.gateway_id from darkroom.realtime_leases l where l.id = v_nearest.came_from and l.key = take_lease.key
    union
    select l.id, l.came_from, l.lost_at, l.gateway_id from darkroom.realtime_leases l join before b on l.id = b.came_from where l.key = take_lease.key
  )
  delete from darkroom.realtime_leases l
  where l.id in (
      select b.id from before b left join darkroom.realtime_gateways g on g.id = b.gateway_id
      where b.lost_at is null and coalesce(g.seen_at < clock_timestamp() - c_silent, true))
    and not exists (
      select from darkroom.realtime_leases o where o.key = take_lease.key and o.id <> v_nearest.id and o.id not in (select b.id from before b));

  select coalesce(l.position, g.position) into v_from
  from darkroom.realtime_leases l left join darkroom.realtime_gateways g on g.id = l.gateway_id
  where l.key = take_lease.key
    and (take_lease.ref is null or l.last_ref < take_lease.ref and (l.id = v_nearest.id or l.last_ref >= take_lease.ref - c_near))
  order by case when l.position is null then g.seen_at else l.updated_at end limit 1;
  if v_nearest.lost then
    update darkroom.realtime_leases l
    set gateway_id = take_lease.gateway, last_ref = coalesce(take_lease.ref, l.last_ref), position = v_from, lost_at = null, updated_at = clock_timestamp()
    where l.id = v_nearest.id;
    return query select v_nearest.id, v_from;
  else
    return query insert into darkroom.realtime_leases as n (key, owner_id, gateway_id, last_ref, position, came_from)
      values (take_lease.key, take_lease.owner, take_lease.gateway, coalesce(take_lease.ref, 0), v_from, v_nearest.id) returning n.id, v_from;
  end if;
end
$$;
comment on function auth.take_lease is 'Begins a subscription, or goes on with one whose connection broke.';
revoke all on function auth.take_lease from public;
grant execute on function auth.take_lease to authenticator;
