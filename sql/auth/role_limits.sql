-- The timeouts that were set for the roles of requests (ALTER ROLE ... SET), for the gateway: SET ROLE alone does not apply them. '0' is none.
create or replace function auth.role_limits()
returns table (role_name text, statement_timeout text, lock_timeout text, idle_in_transaction_session_timeout text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with said as (
    -- What was set for this database comes before what was set for all.
    select distinct on (s.setrole, split_part(c, '=', 1)) s.setrole, split_part(c, '=', 1) as name, substr(c, strpos(c, '=') + 1) as value
    from pg_db_role_setting s, unnest(s.setconfig) c
    where s.setdatabase in (0, (select d.oid from pg_database d where d.datname = current_database()))
    order by s.setrole, split_part(c, '=', 1), s.setdatabase desc
  )
  select r.rolname::text, coalesce(max(s.value) filter (where s.name = 'statement_timeout'), '0'),
    coalesce(max(s.value) filter (where s.name = 'lock_timeout'), '0'),
    coalesce(max(s.value) filter (where s.name = 'idle_in_transaction_session_timeout'), '0')
  from pg_roles r left join said s on s.setrole = r.oid
  where r.rolname in ('anon', 'authenticated', 'worker', 'service_role')
  group by r.rolname
$$;
comment on function auth.role_limits is 'Timeouts of the roles of requests.';
revoke all on function auth.role_limits from public;
grant execute on function auth.role_limits to authenticator;
