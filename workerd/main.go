// Command workerd runs Darkroom's tasks on this machine. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine"
	"darkroom/workerd/media"
	"darkroom/workerd/worker"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals // a second one ends the program at once
		signal.Reset()
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stderr))
}

// run is the program: it returns its exit code, 0, 1 for a failure that stderr tells in one sentence, or 2 for a wrong command line.
func run(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) int {
	s, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "workerd: %v\n", err)
		return 2
	}
	if err := work(ctx, s, stdin, stderr); err != nil {
		fmt.Fprintf(stderr, "workerd: %v\n", err)
		return 1
	}
	return 0
}

func work(ctx context.Context, s *settings, stdin io.Reader, stderr io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s.exitOnEOF {
		go func() {
			_, _ = io.Copy(io.Discard, stdin) // returns when our parent has gone
			cancel(worker.ErrNow)
		}()
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil)).With("worker_id", s.workerID)
	tools, err := media.Find(ctx, stderr)
	if err != nil {
		return err
	}
	config, err := s.poolConfig()
	if err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	defer pool.Close()
	if err := pool.Ping(ctx); err != nil {
		return fmt.Errorf("the database does not answer: %w", err)
	}
	bucket, err := storage.Open(ctx, s.storage)
	if err != nil {
		return err
	}
	defer bucket.Close()

	s.worker.Pool, s.worker.Bucket, s.worker.Log = pool, bucket, log
	s.worker.Engines = []engine.Engine{media.NewEngine(tools, s.worker.Slots)}
	w := worker.New(s.worker)
	if s.healthListen != "" {
		stop, err := serveHealth(ctx, s.healthListen, w)
		if err != nil {
			return err
		}
		defer stop()
	}
	return w.Run(ctx)
}
