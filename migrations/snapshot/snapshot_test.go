package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"darkroom/migrations"
	"darkroom/sql/localpg"
)

// scratch is one server for all tests; it ends with the test program.
var scratch = sync.OnceValues(func() (*localpg.Server, error) {
	return localpg.Start(context.Background(), localpg.Config{Log: os.Stderr})
})

// checkout is the project itself.
func checkout(t *testing.T) project {
	t.Helper()
	return at(t, filepath.Join("..", ".."))
}

func at(t *testing.T, root string) project {
	t.Helper()
	server, err := scratch()
	if err != nil {
		t.Fatal(err)
	}
	return project{root: root, server: server}
}

// frozen makes the fixture's 00002_functions.sql, once for all tests.
var frozen = sync.OnceValues(func() (string, error) {
	root, err := os.MkdirTemp("", "snapshot-test-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(root)
	server, err := scratch()
	if err != nil {
		return "", err
	}
	for name, text := range fixtureFiles() {
		if err := write(root, name, text); err != nil {
			return "", err
		}
	}
	if err := (project{root: root, server: server}).rewrite(context.Background(), "00002_functions.sql"); err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(root, "migrations", "00002_functions.sql"))
	return string(text), err
})

// fixture is a small project: a table, and two functions and a view that are frozen in 00002_functions.sql.
func fixture(t *testing.T) project {
	t.Helper()
	p := at(t, t.TempDir())
	for name, text := range fixtureFiles() {
		put(t, p, name, text)
	}
	text, err := frozen()
	if err != nil {
		t.Fatal(err)
	}
	put(t, p, "migrations/00002_functions.sql", text)
	return p
}

func fixtureFiles() map[string]string {
	return map[string]string{
		"migrations/00001_tables.sql": `-- +goose Up
create schema darkroom;
create table public.things (id int primary key, name text);
-- +goose Down
drop table public.things;
drop schema darkroom;
`,
		"sql/count_things.sql": `-- Counts.
create or replace function public.count_things(p_name text default null)
returns bigint
language sql stable
as $$
  select count(*) from public.named_things where p_name is null or name = p_name
$$;
comment on function public.count_things is 'Counts things; it''s quick.';
revoke all on function public.count_things from public;
grant execute on function public.count_things to pg_monitor;
`,
		"sql/internal/clean_name.sql": `create or replace function darkroom.clean_name(p_name text)
returns text
language plpgsql immutable
as $$
begin
  return btrim(p_name);
end
$$;
revoke all on function darkroom.clean_name from public;
`,
		"sql/named_things.sql": `create or replace view public.named_things with (security_invoker = true) as
select id, darkroom.clean_name(name) as name from public.things where name is not null;
grant select on public.named_things to pg_monitor;
`,
	}
}

func write(root, name, text string) error {
	path := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("fixture: %w", err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("fixture: %w", err)
	}
	return nil
}

func put(t *testing.T, p project, name, text string) {
	t.Helper()
	if err := write(p.root, name, text); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, p project, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func putReplaced(t *testing.T, p project, name string, oldNew ...string) {
	t.Helper()
	text := get(t, p, name)
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(text, oldNew[i]) {
			t.Fatalf("%s lacks %q", name, oldNew[i])
		}
	}
	put(t, p, name, strings.NewReplacer(oldNew...).Replace(text))
}

func changes(t *testing.T, p project) string {
	t.Helper()
	list, _, err := p.compare(t.Context(), p.migrations())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(list)
}

func TestMigrationsHoldWhatSQLDefines(t *testing.T) {
	t.Parallel()
	if list := changes(t, checkout(t)); list != "[]" {
		t.Errorf("migrations/ differs from sql/: %s; run `make migration name=...`", list)
	}
}

func TestSchemaFileIsTrue(t *testing.T) {
	t.Parallel()
	p := checkout(t)
	want, err := p.schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, p, "sql/schema.sql"); got != want {
		t.Error("sql/schema.sql differs from what the migrations make; run `make schema`")
	}
}

func TestNothingChangedWritesNothing(t *testing.T) {
	t.Parallel()
	p := fixture(t)
	if list := changes(t, p); list != "[]" {
		t.Errorf("changes: %s", list)
	}
	if file, err := p.freeze(t.Context(), "nothing"); err != nil || file != "" {
		t.Errorf("wrote %q, %v", file, err)
	}
}

func TestEachKindOfChangeIsFoundAndFrozen(t *testing.T) {
	t.Parallel()
	const count, clean, view = "sql/count_things.sql", "sql/internal/clean_name.sql", "sql/named_things.sql"
	for name, c := range map[string]struct {
		edit  func(t *testing.T, p project)
		found string
		holds []string // what the migration says
	}{
		"body": {
			func(t *testing.T, p project) { t.Helper(); putReplaced(t, p, clean, "btrim(p_name)", "lower(p_name)") },
			"changed: function darkroom.clean_name(text) (definition)",
			[]string{"lower(p_name)", "btrim(p_name)"},
		},
		"comment": {
			func(t *testing.T, p project) { t.Helper(); putReplaced(t, p, count, "it''s quick", "slowly") },
			"changed: function public.count_things(text) (comment)",
			[]string{"'Counts things; it''s quick.'"},
		},
		"comment taken away": {
			func(t *testing.T, p project) {
				t.Helper()
				putReplaced(t, p, count, "comment on function public.count_things is 'Counts things; it''s quick.';\n", "comment on function public.count_things is null;\n")
			},
			"changed: function public.count_things(text) (comment)", nil,
		},
		"grant taken away": {
			func(t *testing.T, p project) {
				t.Helper()
				putReplaced(t, p, count, "grant execute on function public.count_things to pg_monitor;\n", "")
			},
			"changed: function public.count_things(text) (grants)",
			[]string{"revoke execute on function public.count_things(text) from pg_monitor"},
		},
		"revoke forgotten": {
			func(t *testing.T, p project) {
				t.Helper()
				putReplaced(t, p, clean, "revoke all on function darkroom.clean_name from public;\n", "grant execute on function darkroom.clean_name to public;\n")
			},
			"changed: function darkroom.clean_name(text) (grants)", nil,
		},
		"new function": {
			func(t *testing.T, p project) {
				t.Helper()
				put(t, p, "sql/one.sql", "create or replace function public.one() returns int language sql as 'select 1';\n")
			},
			"new: function public.one()",
			[]string{"drop function public.one();"},
		},
		"removed function": {
			func(t *testing.T, p project) {
				t.Helper()
				if err := os.Remove(filepath.Join(p.root, filepath.FromSlash(count))); err != nil {
					t.Fatal(err)
				}
			},
			"removed: function public.count_things(text)",
			[]string{"drop function public.count_things(text);"},
		},
		"other arguments": {
			func(t *testing.T, p project) {
				t.Helper()
				putReplaced(t, p, count, "p_name text default null", "p_name text, p_max int")
			},
			"new: function public.count_things(text,integer) removed: function public.count_things(text)",
			[]string{"drop function public.count_things(text);", "drop function public.count_things(text,integer);"},
		},
		"other argument name and result": {
			func(t *testing.T, p project) {
				t.Helper()
				putReplaced(t, p, count, "p_name", "p_like", "returns bigint", "returns numeric")
			},
			"changed: function public.count_things(text) (definition, shape)",
			[]string{"drop function public.count_things(text);"},
		},
		"view with a column more": {
			func(t *testing.T, p project) {
				t.Helper()
				putReplaced(t, p, view, " as name from", " as name, 1 as n from")
			},
			"changed: view public.named_things (definition, shape)",
			[]string{"create or replace view public.named_things"},
		},
		"view's option": {
			func(t *testing.T, p project) {
				t.Helper()
				putReplaced(t, p, view, "security_invoker = true", "security_invoker = false")
			},
			"changed: view public.named_things (definition)", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := fixture(t)
			c.edit(t, p)
			if got := changes(t, p); got != "["+c.found+"]" {
				t.Errorf("found %s, want [%s]", got, c.found)
			}
			file, err := p.freeze(t.Context(), "next") // tries it up and down
			if err != nil {
				t.Fatal(err)
			}
			if file != "00003_next.sql" {
				t.Errorf("wrote %q", file)
			}
			text := get(t, p, "migrations/"+file)
			for _, part := range c.holds {
				if !strings.Contains(text, part) {
					t.Errorf("%s lacks %q:\n%s", file, part, text)
				}
			}
			if list := changes(t, p); list != "[]" {
				t.Errorf("left: %s", list)
			}
		})
	}
}

func TestAFileMustBeNamedAfterWhatItMakes(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"sql/other.sql":            "create or replace function public.one() returns int language sql as 'select 1';\n",
		"sql/internal/one.sql":     "create or replace function public.one() returns int language sql as 'select 1';\n",
		"sql/nothing.sql":          "select 1;\n",
		"sql/one.sql":              strings.Repeat("create or replace function public.one() returns int language sql as 'select 1';\n", 2),
		"sql/internal/nowhere.sql": "create function darkroom.nowhere() returns int language sql as 'select 1';\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := at(t, t.TempDir())
			put(t, p, name, text)
			if _, err := sources(p.sql()); err == nil || !strings.Contains(err.Error(), name+" must hold one") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAFaultInSQLIsShownWithItsPlace(t *testing.T) {
	t.Parallel()
	p := fixture(t)
	putReplaced(t, p, "sql/internal/clean_name.sql", "returns text", "returns nonsense")
	_, _, err := p.compare(t.Context(), p.migrations())
	if err == nil || !strings.Contains(err.Error(), "sql/internal/clean_name.sql: ") || !strings.Contains(err.Error(), `type "nonsense" does not exist`) {
		t.Errorf("got %v", err)
	}
}

func TestTheSchemaIsTheSameUpAndAfterARoundTrip(t *testing.T) {
	t.Parallel()
	p := checkout(t)
	want, err := p.schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got string
	err = p.withDatabase(t.Context(), "template0", func(name string) error {
		url := p.server.DatabaseURL(name)
		for _, step := range []func() error{
			func() error { return migrations.Up(t.Context(), url, p.migrations()) },
			func() error { return migrations.DownTo(t.Context(), url, p.migrations(), 0) },
			func() error { return migrations.Up(t.Context(), url, p.migrations()) },
			func() error {
				return p.withConn(t.Context(), name, func(conn *pgx.Conn) error {
					got, err = schema(t.Context(), conn)
					return err
				})
			},
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("after up, down, up:\n%s\nwant:\n%s", got, want)
	}
}
