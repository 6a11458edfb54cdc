-- The tables whose changes can be subscribed to, with the columns of a row. For the gateway.
-- own_rules: somebody has given the table policies that do not come with it. Realtime shows a user what happens in their projects, as the
-- policies that come with the tables do; what others would have it show, it cannot know.
create or replace function auth.realtime_tables()
returns table (table_name text, columns jsonb, own_rules boolean)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select c.relname::text,
    (select jsonb_agg(jsonb_build_object('name', a.attname, 'type', y.typname) order by a.attnum)
     from pg_attribute a join pg_type y on y.oid = a.atttypid where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
    exists (select from pg_policy p where p.polrelid = c.oid and p.polname not in ('internal', 'service', 'own', 'held'))
  from pg_class c
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
    and c.relname in ('tasks', 'generations', 'shots', 'shot_generations', 'projects', 'credit_ledger')
$$;
comment on function auth.realtime_tables is 'The tables whose changes can be subscribed to.';
revoke all on function auth.realtime_tables from public;
grant execute on function auth.realtime_tables to authenticator;
