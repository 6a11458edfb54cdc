package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/sql/taskdb"
	"darkroom/workerd/worker"
)

// checkEvery is how often an engine that is down is asked how it is.
const checkEvery = 5 * time.Second

// previewEvery is the least time between two previews of a task: each is a file and a change of its row.
const previewEvery = 2 * time.Second

// sparePoolConns is what a worker needs besides a connection per slot: listening, claiming, heartbeat, upkeep, River's jobs.
const sparePoolConns = 8

// settings are what flags and variables say.
type settings struct {
	database, storage, engines, healthListen, serveListen, serveKey, workerID string

	exitOnEOF bool
	worker    worker.Config // the plain values of it
}

// setting is one row of the table that -h prints. A flag goes before its variable, and that before the default.
type setting struct {
	flag, variable, standard, meaning string
	set                               func(string) error
}

func (s *settings) table() []setting {
	text := func(target *string) func(string) error {
		return func(value string) error {
			*target = value
			return nil
		}
	}
	duration := func(target *time.Duration, least time.Duration) func(string) error {
		return func(value string) (err error) {
			if *target, err = time.ParseDuration(value); err != nil || *target < least {
				return fmt.Errorf("must be a duration of at least %s, such as 30s", least)
			}
			return nil
		}
	}
	w := &s.worker
	return []setting{
		{"database", "DATABASE_URL", "", "PostgreSQL, as postgres://user:password@host:5432/darkroom", text(&s.database)},
		{"storage", "DARKROOM_STORAGE", "", "where files lie, as file:///var/lib/darkroom/media or s3://bucket?region=eu-central-1; the gateway's", text(&s.storage)},
		{"public-url", "DARKROOM_PUBLIC_URL", "", "how browsers reach the gateway, as https://media.example.com", text(&w.PublicURL)},
		{"worker-id", "DARKROOM_WORKER_ID", "", "a name that no other running worker has; the host's name and a random end when empty", text(&s.workerID)},
		{"engines", "DARKROOM_ENGINES", "", "file that says which engines do the work; the built-in ones when empty", text(&s.engines)},
		{"slots", "DARKROOM_SLOTS", "", "tasks at the same time; as many as the engines have slots when empty", func(value string) (err error) {
			if value == "" {
				return nil
			}
			if w.Slots, err = strconv.Atoi(value); err != nil || w.Slots < 1 || w.Slots > 1000 {
				return errors.New("must be a number from 1 to 1000")
			}
			return nil
		}},
		{"lease", "DARKROOM_LEASE", "90s", "how long the worker may be silent before its tasks are given to others", func(value string) (err error) {
			if w.Lease, err = time.ParseDuration(value); err != nil || w.Lease < time.Second || w.Lease > 24*time.Hour {
				return errors.New("must be a duration from 1s to 24h")
			}
			return nil
		}},
		{"poll", "DARKROOM_POLL", "2s", "how often to look for tasks when nobody calls", duration(&w.Poll, 10*time.Millisecond)},
		{"drain", "DARKROOM_DRAIN", "30s", "how long a stop waits for running tasks", duration(&w.Drain, 0)},
		{"task-timeout", "DARKROOM_TASK_TIMEOUT", "1h", "the longest that the work on one task may take", duration(&w.TaskTimeout, time.Second)},
		{"requeue-every", "DARKROOM_REQUEUE_EVERY", "10s", "how often to look for silent workers; the same for all workers", duration(&w.Upkeep.Requeue, time.Second)},
		{"sweep-every", "DARKROOM_SWEEP_EVERY", "1m", "how often to repair; the same for all workers", duration(&w.Upkeep.Sweep, time.Second)},
		{"temp", "DARKROOM_TEMP", os.TempDir(), "folder for the files of running tasks", text(&w.TempDir)},
		{"health-listen", "DARKROOM_HEALTH_LISTEN", "", "loopback address for GET /healthz, as 127.0.0.1:8485; none when empty", text(&s.healthListen)},
		{"serve-listen", "DARKROOM_SERVE_LISTEN", "", "address for OpenAI's API of images and videos, as 127.0.0.1:8790; none when empty", text(&s.serveListen)},
		{"serve-key", "DARKROOM_SERVE_KEY", "", "key that callers of that API must send; needed where others than this machine can reach it", text(&s.serveKey)},
		{"exit-on-stdin-eof", "DARKROOM_EXIT_ON_STDIN_EOF", "false", "give back running tasks and end when standard input ends", func(value string) (err error) {
			if s.exitOnEOF, err = strconv.ParseBool(value); err != nil {
				return errors.New("must be true or false")
			}
			return nil
		}},
	}
}

// parse reads the settings. It prints the table and returns [flag.ErrHelp] when help is asked for.
func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{worker: worker.Config{CheckEvery: checkEvery, PreviewEvery: previewEvery}}
	table := s.table()
	flags := flag.NewFlagSet("workerd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, row := range table {
		value, source := row.standard, "the default of "+row.flag
		if given := os.Getenv(row.variable); given != "" {
			value, source = given, row.variable
		}
		if err := row.set(value); err != nil {
			return nil, fmt.Errorf("%s is %q and %w", source, value, err)
		}
		if row.standard == "false" {
			flags.BoolFunc(row.flag, row.meaning, row.set)
		} else {
			flags.Func(row.flag, row.meaning, row.set)
		}
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		printHelp(table, stderr)
		return nil, flag.ErrHelp
	case err != nil:
		return nil, fmt.Errorf("%w; `workerd -h` lists the settings", err)
	case flags.NArg() > 0:
		return nil, fmt.Errorf("there is no argument %q; `workerd -h` lists the settings", flags.Arg(0))
	}
	return s, nil
}

// check refuses what cannot work, and fills in the name of the worker.
func (s *settings) check() error {
	for _, row := range s.table() {
		missing := map[string]bool{"database": s.database == "", "storage": s.storage == "", "public-url": s.worker.PublicURL == ""}
		if missing[row.flag] {
			return fmt.Errorf("set %s or -%s: %s", row.variable, row.flag, row.meaning)
		}
	}
	if u, err := url.Parse(s.worker.PublicURL); err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, u.Scheme) {
		return fmt.Errorf("the public URL %q must begin with http:// or https:// and a host", s.worker.PublicURL)
	}
	if s.workerID == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "worker"
		}
		end := make([]byte, 4)
		_, _ = rand.Read(end) // never fails
		s.workerID = host + "-" + hex.EncodeToString(end)
	}
	if len(s.workerID) > 200 {
		return errors.New("the worker id must have at most 200 characters")
	}
	s.worker.WorkerID = s.workerID
	return nil
}

// poolConfig is how to reach the database, with as many connections as a worker can use, unless the address sets pool_max_conns.
func (s *settings) poolConfig() (*pgxpool.Config, error) {
	address, err := taskdb.WithTLS(s.database)
	if err != nil {
		return nil, fmt.Errorf("the database URL cannot be read: %w", err)
	}
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("the database URL cannot be read: %w", err)
	}
	if !strings.Contains(s.database, "pool_max_conns") {
		config.MaxConns = int32(s.worker.Slots + sparePoolConns) //nolint:gosec // at most 1008
	}
	return config, nil
}

func printHelp(table []setting, out io.Writer) {
	fmt.Fprint(out, `workerd runs Darkroom's tasks on this machine.

  workerd                  works until it is stopped
  workerd engine check     asks the engines how they are, and ends with 0 when all are well
  workerd engine install   fetches ONNX Runtime, with which the engine native is faster

`)
	rows := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(rows, "FLAG\tVARIABLE\tDEFAULT\tMEANING")
	for _, row := range table {
		fmt.Fprintf(rows, "-%s\t%s\t%s\t%s\n", row.flag, row.variable, row.standard, row.meaning)
	}
	fmt.Fprintln(rows, "\tDARKROOM_FFMPEG\t\tfolder with ffmpeg and ffprobe, when they are to be found nowhere else")
	rows.Flush()
}
