// Package dev is `make run`: PostgreSQL, the gateway and two workers on this machine, with sample data, until Ctrl-C.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"darkroom/gateway/server"
	"darkroom/migrations"
	"darkroom/sql/localpg"
	"darkroom/sql/taskdb"
	"darkroom/workerd/media"
)

const (
	databaseName = "darkroom"
	stopTimeout  = 10 * time.Second // of PostgreSQL
	maxLogBytes  = 16 << 20         // at which a start begins a log anew
)

// Config says where to run.
type Config struct {
	Home        string    // folder that keeps everything; made when missing
	Listen      string    // loopback address of the gateway
	DatabaseURL string    // a database to use instead of a PostgreSQL of our own, as its owner, who may make roles
	Out         io.Writer // told what a person wants to know
}

// runner is one run.
type runner struct {
	Config

	began     time.Time
	state     *state
	publicURL string
	storage   string // URL
	gateway   *server.Server
	db        *taskdb.DB
}

// Run starts everything and returns after ctx has ended and everything has been stopped, or when something could not be started or
// ended by itself. Its errors are single sentences that say what to do. Killing this process ends all that it started, too.
func Run(ctx context.Context, config Config) (err error) {
	r := &runner{Config: config, began: time.Now()}
	// Its keys and its database are those of a sample.
	if host, _, err := net.SplitHostPort(r.Listen); err == nil && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("gateway dev listens on this machine only (127.0.0.1, ::1 or localhost), not on %q: `gateway serve` is for others", r.Listen)
	}
	listener, err := server.Listen(ctx, r.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	r.publicURL = "http://" + listener.Addr().String()
	if err := r.openHome(); err != nil {
		return err
	}
	workerd, err := findWorkerd()
	if err != nil {
		return err
	}
	postgres, err := r.startPostgres(ctx)
	if err != nil {
		return err
	}
	if postgres != nil {
		defer func() {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			err = errors.Join(err, postgres.Stop(stop))
		}()
	}
	if err := r.openGateway(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.gateway.Close()) }()
	pool, err := taskdb.OpenPool(ctx, r.DatabaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	r.db = taskdb.New(pool)
	return r.serve(ctx, listener, postgres, workerd)
}

// serve runs the gateway and the workers. The workers stop first, since they need the database; the gateway drains meanwhile.
func (r *runner) serve(ctx context.Context, listener net.Listener, postgres *localpg.Server, workerd string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.gateway.Serve(ctx, listener) })
	if postgres != nil {
		group.Go(func() error {
			select {
			case <-ctx.Done():
				return nil
			case <-postgres.Done():
				return fmt.Errorf("PostgreSQL has ended by itself: its log is %s", filepath.Join(r.Home, "postgres", "server.log"))
			}
		})
	}
	group.Go(func() error {
		if err := r.seed(ctx); err != nil {
			return err
		}
		for _, id := range []string{"local-1", "local-2"} {
			w := r.newWorker(id, workerd)
			if err := w.start(); err != nil {
				return err
			}
			group.Go(func() error { return w.keep(ctx) })
		}
		if err := r.announce(); err != nil {
			return err
		}
		return r.follow(ctx)
	})
	err := group.Wait()
	if err != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err //nolint:wrapcheck // a whole sentence of our own
}

// startPostgres looks for the programs and starts PostgreSQL, unless a database was given.
func (r *runner) startPostgres(ctx context.Context) (postgres *localpg.Server, err error) {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := media.Find(groupCtx, r.Out)
		return err
	})
	if r.DatabaseURL == "" || r.state.isOwn(r.DatabaseURL) {
		group.Go(func() (err error) {
			postgres, err = localpg.Start(groupCtx, localpg.Config{
				Dir: filepath.Join(r.Home, "postgres"), Listen: r.state.postgresAddress(ctx), Database: databaseName, Log: r.Out,
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		if postgres != nil {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			err = errors.Join(err, postgres.Stop(stop))
		}
		return nil, err
	}
	if postgres != nil {
		r.DatabaseURL = postgres.URL()
		r.state.PostgresURL = r.DatabaseURL
	}
	return postgres, nil
}

// openGateway migrates the database, makes the logins of the programs, and opens the gateway over it.
func (r *runner) openGateway(ctx context.Context) error {
	if err := server.Migrate(ctx, r.DatabaseURL); err != nil {
		return err
	}
	if err := migrations.GatewayLogin.Set(ctx, r.DatabaseURL, r.state.GatewayPassword); err != nil {
		return err
	}
	if err := migrations.WorkerdLogin.Set(ctx, r.DatabaseURL, r.state.WorkerdPassword); err != nil {
		return err
	}
	log, err := openLog(filepath.Join(r.Home, logFolder, "gateway.log"))
	if err != nil {
		return err
	}
	r.gateway, err = server.Open(ctx, server.Config{
		DatabaseURL: migrations.GatewayLogin.URL(r.DatabaseURL, r.state.GatewayPassword), StorageURL: r.storage,
		ServiceKey: r.state.ServiceKey, AnonKey: r.state.AnonKey, JWTSecret: r.state.JWTSecret, SignUp: true, PublicURL: r.publicURL,
		Log:   slog.New(slog.NewTextHandler(log, nil)),
		Guard: server.Guard{Origins: []string{"localhost"}}, // the app that is being made runs on a port of its own
	})
	return err
}

// findWorkerd returns the program workerd, which is built beside this one.
func findWorkerd() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("looking for workerd: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), "workerd")
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("the program workerd is not in %s beside gateway: build both with `make build`", filepath.Dir(self))
	}
	return path, nil
}

// openLog opens a log to write on; one that has grown large begins anew.
func openLog(path string) (*os.File, error) {
	flags := os.O_CREATE | os.O_APPEND | os.O_WRONLY
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogBytes {
		flags |= os.O_TRUNC
	}
	file, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening a log: %w", err)
	}
	return file, nil
}
