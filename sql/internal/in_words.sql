-- A time as messages say it, to the second, in UTC.
create or replace function darkroom.in_words(p_time timestamptz)
returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select to_char(p_time at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
$$;
comment on function darkroom.in_words is 'A time as messages say it.';
revoke all on function darkroom.in_words from public;
