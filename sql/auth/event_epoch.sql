-- Which history of the database this is: its cluster, its number there, and the timeline. A position in the event log means something in its own
-- history only: after a restore, a move to another server or the promotion of a standby, numbers may stand for other transactions.
create or replace function auth.event_epoch()
returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select concat_ws('-', to_hex((select c.system_identifier from pg_control_system() c)),
    to_hex((select d.oid::bigint from pg_database d where d.datname = current_database())),
    ltrim(substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), '0'))
$$;
comment on function auth.event_epoch is 'Which history of the database this is.';
revoke all on function auth.event_epoch from public;
grant execute on function auth.event_epoch to authenticator;
