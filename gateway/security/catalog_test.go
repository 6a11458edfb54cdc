package security_test

import (
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
)

// lint is a rule over the catalog: a query that returns a text for each finding. The four-digit numbers are those of the linter splinter
// (github.com/supabase/splinter), whose rules these queries of our own check.
type lint struct{ name, query string }

// The policies `internal` and `service` are true for every row on purpose (0024 is about everybody else): internal is for the owner of the tables,
// as whom the functions run, and service for service_role, which the service key alone opens; what it may change is bounded by its grants.
var rowSecurity = []lint{
	{"0013 row security is off or not forced", `
		select c.oid::regclass::text from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
		  and c.relname <> 'goose_db_version' and not (c.relrowsecurity and c.relforcerowsecurity)`},
	{"0008 row security without a policy", `
		select c.oid::regclass::text from pg_class c where c.relnamespace = 'public'::regnamespace and c.relrowsecurity
		  and not exists (select from pg_policy p where p.polrelid = c.oid)`},
	{"0007 a policy without row security", `
		select p.polname || ' on ' || c.oid::regclass from pg_policy p join pg_class c on c.oid = p.polrelid where not c.relrowsecurity`},
	{"0024 a policy for writing that is true", `
		select p.polname || ' on ' || c.oid::regclass from pg_policy p join pg_class c on c.oid = p.polrelid, unnest(p.polroles) r (oid)
		where p.polcmd <> 'r' and r.oid not in (c.relowner, 'service_role'::regrole)
		  and (coalesce(pg_get_expr(p.polqual, p.polrelid), 'true') = 'true' and p.polcmd <> 'a'
		       or coalesce(pg_get_expr(p.polwithcheck, p.polrelid), pg_get_expr(p.polqual, p.polrelid), 'true') = 'true' and p.polcmd <> 'd')`},
	{"0024 a policy for everybody", `
		select p.polname || ' on ' || c.oid::regclass from pg_policy p join pg_class c on c.oid = p.polrelid where 0 = any (p.polroles)`},
	{"0015 a policy that reads what users may edit, or claims other than the user and the token", `
		select p.polname || ' on ' || p.polrelid::regclass from pg_policy p
		where concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) ~ 'metadata|auth\.jwt|auth\.role|current_setting'`},
	{"0003 a policy that asks who calls once for every row", `
		select p.polname || ' on ' || p.polrelid::regclass from pg_policy p
		where regexp_replace(concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)),
		  '\(\s*SELECT auth\.\w+\(\)', '', 'g') ~ 'auth\.\w+\('`},
	{"0006 two policies for the same role and command", `
		select c.oid::regclass || ' ' || r.oid::regrole || ' ' || cmd::text from pg_policy p join pg_class c on c.oid = p.polrelid,
		  unnest(p.polroles) r (oid), unnest(case p.polcmd when '*' then '{r,a,w,d}' else array[p.polcmd] end) cmd
		group by c.oid, r.oid, cmd having count(*) > 1`},
}

var exposure = []lint{
	{"0010 a view that reads as its owner", `
		select c.oid::regclass::text from pg_class c where c.relkind = 'v' and c.relnamespace::regnamespace::text in ` + exposed + `
		  and not coalesce('security_invoker=true' = any (c.reloptions), false)`},
	{"0016 a materialised view", `
		select c.oid::regclass::text from pg_class c where c.relkind = 'm' and c.relnamespace::regnamespace::text in ` + exposed},
	{"0017 a foreign table", `
		select c.oid::regclass::text from pg_class c where c.relkind = 'f' and c.relnamespace::regnamespace::text in ` + exposed},
	{"0019 a queue, log or token table in the exposed schema", `
		select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace
		  and c.relname ~ '_(ready|backlog|deps|delayed|queue|events|log|tokens|sessions|passwords)$'`},
	{"0002, 0023 a column of secrets that callers can read", `
		select c.oid::regclass || '.' || a.attname || ' by ' || r.rolname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
		cross join (values ('anon'), ('authenticated'), ('worker'), ('service_role'), ('authenticator')) r (rolname)
		where c.relkind in ('r', 'p', 'v') and c.relnamespace::regnamespace::text in ` + exposed + `
		  and a.attname ~ '(^|_)(hash|password|secret|salt|refresh_token|encrypted)($|_)'
		  and has_column_privilege(r.rolname, c.oid, a.attnum, 'select') and has_schema_privilege(r.rolname, c.relnamespace, 'usage')`},
	{"0004 a table without a primary key", `
		select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text in ` + exposed + `
		  and not exists (select from pg_constraint k where k.conrelid = c.oid and k.contype = 'p')`},
	{"0009 two indexes alike", `
		select min(i.indexrelid)::regclass::text from pg_index i join pg_class c on c.oid = i.indrelid
		where c.relnamespace::regnamespace::text in ` + exposed + `
		group by i.indrelid, i.indkey::text, i.indclass::text, i.indoption::text, coalesce(pg_get_expr(i.indpred, i.indrelid), ''),
		  coalesce(pg_get_expr(i.indexprs, i.indrelid), '') having count(*) > 1`},
	{"0014 an extension in the exposed schema", `select extname::text from pg_extension where extnamespace = 'public'::regnamespace and extname <> 'plpgsql_check'`},
	{"0018 a column of a reg type", `
		select c.oid::regclass || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
		where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text in ` + exposed + ` and a.atttypid::regtype::text ~ '^reg(?!class|role|type)'`},
	{"0026 a table that anybody may read", `
		select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'p', 'v') and c.relnamespace = 'public'::regnamespace
		  and has_table_privilege('anon', c.oid, 'select') and c.relname not in ('task_types', 'tools')`},
	{"a default privilege that grants to callers", `
		select pg_get_userbyid(d.defaclrole) || ' ' || d.defaclacl::text from pg_default_acl d where d.defaclacl::text ~ '(anon|authenticated|worker|service_role)='`},
}

var functionRules = []lint{
	{"0011 a function without pg_catalog first and pg_temp last in its search_path", `
		select p.oid::regprocedure::text from pg_proc p where p.pronamespace::regnamespace::text in ` + exposed + `
		  and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
		  and not exists (select from unnest(p.proconfig) s where s = 'search_path=pg_catalog, pg_temp')`},
	{"a function that PUBLIC may execute", `
		select p.oid::regprocedure::text from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
		where p.pronamespace::regnamespace::text in ` + exposed + ` and a.grantee = 0
		  and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')`},
	// anon has one function, which reads prices.
	{"0028 a security definer function that anon may execute", `
		select p.oid::regprocedure::text from pg_proc p where p.prosecdef and p.pronamespace::regnamespace::text in ` + exposed + `
		  and has_function_privilege('anon', p.oid, 'execute') and p.proname <> 'calculate_task_cost'`},
	// 0029 warns of each such function for authenticated. They are the API; the matrix of S1 calls every one as somebody else.
	{"a procedure, aggregate or function in a language that is not trusted", `
		select p.oid::regprocedure::text from pg_proc p join pg_language l on l.oid = p.prolang where p.pronamespace::regnamespace::text in ` + exposed + `
		  and (p.prokind <> 'f' or l.lanname not in ('sql', 'plpgsql')) and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')`},
}

var roleRules = []lint{
	{"a role with powers", `
		select r.rolname::text from pg_roles r where r.rolname in ('anon', 'authenticated', 'worker', 'service_role', 'authenticator')
		  and (r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolcanlogin)`},
	{"a role that owns something", `
		select r.rolname || ' ' || s.classid::regclass || ' ' || s.objid from pg_shdepend s join pg_roles r on r.oid = s.refobjid
		where s.deptype = 'o' and s.dbid = (select oid from pg_database where datname = current_database())
		  and r.rolname in ('anon', 'authenticated', 'worker', 'service_role', 'authenticator')`},
	{"a role that is a member of one with powers", `
		select r.rolname || ' in ' || m.rolname from pg_roles r join pg_roles m on pg_has_role(r.oid, m.oid, 'member') and m.oid <> r.oid
		where r.rolname in ('anon', 'authenticated', 'worker', 'service_role')
		   or r.rolname = 'authenticator' and m.rolname not in ('anon', 'authenticated', 'worker', 'service_role')`},
	{"a schema where callers may create", `
		select n.nspname || ' by ' || r.rolname from pg_namespace n
		cross join (values ('anon'), ('authenticated'), ('worker'), ('service_role'), ('authenticator')) r (rolname)
		where n.nspname !~ '^pg_(toast_)?temp' and has_schema_privilege(r.rolname, n.oid, 'create')`},
	{"a privilege that lets callers plant code or read around row security", `
		select c.oid::regclass || ' ' || p.name || ' by ' || r.rolname from pg_class c
		cross join (values ('anon'), ('authenticated'), ('worker'), ('service_role'), ('authenticator')) r (rolname)
		cross join (values ('trigger'), ('references'), ('truncate')) p (name)
		where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text in ` + exposed + ` and has_table_privilege(r.rolname, c.oid, p.name)`},
	{"a sequence that callers may move", `
		select c.oid::regclass || ' by ' || r.rolname from pg_class c
		cross join (values ('anon'), ('authenticated'), ('worker'), ('service_role'), ('authenticator')) r (rolname)
		where c.relkind = 'S' and c.relnamespace::regnamespace::text in ` + exposed + ` and has_schema_privilege(r.rolname, c.relnamespace, 'usage')
		  and (has_sequence_privilege(r.rolname, c.oid, 'usage') or has_sequence_privilege(r.rolname, c.oid, 'update'))`},
	{"a table that callers may write whole, and not column by column", `
		select c.oid::regclass || ' ' || p.name || ' by ' || r.rolname from pg_class c
		cross join (values ('anon'), ('authenticated'), ('worker'), ('service_role'), ('authenticator')) r (rolname)
		cross join (values ('insert'), ('update')) p (name)
		where c.relkind in ('r', 'p', 'v') and c.relnamespace::regnamespace::text in ` + exposed + ` and has_table_privilege(r.rolname, c.oid, p.name)`},
	{"a role without a limit", `
		select role_name from auth.role_limits() where '0' in (statement_timeout, lock_timeout, idle_in_transaction_session_timeout)
		union all select 'only ' || count(*) || ' roles have limits' from auth.role_limits() having count(*) <> 4`},
}

func (l *lab) lint(rules []lint) (findings []string) {
	l.t.Helper()
	for _, rule := range rules {
		for _, finding := range l.texts(rule.query) {
			findings = append(findings, rule.name+": "+finding)
		}
	}
	return findings
}

// TestS02RowSecurity: "RLS is enabled AND forced on every exposed table; no write policy is `true` (splinter 0007, 0008, 0013, 0024); no policy reads
// user-editable metadata (0015)".
func TestS02RowSecurity(t *testing.T) {
	t.Parallel()
	none(t, newLab(t).lint(rowSecurity))
}

// TestS03DefinerFunctions: "Every SECURITY DEFINER function pins `search_path` (pg_catalog first, pg_temp last), schema-qualifies names, and has EXECUTE
// revoked from PUBLIC (0010, 0011, 0028, 0029)." So does every other function, since what runs as the owner calls it. That names are qualified shows
// there: a path of pg_catalog and pg_temp finds no other name.
func TestS03DefinerFunctions(t *testing.T) {
	t.Parallel()
	none(t, newLab(t).lint(functionRules))
}

// TestS04Roles: "No role of the gateway, the worker or anon is superuser, BYPASSRLS or an object owner; DDL by them fails".
func TestS04Roles(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	none(t, l.lint(roleRules))
	for _, c := range l.callers {
		for _, ddl := range []string{
			"create table public.planted ()", "create function public.planted() returns int language sql as 'select 1'", "create schema planted",
			"create view public.planted as select 1", "alter table public.tasks disable row level security", "alter table public.tasks add column planted int",
			"drop policy own on public.tasks", "drop table public.tasks", "drop function public.create_task", "alter role anon superuser", "create role planted",
			"create foreign data wrapper planted", "create language planted handler plpgsql_call_handler", "alter function public.get_task security invoker", "grant service_role to anon", "create publication planted for table public.tasks",
			"create trigger planted before insert on public.tasks for each row execute function public.broadcast_task_status_update()",
			"copy public.users to program 'true'", "set session_replication_role = replica", "select pg_read_file('/etc/passwd')",
			"set local row_security = off; select count(*) from public.credit_ledger",
		} {
			l.try(c, func(tx pgx.Tx) {
				_, err := tx.Exec(t.Context(), ddl)
				if code(err) != "42501" {
					t.Errorf("%s, %s: %v", c.name, ddl, err)
				}
			})
		}
	}
}

// TestS05Exposure: "Views are `security_invoker`; no materialised view, queue table or auth column is in the exposed schema (0002, 0016, 0019, 0023)".
func TestS05Exposure(t *testing.T) {
	t.Parallel()
	none(t, newLab(t).lint(exposure))
}

// TestS27TimeLimits: "Statement, lock and idle-in-transaction timeouts are set on every role." That the gateway applies them stands in gateway/identity;
// here they bite, in a transaction that SETs what identity.DB sets.
func TestS27TimeLimits(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, role := range l.texts("select role_name || ' ' || statement_timeout || ' ' || lock_timeout || ' ' || idle_in_transaction_session_timeout from auth.role_limits() order by 1") {
		if !regexp.MustCompile(`^\w+ [1-9]\w* [1-9]\w* [1-9]\w*$`).MatchString(role) {
			t.Errorf("a role without limits: %s", role)
		}
	}
	if n := value[int](l, "select count(*) from auth.role_limits()"); n != 4 {
		t.Errorf("%d roles have limits, want 4", n)
	}
}

// unindexed foreign keys (0001) make erasing an owner, and deleting in a parent table, read whole tables.
func TestS05ForeignKeysHaveIndexes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, key := range l.texts(`
		select k.conrelid::regclass || ' ' || k.conname from pg_constraint k join pg_class c on c.oid = k.conrelid
		where k.contype = 'f' and c.relnamespace::regnamespace::text in ` + exposed + `
		  and k.confrelid not in ('public.task_types'::regclass)  -- a few rows, which are switched off and not deleted
		  and not exists (select from pg_index i where i.indrelid = k.conrelid and coalesce(pg_get_expr(i.indpred, i.indrelid), '') !~ '(=|<|>)' and i.indkey[0] = k.conkey[1])`) {
		t.Error("0001 a foreign key without index: " + key)
	}
}
