package security_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// The callers who may see A's things, by the names of newLab.
var (
	usersA   = []string{"A", "A's token"}
	service  = []string{"service"}
	owners   = append(slices.Clone(usersA), service...)
	upkeep   = []string{"trusted worker", "service"}
	everyone = append([]string{"anon", "B", "B's token", "user without claims", "A's worker", "B's worker", "worker of nobody", "trusted worker"}, owners...)
)

func plus(list []string, more ...string) []string { return append(slices.Clone(list), more...) }

// tableProbe says who reaches A's rows of a table. Nobody else sees one, and nobody who is not in writes changes or deletes one.
type tableProbe struct {
	rows   string   // condition: A's rows. {a}, {project}, ... are A's ids
	sees   []string // callers
	writes []string // callers
	forge  string   // an INSERT that puts a row among A's, for tables that take INSERTs
	empty  bool     // there are no such rows; whoever is not in sees is refused
}

// tables is the matrix. A table or view that is missing here fails TestS01.
var tables = map[string]tableProbe{
	"public.users":             {rows: "id = {a}", sees: owners, writes: service},
	"public.projects":          {rows: "owner_id = {a}", sees: owners, writes: owners, forge: "insert into public.projects (id, name) select {task}, 'of b' from public.users where id = {a}"},
	"public.shots":             {rows: "project_id = {project}", sees: owners, writes: owners, forge: "insert into public.shots (project_id, name) values ({project}, 'x')"},
	"public.tasks":             {rows: "owner_id = {a}", sees: plus(owners, "A's worker"), forge: `insert into public.tasks (project_id, task_type, params) values ({project}, 'single_image', '{"prompt":"x"}')`},
	"public.task_attempts":     {rows: "owner_id = {a}", sees: owners},
	"public.workers":           {rows: "owner_id = {a}", sees: plus(owners, "A's worker")},
	"public.credit_ledger":     {rows: "owner_id = {a}", sees: owners},
	"public.generations":       {rows: "owner_id = {a}", sees: owners, writes: owners, forge: "insert into public.generations (project_id, type, location) values ({project}, 'image', 'x')"},
	"public.shot_generations":  {rows: "owner_id = {a}", sees: owners, writes: owners, forge: "insert into public.shot_generations (shot_id, generation_id) values ({shot}, {generation})"},
	"public.generation_errors": {rows: "owner_id = {a}", sees: owners},
	// nobody's: what can be asked for, and what is migrated
	"public.task_types":           {rows: "true", sees: everyone},
	"public.tools":                {rows: "true", sees: everyone},
	"public.goose_db_version":     {rows: "true", sees: []string{"A's worker", "B's worker", "worker of nobody", "trusted worker", "service", "gateway's login"}},
	"public.invariant_violations": {rows: "owner_id = {a}", sees: service, empty: true},

	"darkroom.access_tokens":       {rows: "owner_id = {a}"},
	"darkroom.deleted_generations": {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.task_ready":          {rows: "owner_id = {a}", sees: service},
	"darkroom.task_backlog":        {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.task_deps":           {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.task_delayed":        {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.queue_repairs":       {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.lease_watch":         {rows: "true", sees: service},
	"darkroom.task_events":         {rows: "owner_id = {a}", sees: service},
	"darkroom.task_events_0":       {rows: "owner_id = {a}", sees: service},
	"darkroom.task_events_1":       {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.task_events_2":       {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.task_events_3":       {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.task_events_4":       {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.task_events_5":       {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.task_events_6":       {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.task_events_7":       {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.event_log":           {rows: "true", sees: service},
	"darkroom.realtime_gateways":   {rows: "true", sees: service, empty: true},
	"darkroom.realtime_leases":     {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.erasures":            {rows: "owner_id = {a}", sees: service, empty: true},
	"darkroom.uploads":             {rows: "owner_id = {a}", sees: service},
	"darkroom.credentials":         {rows: "user_id = {a}"},
	"darkroom.sessions":            {rows: "user_id = {a}"},
	"darkroom.refresh_tokens":      {rows: "session_id in (select s.id from darkroom.sessions s where s.user_id = {a})"},
	"darkroom.worker_types":        {rows: "owner_id = {a}", sees: service},
	"darkroom.queue_room":          {rows: "owner_id = {a}", sees: service},
	"darkroom.queue_settings":      {rows: "true", sees: service},
	"darkroom.rate_buckets":        {rows: "true", sees: service, empty: true},
	"darkroom.audit_log":           {rows: "target = {a}::text", sees: service},
}

// fill puts A's ids into a text.
func (l *lab) fill(text string) string {
	return strings.NewReplacer(
		"{a}", quote(l.a.id), "{project}", quote(l.a.project), "{shot}", quote(l.a.shot), "{queued}", quote(l.queued), "{running}", quote(l.running),
		"{done}", quote(l.done), "{failed}", quote(l.failed), "{generation}", quote(l.generation), "{token}", quote(l.token), "{worker}", quoteText(workerOfA), "{canary}", canary,
		"{task}", "gen_random_uuid()", "{b}", quote(l.b.id), "{b's project}", quote(l.b.project),
	).Replace(text)
}

func quote(id fmt.Stringer) string { return "'" + id.String() + "'" }

// exposed lists relations, functions or sequences of the schemas that anybody but their owner may use.
const exposed = "('public', 'auth', 'darkroom')"

// TestS01TablesOfTheMatrix: "For every table [...], owner B with a valid token reads and changes 0 rows of owner A. The test matrix is generated from
// the catalog; a new object without a row in it fails".
func TestS01TablesOfTheMatrix(t *testing.T) {
	t.Parallel()
	none(t, tableFindings(newLab(t)))
}

func tableFindings(l *lab) (findings []string) {
	l.t.Helper()
	relations := l.texts(`
		select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname in ` + exposed + ` and c.relkind in ('r', 'p', 'v', 'm', 'f') order by 1`)
	for _, relation := range relations {
		name := relation
		if !strings.Contains(name, ".") {
			name = "public." + name
		}
		probe, listed := tables[name]
		if !listed {
			findings = append(findings, name+" has no row in the matrix")
			continue
		}
		total := value[int](l, l.fill("select count(*) from "+name+" where "+probe.rows))
		if (total == 0) != probe.empty {
			findings = append(findings, fmt.Sprintf("%s: A has %d rows: the probe proves nothing", name, total))
		}
		for _, c := range l.callers {
			findings = append(findings, l.probeTable(name, probe, c)...)
		}
	}
	if len(relations) < 20 {
		findings = append(findings, fmt.Sprintf("only %d relations were looked at", len(relations)))
	}
	return findings
}

func (l *lab) probeTable(name string, probe tableProbe, c caller) (findings []string) {
	ctx := l.t.Context()
	found := func(format string, args ...any) {
		findings = append(findings, fmt.Sprintf("%s, %s: ", name, c.name)+fmt.Sprintf(format, args...))
	}
	columns := l.texts("select attname::text from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped", name)
	insertable := value[bool](l, "select has_any_column_privilege($1, $2, 'insert')", c.role, name)
	if insertable && probe.forge == "" {
		found("may insert, and the matrix has no row that tries")
	}
	l.try(c, func(tx pgx.Tx) {
		var n int
		err := attempt(ctx, tx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, l.fill("select count(*) from "+name+" where "+probe.rows)).Scan(&n)
		})
		sees := slices.Contains(probe.sees, c.name)
		switch {
		case err != nil && code(err) != "42501":
			found("reading: %v", err)
		case n > 0 && !sees:
			found("sees %d rows", n)
		case sees && (err != nil || n == 0 && !probe.empty):
			found("should see rows, and sees %d, %v", n, err)
		case probe.empty && !sees && err == nil && c.role != "authenticated":
			found("may read it")
		}
		wrote := false
		statements := []string{"delete from " + name + " where " + probe.rows}
		for _, column := range columns {
			statements = append(statements, fmt.Sprintf("update %s set %s = %s where %s", name, column, column, probe.rows))
		}
		if probe.forge != "" {
			statements = append(statements, probe.forge)
		}
		for _, statement := range statements {
			var rows int64
			err := attempt(ctx, tx, func(tx pgx.Tx) error {
				tag, err := tx.Exec(ctx, l.fill(statement))
				rows = tag.RowsAffected()
				return err
			})
			if rows > 0 {
				wrote = true
			}
			if rows > 0 && !slices.Contains(probe.writes, c.name) && (statement != probe.forge || !slices.Contains(owners, c.name)) {
				found("%s changes %d rows", statement, rows)
			}
			if err != nil && !refusal(code(err)) && !slices.Contains(probe.writes, c.name) {
				found("%s: %v", statement, err)
			}
		}
		if !wrote && slices.Contains(probe.writes, c.name) {
			found("should be able to write, and is not: the probe proves nothing")
		}
		if err := attempt(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "truncate "+name)
			return err
		}); code(err) != "42501" && code(err) != "42809" { // a view cannot be truncated
			found("truncate: %v", err)
		}
	})
	return findings
}

// attempt runs a statement that may be refused in a savepoint, which is taken back.
func attempt(ctx context.Context, tx pgx.Tx, do func(tx pgx.Tx) error) error {
	inner, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = inner.Rollback(context.WithoutCancel(ctx)) }()
	return do(inner)
}

// refusal tells whether a code says: you may not, or there is nothing.
func refusal(code string) bool {
	switch code {
	case "42501", "TD020", "TD021", "TD022", "TD024", "TD025", "TD026", "TD031", "TD040", "TD041":
		return true
	case "55000", "428C9", "22P02": // a view that takes no changes; a generated column; a claim that is no uuid
		return true
	}
	return false
}
