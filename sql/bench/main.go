// Command bench measures the task path on this machine, always beside a limit measured in the same run: two bare one-row UPDATE
// commits, the least that any system writes for a claim and a completion.
//
//	go run ./sql/bench                     everything, a few minutes
//	go run ./sql/bench -only throughput    one part: throughput, buffers
//
// It starts a PostgreSQL of its own with fsync on, in a temporary folder on disk. Read the ratios; the absolute figures are this
// machine's, at this moment.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"darkroom/migrations"
	"darkroom/sql/localpg"
)

func main() {
	seconds := flag.Float64("seconds", 4, "length of one round of throughput, in seconds")
	only := flag.String("only", "", "measure only this part: throughput or buffers")
	flag.Parse()
	if err := run(*only, time.Duration(*seconds*float64(time.Second))); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(only string, round time.Duration) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	server, err := localpg.Start(ctx, localpg.Config{
		Durable: true, Log: os.Stderr,
		Settings: map[string]string{"shared_buffers": "1GB", "max_wal_size": "8GB", "max_connections": "100", "autovacuum_naptime": "10s"},
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer func() { _ = server.Stop(context.WithoutCancel(ctx)) }()

	parts := []struct {
		name    string
		measure func(ctx context.Context, b *bench) error
	}{
		{"throughput", func(ctx context.Context, b *bench) error { return throughput(ctx, b, round) }},
		{"buffers", buffers},
	}
	fmt.Printf("PostgreSQL %s, fsync on\n", server.Version())
	for _, part := range parts {
		if only != "" && only != part.name {
			continue
		}
		b, err := newBench(ctx, server, "bench_"+part.name)
		if err != nil {
			return err
		}
		err = part.measure(ctx, b)
		b.pool.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// newBench makes a database of its own for a part, migrated.
func newBench(ctx context.Context, server *localpg.Server, name string) (*bench, error) {
	if err := createDatabase(ctx, server.URL(), name); err != nil {
		return nil, err
	}
	url := server.DatabaseURL(name)
	if err := migrations.Up(ctx, url, migrations.FS); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	return openBench(ctx, url)
}
