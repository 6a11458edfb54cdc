-- What the schema public offers to requests, as JSON: {"tables": {name: {"columns": [{"name", "type", "default"}], "key": [column]}},
-- "functions": [{"name", "args": [{"name", "type", "optional"}], "columns": [{"name", "type"}] or null, "set", "void", "volatile"}]}.
-- columns of a function: those of the rows that it returns; null where it returns a value or nothing. Types and defaults are SQL, qualified.
-- Left out are trigger functions, those with arguments that have no name, and the book-keeping of migrations. It tells nothing of what a role may
-- use: the database decides that. For the gateway, which builds statements from these names only.
create or replace function auth.describe_api()
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with columns as (
    select a.attrelid,
      jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, null),
        'default', case when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid) end) order by a.attnum) as list
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'c')
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attnum > 0 and not a.attisdropped
    group by a.attrelid
  ), tables as (
    select c.relname, jsonb_build_object('columns', k.list, 'key', (
        select coalesce(jsonb_agg(a.attname order by u.place), '[]')
        from pg_constraint p, unnest(p.conkey) with ordinality u (attnum, place), pg_attribute a
        where p.conrelid = c.oid and p.contype = 'p' and a.attrelid = c.oid and a.attnum = u.attnum)) as description
    from pg_class c join columns k on k.attrelid = c.oid
    where c.relkind in ('r', 'p', 'v') and c.relname !~ '^goose_'
  ), arguments as (
    select p.oid,
      jsonb_agg(jsonb_build_object('name', u.name, 'type', format_type(u.type, null), 'optional', u.place > p.pronargs - p.pronargdefaults)
        order by u.place) filter (where u.mode in ('i', 'b')) as list,
      jsonb_agg(jsonb_build_object('name', u.name, 'type', format_type(u.type, null)) order by u.place)
        filter (where u.mode in ('o', 'b', 't')) as results,
      bool_and(u.name <> '') as named
    from pg_proc p,
      unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargmodes, p.proargnames) with ordinality w (type, given_mode, given_name, place),
      lateral (select w.type, w.place, coalesce(w.given_mode, 'i') as mode, coalesce(w.given_name, '') as name) u
    where p.pronamespace = 'public'::regnamespace
    group by p.oid
  ), functions as (
    select jsonb_build_object('name', p.proname, 'args', coalesce(a.list, '[]'), 'columns', coalesce(a.results, k.list), 'set', p.proretset,
      'void', p.prorettype = 'void'::regtype, 'volatile', p.provolatile = 'v') as description
    from pg_proc p
    join pg_type t on t.oid = p.prorettype
    left join arguments a on a.oid = p.oid
    left join columns k on k.attrelid = t.typrelid
    where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' and p.provariadic = 0 and coalesce(a.named, true)
      and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
      and (p.prorettype <> 'record'::regtype or a.results is not null)
  )
  select jsonb_build_object('tables', (select coalesce(jsonb_object_agg(t.relname, t.description), '{}') from tables t),
    'functions', (select coalesce(jsonb_agg(f.description), '[]') from functions f))
$$;
comment on function auth.describe_api is 'Tables and functions of the schema public, for the gateway.';
revoke all on function auth.describe_api from public;
grant execute on function auth.describe_api to authenticator;
