package security_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
)

// settable lists the columns that callers may name in an INSERT (+) or UPDATE (~). Whatever is missing here, and granted, fails TestS08.
var settable = map[string][]string{
	"projects":         {"+id", "+name", "~name", "+owner_id service_role"},
	"shots":            {"+id", "+project_id", "+name", "~name"},
	"generations":      {"+id", "+project_id", "+type", "+location", "+thumbnail_url", "+params", "+metadata", "~params", "~metadata"},
	"shot_generations": {"+id", "+shot_id", "+generation_id", "+position", "~position"},
	// The last four may be named, because apps do, and do not count.
	"tasks": {"+id", "+project_id", "+tool_id", "+task_type", "+params", "+dependant_on", "+idempotency_key", "+cost", "+status", "+generation_created", "+created_at"},
}

// TestS08MassAssignment: "Clients cannot set cost, status, owner, token or generation fields directly (mass assignment)."
func TestS08MassAssignment(t *testing.T) {
	t.Parallel()
	none(t, settableFindings(newLab(t)))
}

func settableFindings(l *lab) (findings []string) {
	l.t.Helper()
	found := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	grants := l.texts(`
		select format('%s %s%s %s', c.relname, p.mark, a.attname, r.rolname)
		from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		cross join (values ('anon'), ('authenticated'), ('worker'), ('service_role'), ('authenticator')) r (rolname)
		cross join (values ('insert', '+'), ('update', '~')) p (name, mark)
		where c.relkind in ('r', 'p', 'v') and c.relnamespace::regnamespace::text in ` + exposed + ` and has_column_privilege(r.rolname, c.oid, a.attnum, p.name)`)
	for _, grant := range grants {
		var table, column, role string
		if _, err := fmt.Sscan(grant, &table, &column, &role); err != nil {
			l.t.Fatal(err)
		}
		allowed := slices.Contains(settable[table], column) || slices.Contains(settable[table], column+" "+role)
		if !allowed || role == "anon" || role == "worker" || role == "authenticator" {
			found("%s may set %s of %s", role, column, table)
		}
	}
	if len(grants) < 20 {
		found("only %d grants were looked at", len(grants))
	}

	// What is named in an insert and does not count.
	ctx := l.t.Context()
	l.try(l.caller("A"), func(tx pgx.Tx) {
		var cost, status, owner string
		var created bool
		err := tx.QueryRow(ctx, l.fill(`insert into tasks (project_id, task_type, params, cost, status, generation_created, created_at)
			values ({project}, 'single_image', '{"prompt":"x"}', 0, 'Complete', true, '2000-01-01') returning cost::text, status, owner_id::text, generation_created`)).
			Scan(&cost, &status, &owner, &created)
		if err != nil || cost != "1.000" || status != "Queued" || owner != l.a.id.String() || created {
			found("what the client says counts: cost %s, %s, owner %s, generation_created %v, %v", cost, status, owner, created, err)
		}
		for _, sql := range []string{
			`insert into tasks (project_id, task_type, params, owner_id) values ({project}, 'single_image', '{"prompt":"x"}', {b})`,
			`insert into tasks (project_id, task_type, params, attempt) values ({project}, 'single_image', '{"prompt":"x"}', 7)`,
			`insert into tasks (project_id, task_type, params, output_location) values ({project}, 'single_image', '{"prompt":"x"}', 'x')`,
			`insert into generations (project_id, type, owner_id) values ({project}, 'image', {b})`,
			`insert into generations (project_id, type, source_task_id) values ({project}, 'image', {queued})`,
			`insert into projects (name, owner_id) values ('x', {b})`, `update tasks set status = 'Complete' where id = {queued}`,
			`update projects set owner_id = {b} where id = {project}`, `update generations set project_id = {b's project} where id = {generation}`,
			`insert into credit_ledger (owner_id, seq, kind, amount, balance_after, held_after) values ({a}, 99, 'grant', 1000, 1000, 0)`,
			`update users set id = {b} where id = {a}`,
		} {
			if err := attempt(ctx, tx, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, l.fill(sql))
				return err
			}); code(err) != "42501" {
				found("%s: %v", sql, err)
			}
		}
	})
	return findings
}
