package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"darkroom/migrations"
)

// schemaFile is the generated description of the whole schema, in the folder of the sources but not one of them.
const schemaFile = "schema.sql"

// source is one file of sql/.
type source struct {
	Name string // below sql/, such as internal/account.sql
	Text string
}

var createPattern = regexp.MustCompile(`(?m)^create or replace (function|view) (\w+\.\w+)`)

// sources reads sql/: first the functions, those of the schemas auth and darkroom before those of public, then the views.
func sources(files fs.FS) ([]source, error) {
	var functions, views []source
	for _, folder := range []struct{ pattern, schema string }{{"auth/*.sql", "auth"}, {"internal/*.sql", "darkroom"}, {"*.sql", "public"}} {
		names, err := fs.Glob(files, folder.pattern)
		if err != nil {
			return nil, fmt.Errorf("reading sql/: %w", err)
		}
		for _, name := range names {
			if name == schemaFile {
				continue
			}
			text, err := fs.ReadFile(files, name)
			if err != nil {
				return nil, fmt.Errorf("reading sql/: %w", err)
			}
			made := createPattern.FindAllStringSubmatch(string(text), -1)
			want := folder.schema + "." + strings.TrimSuffix(name[strings.LastIndex(name, "/")+1:], ".sql")
			if len(made) != 1 || made[0][2] != want {
				return nil, fmt.Errorf("sql/%s must hold one `create or replace function %s` or view, at the beginning of a line", name, want)
			}
			if made[0][1] == "view" {
				views = append(views, source{name, string(text)})
			} else {
				functions = append(functions, source{name, string(text)})
			}
		}
	}
	return append(functions, views...), nil
}

// define drops all our functions and views from a scratch database, with what hangs on them, and executes the sources. It returns the sources in an order
// that works: one that fails is tried again after those that did not, since it may need one of them.
func define(ctx context.Context, conn *pgx.Conn, list []source) ([]source, error) {
	present, err := objects(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, o := range present {
		if _, err := conn.Exec(ctx, "drop "+o.Kind+" if exists "+o.Ident+" cascade"); err != nil {
			return nil, fmt.Errorf("dropping %s from the scratch database: %w", o.Ident, err)
		}
	}
	if _, err := conn.Exec(ctx, "reset search_path; set check_function_bodies = off"); err != nil {
		return nil, fmt.Errorf("preparing the scratch database: %w", err)
	}
	var ordered []source
	for len(list) > 0 {
		var failed []source
		var failures []error
		for _, s := range list {
			// Several statements in one Exec are one transaction.
			if _, err := conn.Exec(ctx, s.Text); err != nil {
				failed, failures = append(failed, s), append(failures, s.locate(err))
			} else {
				ordered = append(ordered, s)
			}
		}
		if len(failed) == len(list) {
			return nil, errors.Join(failures...)
		}
		list = failed
	}
	return ordered, nil
}

func (s source) locate(err error) error {
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Errorf("%s: %w", migrations.Locate("sql/"+s.Name, s.Text, s.Text, failure), failure)
	}
	return fmt.Errorf("sql/%s: %w", s.Name, err)
}
