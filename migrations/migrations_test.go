package migrations_test

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"darkroom/migrations"
	"darkroom/sql/taskdbtest"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

// catalog lists everything that a migration could leave behind in our schemas.
func catalog(t *testing.T, db *taskdbtest.DB) []string {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), `
		select c.oid::regclass || ' ' || c.relkind::text from pg_class c
		where c.relnamespace in ('public'::regnamespace, coalesce(to_regnamespace('darkroom'), 'public'::regnamespace), coalesce(to_regnamespace('auth'), 'public'::regnamespace))
		  and c.relname not like 'goose_db_version%'
		union all
		select p.oid::regprocedure || ' ' || md5(pg_get_functiondef(p.oid)) from pg_proc p
		where p.pronamespace in ('public'::regnamespace, coalesce(to_regnamespace('darkroom'), 'public'::regnamespace), coalesce(to_regnamespace('auth'), 'public'::regnamespace))
		union all
		select t.oid::regtype || ' ' || t.typtype::text from pg_type t
		where t.typnamespace in ('public'::regnamespace, coalesce(to_regnamespace('darkroom'), 'public'::regnamespace), coalesce(to_regnamespace('auth'), 'public'::regnamespace))
		  and t.typname not like '%goose_db_version'
		union all
		select t.tgname || ' ' || md5(pg_get_triggerdef(t.oid)) from pg_trigger t where not t.tgisinternal
		union all
		select n.nspname from pg_namespace n where n.nspname in ('darkroom', 'auth')
		order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestUpDownUpGivesTheSameSchema(t *testing.T) {
	t.Parallel()
	db := taskdbtest.NewEmpty(t)
	if err := migrations.Up(t.Context(), db.URL, migrations.FS); err != nil {
		t.Fatal(err)
	}
	first := catalog(t, db)
	if len(first) < 50 {
		t.Errorf("only %d things after Up", len(first))
	}
	if err := migrations.DownTo(t.Context(), db.URL, migrations.FS, 0); err != nil {
		t.Fatal(err)
	}
	if left := catalog(t, db); len(left) > 0 {
		t.Errorf("left after going down to 0: %v", left)
	}
	if err := migrations.Up(t.Context(), db.URL, migrations.FS); err != nil {
		t.Fatal(err)
	}
	if second := catalog(t, db); strings.Join(first, "\n") != strings.Join(second, "\n") {
		t.Errorf("first:\n%v\nsecond:\n%v", first, second)
	}
}

func TestTwoMigratorsAtOnceAreHarmless(t *testing.T) {
	t.Parallel()
	db := taskdbtest.NewEmpty(t)
	files := fstest.MapFS{
		"00001_a.sql": file("-- +goose Up\ncreate table a (n int);\n-- +goose StatementBegin\ndo $$ begin perform pg_sleep(0.2); end $$;\n-- +goose StatementEnd\n"),
		"00002_b.sql": file("-- +goose Up\ninsert into a values (1);\n"),
	}
	const migrators = 3
	done := make(chan error)
	for range migrators {
		go func() { done <- migrations.Up(t.Context(), db.URL, files) }()
	}
	for range migrators {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	var rows int
	if err := db.Pool.QueryRow(t.Context(), "select count(*) from a").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("the second file ran %d times (%v), want once", rows, err)
	}
}

func TestPendingNamesTheMissingFilesAndWritesNothing(t *testing.T) {
	t.Parallel()
	db := taskdbtest.NewEmpty(t)
	one := fstest.MapFS{"00001_a.sql": file("-- +goose Up\nselect 1;\n")}
	two := fstest.MapFS{"00001_a.sql": one["00001_a.sql"], "00002_b.sql": file("-- +goose Up\nselect 1;\n-- +goose Down\nselect 1;\n")}
	check := func(want ...string) {
		t.Helper()
		got, err := migrations.Pending(t.Context(), db.Pool, two)
		if err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("pending: %v, %v; want %v", got, err, want)
		}
	}
	check("00001_a.sql", "00002_b.sql")
	var made bool
	if err := db.Pool.QueryRow(t.Context(), "select to_regclass('goose_db_version') is not null").Scan(&made); err != nil || made {
		t.Errorf("Pending made a table: %v (%v)", made, err)
	}
	if err := migrations.Up(t.Context(), db.URL, one); err != nil {
		t.Fatal(err)
	}
	check("00002_b.sql")
	if err := migrations.Up(t.Context(), db.URL, two); err != nil {
		t.Fatal(err)
	}
	check()
	if err := migrations.DownTo(t.Context(), db.URL, two, 1); err != nil {
		t.Fatal(err)
	}
	check("00002_b.sql")
}

func TestAFailingStatementIsShownWithItsPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"syntax": {
			"-- +goose Up\n-- About a.\n\ncreate table a (\n  n int,\n  -- a comment\n\n  é text,\n  m nonsense\n);\n",
			"migrating up: 00001_x.sql: line 9, column 5 (m nonsense): ",
		},
		"body of a function": {
			"-- +goose Up\ncreate table a (n int);\n\n-- +goose StatementBegin\n-- Comment.\ncreate function f() returns int language plpgsql as $$\n" +
				"begin\n  retrn 1;\nend $$;\n-- +goose StatementEnd\n",
			"00001_x.sql: line 8, column 3 (retrn 1;): ",
		},
		"the later of two alike": {
			"-- +goose Up\ncreate table a (n int);\ndrop table\n  a;\ndrop table\n  b;\n",
			"00001_x.sql: the statement at line 5 (drop table): ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := taskdbtest.NewEmpty(t)
			err := migrations.Up(t.Context(), db.URL, fstest.MapFS{"00001_x.sql": file(c.text)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
			if left := catalog(t, db); len(left) > 0 {
				t.Errorf("left of the failed file: %v", left)
			}
		})
	}
}

func TestEnvironmentSubstitutionIsNotUsed(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(strings.ToUpper(string(text)), "+GOOSE ENVSUB") {
			t.Errorf("%s: ENVSUB turns $$ into $, which breaks function bodies", name)
		}
	}
}
