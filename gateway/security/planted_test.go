package security_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestS03PlantedObjects: "Planted `pg_temp` objects change nothing." Somebody with a connection of their own (the SQL door) plants temporary tables named as
// ours and as those of the catalog, and temporary types named as PostgreSQL's own, whose check would run their function as the owner of ours. Then every
// function is called.
func TestS03PlantedObjects(t *testing.T) {
	t.Parallel()
	none(t, plantedFindings(newLab(t)))
}

func plantedFindings(l *lab) (findings []string) {
	l.t.Helper()
	ctx := l.t.Context()
	relations := l.texts(`
		select c.relname::text from pg_class c where c.relkind in ('r', 'v', 'S') and c.relnamespace::regnamespace::text in ` + exposed + `
		union select unnest(array['pg_class', 'pg_proc', 'pg_roles', 'pg_db_role_setting', 'pg_type', 'pg_namespace', 'pg_database', 'pg_settings', 'pg_auth_members'])`)
	types := l.texts("select typname::text from pg_type where typnamespace = 'pg_catalog'::regnamespace and typname in " +
		"('uuid', 'jsonb', 'text', 'timestamptz', 'interval', 'numeric', 'int4', 'int8', 'bool', 'bytea', 'float8', 'regclass', 'xid8', 'record')")
	planted := "select count(*)::pg_catalog.int4 from (select 1 from pg_temp." + strings.Join(relations, " union all select 1 from pg_temp.") + ") p"
	for _, c := range l.callers {
		if c.role == "authenticator" {
			continue // nobody but the gateway, which plants nothing
		}
		conn := l.pg.Conn(l.t)
		tx, err := conn.Begin(ctx)
		l.must(err)
		// Planted as the caller: it may, since PUBLIC has TEMPORARY on databases.
		become(l.t, tx, caller{role: c.role})
		for _, sql := range []string{
			// The alarm: called by a planted type's check as anybody but the caller, it fails the statement.
			`create function pg_temp.alarm(text) returns boolean language plpgsql as $$
			begin if current_user <> '` + c.role + `' and pg_trigger_depth() >= 0 then
			  raise exception 'planted code runs as %', current_user using errcode = 'XX999'; end if; return true; end $$`,
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				l.t.Fatalf("planting: %s: %v", sql, err)
			}
		}
		for _, relation := range relations {
			if _, err := tx.Exec(ctx, "create temporary table "+relation+" (id pg_catalog.text default 'planted', last_value pg_catalog.int8)"); err != nil {
				l.t.Fatalf("planting: %s: %v", relation, err)
			}
		}
		for _, name := range types {
			if name == "record" {
				continue
			}
			_, err := tx.Exec(ctx, "create domain pg_temp."+pgx.Identifier{name}.Sanitize()+" as pg_catalog."+pgx.Identifier{name}.Sanitize()+" check (pg_temp.alarm(value::pg_catalog.text))")
			if err != nil {
				l.t.Fatalf("planting: %s: %v", name, err)
			}
		}
		for name, probe := range functions {
			inner, err := tx.Begin(ctx)
			l.must(err)
			become(l.t, inner, c)
			call := l.fill(strings.NewReplacer("NAME", quoteText(workerName(c)), `{"running"}`, `"`+l.running.String()+`"`,
				"{waiting}", "{running}", "{travel}", "{running}").Replace(probe.call))
			// The caller's own words are resolved by the caller's own path: name ours in full.
			call = strings.NewReplacer("::new_task", "::public.new_task", "::completion", "::public.completion", "::uuid", "::pg_catalog.uuid").Replace(
				strings.Replace(call, strings.TrimPrefix(name, "public.")+"(", name+"(", 1),
			)
			call = strings.ReplaceAll(call, "auth.auth.", "auth.")
			_, err = inner.Exec(ctx, call)
			switch got := code(err); {
			case err == nil || refusal(got) || got == probe.refusal || strings.HasPrefix(got, "TD"):
			default:
				findings = append(findings, c.name+", "+call+": "+err.Error())
			}
			if err != nil && slices.Contains(probe.may, c.name) && !strings.Contains(probe.call, "{worker}") && !strings.Contains(probe.call, "{waiting}") {
				findings = append(findings, c.name+", "+call+": does not work any more: "+err.Error())
			}
			if err == nil {
				become(l.t, inner, caller{})
				var n int
				if err := inner.QueryRow(ctx, planted).Scan(&n); err != nil || n > 0 {
					findings = append(findings, c.name+", "+call+": wrote into a planted table")
				}
			}
			_ = inner.Rollback(context.WithoutCancel(ctx))
		}
		_ = tx.Rollback(context.WithoutCancel(ctx))
		_ = conn.Close(context.WithoutCancel(ctx))
	}
	return findings
}
