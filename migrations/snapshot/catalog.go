package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// object is a function or view as the catalog tells it, all names qualified.
type object struct {
	Kind       string // "function" or "view"
	Schema     string
	Name       string
	Ident      string   // as in "drop function IDENT"
	Shape      string   // arguments and result, or columns: what create or replace can't change
	Definition string   // create or replace ...
	Comment    string   // empty for none
	Grants     []string // each "PRIVILEGE to ROLE" beyond the owner's
}

// file is where the object is defined.
func (o object) file() string {
	switch o.Schema {
	case "darkroom":
		return "internal/" + o.Name + ".sql"
	case "auth":
		return "auth/" + o.Name + ".sql"
	}
	return o.Name + ".sql"
}

// key tells objects apart: overloads have different keys.
func (o object) key() string { return o.Kind + " " + o.Ident }

func (o object) equal(other object) bool {
	return o.Shape == other.Shape && o.Definition == other.Definition && o.Comment == other.Comment && slices.Equal(o.Grants, other.Grants)
}

const objectsQuery = `
with grants as (
  select a.objid, array_agg(format('%s to %s', a.privilege_type, coalesce(quote_ident(r.rolname), 'public'))
    order by a.privilege_type collate "C", r.rolname collate "C") as list
  from (
    select p.oid as objid, p.proowner as owner, x.* from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
    union all
    select c.oid, c.relowner, x.* from pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x where c.relkind = 'v'
  ) a left join pg_roles r on r.oid = a.grantee
  where a.grantee <> a.owner
  group by a.objid
), ours as (
  select n.oid from pg_namespace n where n.nspname in ('public', 'darkroom', 'auth')
)
select 'function' as kind, p.pronamespace::regnamespace::text as schema, p.proname::text as name, p.oid::regprocedure::text as ident,
  pg_get_function_arguments(p.oid) || ' -> ' || pg_get_function_result(p.oid) as shape,
  pg_get_functiondef(p.oid) as definition, coalesce(obj_description(p.oid, 'pg_proc'), '') as comment, coalesce(g.list, '{}') as grants
from pg_proc p left join grants g on g.objid = p.oid
where p.pronamespace in (select oid from ours) and p.prokind in ('f', 'w') and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
union all
select 'view', c.relnamespace::regnamespace::text, c.relname::text, c.oid::regclass::text,
  (select string_agg(quote_ident(t.attname) || ' ' || format_type(t.atttypid, t.atttypmod), ', ' order by t.attnum)
   from pg_attribute t where t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped),
  'create or replace view ' || c.oid::regclass || coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', '') || ' as'
    || chr(10) || rtrim(pg_get_viewdef(c.oid), ';'),
  coalesce(obj_description(c.oid, 'pg_class'), ''), coalesce(g.list, '{}')
from pg_class c left join grants g on g.objid = c.oid
where c.relnamespace in (select oid from ours) and c.relkind = 'v' and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
order by 1, 2, 3, 4`

// objects reads our functions and views.
func objects(ctx context.Context, conn *pgx.Conn) ([]object, error) {
	// With an empty path every name is printed in full.
	if _, err := conn.Exec(ctx, "set search_path = pg_catalog"); err != nil {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	rows, err := conn.Query(ctx, objectsQuery)
	if err != nil {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[object])
	if err != nil {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	return list, nil
}

// change is one difference between what the migrations make and what sql/ defines: Old is nil for a new object, New for a removed one.
type change struct{ Old, New *object }

func (c change) String() string {
	switch {
	case c.Old == nil:
		return "new: " + c.New.key()
	case c.New == nil:
		return "removed: " + c.Old.key()
	}
	var parts []string
	for part, same := range map[string]bool{
		"shape":      c.Old.Shape == c.New.Shape,
		"definition": c.Old.Definition == c.New.Definition,
		"comment":    c.Old.Comment == c.New.Comment,
		"grants":     slices.Equal(c.Old.Grants, c.New.Grants),
	} {
		if !same {
			parts = append(parts, part)
		}
	}
	slices.Sort(parts)
	return "changed: " + c.New.key() + " (" + strings.Join(parts, ", ") + ")"
}

// diff lists the changes, those that leave an object in the order of after.
func diff(before, after []object) []change {
	var changes []change
	byKey := map[string]object{}
	for _, o := range before {
		byKey[o.key()] = o
	}
	kept := map[string]bool{}
	for _, n := range after {
		kept[n.key()] = true
		o, found := byKey[n.key()]
		switch {
		case !found:
			changes = append(changes, change{New: &n})
		case !o.equal(n):
			changes = append(changes, change{Old: &o, New: &n})
		}
	}
	for _, o := range before {
		if !kept[o.key()] {
			changes = append(changes, change{Old: &o})
		}
	}
	return changes
}

// replaceable tells whether create or replace can make the change, and take it back.
func (c change) replaceable() bool {
	return c.Old != nil && c.New != nil && c.Old.Shape == c.New.Shape
}

func (o object) drop() string { return "drop " + o.Kind + " " + o.Ident + ";\n" }

// restore makes the object as it was.
func (o object) restore() string {
	var b strings.Builder
	b.WriteString(strings.TrimRight(o.Definition, "\n") + ";\n")
	comment := "null"
	if o.Comment != "" {
		comment = "'" + strings.ReplaceAll(o.Comment, "'", "''") + "'"
	}
	fmt.Fprintf(&b, "comment on %s %s is %s;\n", o.Kind, o.Ident, comment)
	fmt.Fprintf(&b, "revoke all on %s from public;\n", o.grantee())
	for _, grant := range o.Grants {
		privilege, role, _ := strings.Cut(grant, " to ")
		fmt.Fprintf(&b, "grant %s on %s to %s;\n", strings.ToLower(privilege), o.grantee(), role)
	}
	return b.String()
}

// grantee is the object's name in grant and revoke.
func (o object) grantee() string {
	if o.Kind == "view" {
		return o.Ident
	}
	return o.Kind + " " + o.Ident
}

// revoke takes back what after does not grant.
func (o object) revoke(after object) string {
	var b strings.Builder
	for _, grant := range o.Grants {
		if !slices.Contains(after.Grants, grant) {
			privilege, role, _ := strings.Cut(grant, " to ")
			fmt.Fprintf(&b, "revoke %s on %s from %s;\n", strings.ToLower(privilege), o.grantee(), role)
		}
	}
	return b.String()
}
