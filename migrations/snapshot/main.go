// Snapshot freezes the functions and views of sql/ into migrations/, and describes the schema in sql/schema.sql.
//
//	go run ./migrations/snapshot -name claim_skip_locked          the next migration, with what changed since the last one
//	go run ./migrations/snapshot -rewrite 00002_functions.sql     that migration again, with everything; it must not be released
//	go run ./migrations/snapshot                                  only sql/schema.sql
//
// It works on a temporary PostgreSQL server and tries each migration, up and down, before it writes it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"darkroom/sql/localpg"
)

func main() {
	name := flag.String("name", "", "write the next migration, with this `name`")
	file := flag.String("rewrite", "", "write this `file` of migrations/ anew, with all functions and views")
	root := flag.String("root", ".", "the `folder` that holds migrations/ and sql/")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *root, *name, *file); err != nil {
		fmt.Fprintln(os.Stderr, "snapshot:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}

func run(ctx context.Context, root, name, file string) (err error) {
	if name != "" && file != "" {
		return errors.New("-name and -rewrite exclude each other")
	}
	server, err := localpg.Start(ctx, localpg.Config{Log: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop(context.WithoutCancel(ctx))) }()
	p := project{root: root, server: server}

	switch {
	case file != "":
		if err := p.rewrite(ctx, file); err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, "wrote", filepath.Join("migrations", file))
	case name != "":
		written, err := p.freeze(ctx, name)
		if err != nil {
			return err
		}
		if written == "" {
			fmt.Fprintln(os.Stdout, "nothing changed in sql/ since the last migration")
		} else {
			fmt.Fprintln(os.Stdout, "wrote", filepath.Join("migrations", written))
		}
	}
	changed, err := p.writeSchema(ctx)
	if err == nil && changed {
		fmt.Fprintln(os.Stdout, "wrote", filepath.Join("sql", schemaFile))
	}
	return err
}
