-- Why the login of this connection must not be a gateway's or a worker's: it could pass by the rules, and then row security and grants protect nobody.
-- Null when nothing is wrong. Only those who are members of authenticator or worker may ask, and who owns the function.
create or replace function auth.login_fault()
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when r.rolsuper then 'it is a superuser'
    when r.rolbypassrls then 'it bypasses row security'
    when r.rolcreaterole then 'it may make roles'
    when exists (select from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and pg_has_role(session_user, c.relowner, 'member'))
      then 'it owns tables'
    when pg_has_role(session_user, 'service_role', 'usage') then 'it is the service without having to say so'
  end
  from pg_roles r where r.rolname = session_user
$$;
comment on function auth.login_fault is 'Why the login of this connection must not be a gateway''s or a worker''s.';
revoke all on function auth.login_fault from public;
grant execute on function auth.login_fault to authenticator, worker;
