package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"darkroom/migrations"
	"darkroom/sql/localpg"
)

// project is a checkout with its scratch server.
type project struct {
	root   string          // the folder with migrations/ and sql/
	server *localpg.Server // for scratch databases
}

func (p project) sql() fs.FS        { return os.DirFS(filepath.Join(p.root, "sql")) }
func (p project) migrations() fs.FS { return os.DirFS(filepath.Join(p.root, "migrations")) }

// compare migrates a new database and lists where it differs from what sql/ defines; empty = frozen and true.
func (p project) compare(ctx context.Context, files fs.FS) ([]change, []source, error) {
	var changes []change
	var ordered []source
	err := p.withDatabase(ctx, "template0", func(migrated string) error {
		if err := migrations.Up(ctx, p.server.DatabaseURL(migrated), files); err != nil {
			return err
		}
		var err error
		changes, ordered, err = p.compareWith(ctx, migrated)
		return err
	})
	return changes, ordered, err
}

// compareWith compares an existing database with what sql/ defines.
func (p project) compareWith(ctx context.Context, migrated string) ([]change, []source, error) {
	list, err := sources(p.sql())
	if err != nil {
		return nil, nil, err
	}
	var old, defined []object
	if err := p.withConn(ctx, migrated, func(conn *pgx.Conn) error {
		old, err = objects(ctx, conn)
		return err
	}); err != nil {
		return nil, nil, err
	}
	var ordered []source
	err = p.withDatabase(ctx, migrated, func(scratch string) error {
		return p.withConn(ctx, scratch, func(conn *pgx.Conn) error {
			if ordered, err = define(ctx, conn, list); err != nil {
				return err
			}
			defined, err = objects(ctx, conn)
			return err
		})
	})
	if err != nil {
		return nil, nil, err
	}
	for i, s := range ordered {
		if !slices.ContainsFunc(defined, func(o object) bool { return o.file() == s.Name }) {
			return nil, nil, fmt.Errorf("sql/%s does not make what it is named after", ordered[i].Name)
		}
	}
	slices.SortStableFunc(defined, func(a, b object) int { return position(ordered, a) - position(ordered, b) })
	return diff(old, defined), ordered, nil
}

func position(ordered []source, o object) int {
	return slices.IndexFunc(ordered, func(s source) bool { return s.Name == o.file() })
}

// freeze writes the next migration, which makes sql/ true, and returns its file name; "" when it is true already.
func (p project) freeze(ctx context.Context, name string) (string, error) {
	if !regexp.MustCompile(`^[a-z0-9_]+$`).MatchString(name) {
		return "", fmt.Errorf("the migration's name must consist of a-z, 0-9 and _, not %q", name)
	}
	changes, ordered, err := p.compare(ctx, p.migrations())
	if err != nil || len(changes) == 0 {
		return "", err
	}
	names, err := fs.Glob(p.migrations(), "*.sql")
	if err != nil {
		return "", fmt.Errorf("reading migrations/: %w", err)
	}
	last := int64(0)
	for _, other := range names {
		if last, err = number(other); err != nil {
			return "", err
		}
	}
	file := fmt.Sprintf("%05d_%s.sql", last+1, name)
	return file, p.write(ctx, file, changes, ordered)
}

// rewrite replaces a migration that is not released by one with all that sql/ defines.
func (p project) rewrite(ctx context.Context, file string) error {
	version, err := number(file)
	if err != nil {
		return err
	}
	return p.withDatabase(ctx, "template0", func(before string) error {
		if version > 1 {
			if err := migrations.UpTo(ctx, p.server.DatabaseURL(before), p.migrations(), version-1); err != nil {
				return err
			}
		}
		changes, ordered, err := p.compareWith(ctx, before)
		if err != nil {
			return err
		}
		return p.write(ctx, file, changes, ordered)
	})
}

func number(file string) (int64, error) {
	digits, _, found := strings.Cut(filepath.Base(file), "_")
	version, err := strconv.ParseInt(digits, 10, 64)
	if !found || err != nil {
		return 0, fmt.Errorf("migrations/%s must be named like 00002_functions.sql", file)
	}
	return version, nil
}

// write writes the migration, after it was tried: up to where sql/ is true, down to where it began.
func (p project) write(ctx context.Context, file string, changes []change, ordered []source) error {
	text := migration(changes, ordered)
	trial, err := os.MkdirTemp("", "darkroom-migrations-")
	if err != nil {
		return fmt.Errorf("trying the migration: %w", err)
	}
	defer os.RemoveAll(trial)
	names, err := fs.Glob(p.migrations(), "*.sql")
	if err != nil {
		return fmt.Errorf("reading migrations/: %w", err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(p.migrations(), name)
		if err != nil {
			return fmt.Errorf("reading migrations/: %w", err)
		}
		if err := os.WriteFile(filepath.Join(trial, name), content, 0o600); err != nil {
			return fmt.Errorf("trying the migration: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(trial, file), []byte(text), 0o600); err != nil {
		return fmt.Errorf("trying the migration: %w", err)
	}
	if err := p.try(ctx, os.DirFS(trial), file); err != nil {
		return fmt.Errorf("the migration that was generated does not do (%w); write it by hand", err)
	}
	if err := os.WriteFile(filepath.Join(p.root, "migrations", file), []byte(text), 0o644); err != nil { //nolint:gosec // a source file
		return fmt.Errorf("writing the migration: %w", err)
	}
	return nil
}

func (p project) try(ctx context.Context, files fs.FS, file string) error {
	left, _, err := p.compare(ctx, files)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("it leaves %v", left)
	}
	version, err := number(file)
	if err != nil {
		return err
	}
	return p.withDatabase(ctx, "template0", func(name string) error {
		read := func() (list []object, err error) {
			err = p.withConn(ctx, name, func(conn *pgx.Conn) error {
				list, err = objects(ctx, conn)
				return err
			})
			return list, err
		}
		var before []object
		if version > 1 {
			if err := migrations.UpTo(ctx, p.server.DatabaseURL(name), files, version-1); err != nil {
				return err
			}
			if before, err = read(); err != nil {
				return err
			}
		}
		if err := migrations.UpTo(ctx, p.server.DatabaseURL(name), files, version); err != nil {
			return err
		}
		if err := migrations.DownTo(ctx, p.server.DatabaseURL(name), files, version-1); err != nil {
			return err
		}
		after, err := read()
		if err != nil {
			return err
		}
		if left := diff(before, after); len(left) > 0 {
			return fmt.Errorf("its way back leaves %v", left)
		}
		return nil
	})
}

// migration is the text of the goose file.
func migration(changes []change, ordered []source) string {
	var up, down []string     // one statement block each; down is built backwards
	begin := func(c change) { // what must go before anything new is made
		switch {
		case c.New == nil:
			up = append(up, c.Old.drop())
			down = append(down, c.Old.restore())
		case c.Old != nil && !c.replaceable():
			up = append(up, c.Old.drop())
			down = append(down, c.Old.restore())
		}
	}
	for _, kind := range []string{"view", "function"} { // a view may use a function
		for _, c := range changes {
			if c.Old != nil && c.Old.Kind == kind {
				begin(c)
			}
		}
	}
	for _, s := range ordered {
		for _, c := range changes {
			if c.New == nil || c.New.file() != s.Name {
				continue
			}
			text := "-- sql/" + s.Name + "\n"
			if c.replaceable() {
				text += c.Old.revoke(*c.New)
				down = append(down, c.New.revoke(*c.Old)+c.Old.restore())
			} else {
				down = append(down, c.New.drop())
			}
			up = append(up, text+strings.TrimRight(s.Text, "\n")+"\n")
		}
	}
	slices.Reverse(down)

	var b strings.Builder
	section := func(title string, blocks []string) {
		b.WriteString("-- +goose " + title + "\n")
		if title == "Up" {
			b.WriteString("-- Generated from sql/ by `make migration`; edit it there.\n")
		}
		b.WriteString("set local check_function_bodies = off;\n")
		for _, block := range blocks {
			b.WriteString("\n-- +goose StatementBegin\n" + block + "-- +goose StatementEnd\n")
		}
	}
	section("Up", up)
	b.WriteString("\n")
	section("Down", down)
	return b.String()
}

// withConn connects to a database for as long as do runs.
func (p project) withConn(ctx context.Context, database string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, p.server.DatabaseURL(database))
	if err != nil {
		return fmt.Errorf("connecting to the scratch server: %w", err)
	}
	return errors.Join(do(conn), conn.Close(ctx))
}

// withDatabase makes a database, a copy of template, for as long as do runs.
func (p project) withDatabase(ctx context.Context, template string, do func(name string) error) error {
	return p.withConn(ctx, "postgres", func(conn *pgx.Conn) error {
		name := "scratch_" + strings.ToLower(rand.Text())
		if _, err := conn.Exec(ctx, "create database "+name+" template "+template+" strategy file_copy"); err != nil {
			return fmt.Errorf("making a scratch database: %w", err)
		}
		err := do(name)
		if _, dropErr := conn.Exec(ctx, "drop database "+name+" with (force)"); dropErr != nil {
			return errors.Join(err, fmt.Errorf("dropping a scratch database: %w", dropErr))
		}
		return err
	})
}
