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
	"slices"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/storage"
	"darkroom/workerd/engine/native"
	"darkroom/workerd/lineup"
	"darkroom/workerd/media"
	"darkroom/workerd/openaiserver"
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
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the program: it returns its exit code, 0, 1 for a failure that stderr tells in one sentence, or 2 for a wrong command line.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var command engineCommand
	if len(args) > 0 && args[0] == "engine" {
		if len(args) > 1 {
			command = engineCommands[args[1]]
		}
		if command == nil {
			fmt.Fprintln(stderr, "workerd: write `workerd engine check` or `workerd engine install`")
			return 2
		}
		args = args[2:]
	}
	s, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil && command == nil {
		err = s.check()
	}
	if err != nil {
		fmt.Fprintf(stderr, "workerd: %v\n", err)
		return 2
	}
	if command != nil {
		err = command(ctx, s, stdout, stderr)
	} else {
		err = work(ctx, s, stdin, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "workerd: %v\n", err)
		return 1
	}
	return 0
}

func work(ctx context.Context, s *settings, stdin io.Reader, stderr io.Writer) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s.exitOnEOF {
		go func() {
			_, _ = io.Copy(io.Discard, stdin) // returns when our parent has gone
			cancel(worker.ErrNow)
		}()
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil)).With("worker_id", s.workerID)
	slog.SetDefault(log) // for engines
	tools, err := media.Find(ctx, stderr)
	if err != nil {
		return err
	}
	engines, err := lineup.Open(ctx, s.engines, max(1, s.worker.Slots), tools)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engines.Close()) }()
	if s.worker.Slots == 0 {
		s.worker.Slots = engines.Slots()
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

	s.worker.Pool, s.worker.Bucket, s.worker.Log, s.worker.Thumbnail = pool, bucket, log, tools.Thumbnail
	s.worker.Engines, s.worker.Inputs, s.worker.Capabilities = engines.Engines, engines.Inputs, engines.Capabilities
	w := worker.New(s.worker)
	if s.healthListen != "" {
		stop, err := serveHealth(ctx, s.healthListen, w)
		if err != nil {
			return err
		}
		defer stop()
	}
	if s.serveListen == "" {
		return w.Run(ctx)
	}
	server, err := newServer(s, engines, w)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		err := server.Serve(ctx)
		if err != nil {
			cancel(err)
		}
		ended <- err
	}()
	err = w.Run(ctx)
	cancel(nil)
	return errors.Join(err, <-ended)
}

// newServer offers the first engine that makes pictures, else the first that makes videos.
func newServer(s *settings, engines *lineup.Lineup, w *worker.Worker) (*openaiserver.Server, error) {
	for _, taskType := range []string{native.SingleImage, media.TravelSegment} {
		for _, e := range engines.Engines {
			if slices.Contains(e.Info().TaskTypes, taskType) && e.TaskTypes == nil {
				return openaiserver.New(openaiserver.Config{
					Listen: s.serveListen, Key: s.serveKey, Engine: e.Engine, Run: w.Do, Folder: s.worker.TempDir, Log: s.worker.Log,
				})
			}
		}
	}
	return nil, errors.New("no engine makes pictures or videos that could be served: name one in the engines file, or leave -serve-listen out")
}
