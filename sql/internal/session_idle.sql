-- How long a session may lie unused before it has ended, and how long used refresh tokens are remembered.
create or replace function darkroom.session_idle()
returns interval
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select interval '30 days'
$$;
comment on function darkroom.session_idle is 'How long a session may lie unused.';
revoke all on function darkroom.session_idle from public;
