-- An email as it is compared: in small letters, without blanks around. By the letters of ASCII only, so that no locale decides who somebody is.
create or replace function darkroom.plain_email(p_email text)
returns text
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$
  select lower(btrim(p_email) collate "C") collate "default"
$$;
comment on function darkroom.plain_email is 'An email as it is compared.';
revoke all on function darkroom.plain_email from public;
