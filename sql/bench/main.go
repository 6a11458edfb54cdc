// Command bench measures the task path on this machine beside other queues, and all of them beside a limit measured in the same run: two bare one-row
// UPDATE commits, the least that any system writes for a claim and a completion.
//
//	go run ./sql/bench                        everything, in less than half an hour
//	go run ./sql/bench -only one,pinned       some scenarios; -list names them
//	go run ./sql/bench -out bin/bench         besides writes results.md and plots there
//	go run ./sql/bench -scale 0.01            with fewer rows, to try it out
//
// It starts a PostgreSQL of its own with fsync on, in a temporary folder on disk. README.md says what is measured and how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/migrations"
	"darkroom/sql/localpg"
	"darkroom/workerd/riverpilot"
)

// options are what the flags say.
type options struct {
	only, peers []string
	out         string
	round       time.Duration
	rounds      int
	scale       float64
	durable     bool
}

// rows is a number of rows at this scale.
func (o options) rows(n int) int { return max(int(float64(n)*o.scale), min(n, 20)) }

func main() {
	only := flag.String("only", "", "measure only these scenarios, such as one,pinned")
	peers := flag.String("peers", strings.Join(peerNames, ","), "which others to measure beside; \"\" leaves all out")
	seconds := flag.Float64("seconds", 1.5, "length of one round, in seconds")
	o := options{durable: true}
	flag.StringVar(&o.out, "out", "", "folder for results.md and the plots")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of each contender")
	flag.Float64Var(&o.scale, "scale", 1, "share of the rows that scenarios with many rows use")
	list := flag.Bool("list", false, "list the scenarios and end")
	flag.Parse()
	if *list {
		for _, s := range scenarios {
			fmt.Printf("%-10s %s\n", s.name, s.about)
		}
		return
	}
	o.round = time.Duration(*seconds * float64(time.Second))
	o.only, o.peers = names(*only), names(*peers)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func names(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// env is what scenarios share.
type env struct {
	opts       options
	server     *localpg.Server
	admin      *pgxpool.Pool // of the database postgres, where the counters are read
	statements bool          // there is pg_stat_statements
	walInspect bool          // there is pg_walinspect
	node       *node         // nil: there is no npm
	report     *report
	databases  int
}

const template = "darkroom_template"

func run(ctx context.Context, o options) error {
	for _, name := range o.only {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			return fmt.Errorf("there is no scenario %q; -list names them", name)
		}
	}
	e := &env{opts: o, report: newReport()}
	if err := e.start(ctx); err != nil {
		return err
	}
	defer e.stop(context.WithoutCancel(ctx))
	e.report.machine = e.machine(ctx)
	for _, line := range e.report.machine {
		fmt.Println(line)
	}
	var failed error
	for _, s := range scenarios {
		if len(o.only) > 0 && !slices.Contains(o.only, s.name) || len(o.only) == 0 && s.asked {
			continue
		}
		if _, err := e.admin.Exec(ctx, "checkpoint"); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		began := time.Now()
		fmt.Printf("\n== %s: %s\n", s.name, s.about)
		if err := s.measure(ctx, e); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
			fmt.Println("  failed:", err)
			if ctx.Err() != nil {
				return failed
			}
		}
		e.report.took(s.name, time.Since(began))
	}
	return errors.Join(failed, e.report.finish(o.out))
}

func (e *env) start(ctx context.Context) error {
	settings := map[string]string{
		"shared_buffers": "2GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "max_connections": "200", "autovacuum_naptime": "10s",
		"maintenance_work_mem": "512MB", "shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track_utility": "off",
	}
	config := localpg.Config{Durable: e.opts.durable, Log: os.Stderr, Settings: settings}
	var err error
	if e.server, err = localpg.Start(ctx, config); err != nil && strings.Contains(err.Error(), "pg_stat_statements") {
		fmt.Fprintln(os.Stderr, "bench: this PostgreSQL has no pg_stat_statements: buffers and statements are not counted")
		delete(settings, "shared_preload_libraries")
		delete(settings, "pg_stat_statements.track_utility")
		e.server, err = localpg.Start(ctx, config)
	}
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	err = e.prepare(ctx)
	if err != nil {
		e.stop(context.WithoutCancel(ctx))
	}
	return err
}

func (e *env) prepare(ctx context.Context) error {
	var err error
	if e.admin, err = openPool(ctx, e.server.URL(), 4); err != nil {
		return err
	}
	_, err = e.admin.Exec(ctx, "create extension pg_stat_statements")
	e.statements = err == nil
	_, err = e.admin.Exec(ctx, "create extension pg_walinspect")
	e.walInspect = err == nil
	if _, err := e.admin.Exec(ctx, "create database "+template); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	url := e.server.DatabaseURL(template)
	if err := migrations.Up(ctx, url, migrations.FS); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	pool, err := openPool(ctx, url, 2)
	if err != nil {
		return err
	}
	err = riverpilot.Migrate(ctx, pool)
	pool.Close()
	if err != nil {
		return err
	}
	e.node, err = installNode(ctx, e.opts.peers)
	if errors.Is(err, errNoNode) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		e.report.notes = append(e.report.notes, err.Error())
		return nil
	}
	return err
}

func (e *env) stop(ctx context.Context) {
	if e.node != nil {
		e.node.remove()
	}
	if e.admin != nil {
		e.admin.Close()
	}
	_ = e.server.Stop(ctx)
}

// newDatabase makes a database, as a copy of another unless that is "", and returns its name and address.
func (e *env) newDatabase(ctx context.Context, name, like string) (database, url string, err error) {
	e.databases++
	database = fmt.Sprintf("bench_%d_%s", e.databases, strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, name))
	create := "create database " + database
	if like != "" {
		create += " template " + like
	}
	if _, err := e.admin.Exec(ctx, create); err != nil {
		return "", "", fmt.Errorf("create database: %w", err)
	}
	return database, e.server.DatabaseURL(database), nil
}

// finish checks the contenders of a scenario, and removes their databases.
func (e *env) finish(ctx context.Context, contenders ...*contender) error {
	for _, c := range contenders {
		if err := c.verify(ctx); err != nil {
			return err
		}
	}
	for _, c := range contenders {
		c.close()
		if _, err := e.admin.Exec(ctx, "drop database "+c.database+" with (force)"); err != nil {
			return fmt.Errorf("drop database: %w", err)
		}
	}
	return nil
}
