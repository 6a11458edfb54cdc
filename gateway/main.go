// Command gateway is Darkroom's HTTP door. See README.md.
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
	"strings"
	"syscall"

	"darkroom/gateway/dev"
	"darkroom/gateway/identity"
	"darkroom/gateway/server"
	"darkroom/migrations"
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
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: it returns its exit code, 0, 1 for a failure that stderr tells in one sentence, or 2 for a wrong command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	command := "serve"
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	commands := map[string]func(context.Context, *settings, io.Writer) error{
		"serve":   serve,
		"migrate": migrate,
		"keys": func(_ context.Context, s *settings, _ io.Writer) error {
			return printKeys(s, stdout)
		},
		"dev": func(ctx context.Context, s *settings, _ io.Writer) error {
			return dev.Run(ctx, dev.Config{Home: s.home, Listen: s.listen, DatabaseURL: s.gateway.DatabaseURL, Out: stdout})
		},
	}
	do, known := commands[command]
	if !known {
		fmt.Fprintf(stderr, "gateway: there is no command %q; the commands are serve, migrate, keys and dev\n", command)
		return 2
	}
	s, err := parse(command, args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "gateway: %v\n", err)
		return 2
	}
	if err := do(ctx, s, stderr); err != nil && ctx.Err() == nil {
		fmt.Fprintf(stderr, "gateway: %s\n", strings.NewReplacer("\n\t", " ", "\n", " ").Replace(err.Error())) // some causes have several lines
		return 1
	}
	return 0
}

// migrate brings the database to the present state, and makes the logins whose passwords are given.
func migrate(ctx context.Context, s *settings, _ io.Writer) error {
	if err := server.Migrate(ctx, s.gateway.DatabaseURL); err != nil {
		return err
	}
	if s.gatewayPassword != "" {
		if err := migrations.GatewayLogin.Set(ctx, s.gateway.DatabaseURL, s.gatewayPassword); err != nil {
			return err
		}
	}
	if s.workerdPassword != "" {
		return migrations.WorkerdLogin.Set(ctx, s.gateway.DatabaseURL, s.workerdPassword)
	}
	return nil
}

// serve runs the gateway until ctx ends.
func serve(ctx context.Context, s *settings, stderr io.Writer) (err error) {
	if err := s.checkSecrets(); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil))
	config := s.gateway
	config.Log = log
	gateway, err := server.Open(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, gateway.Close()) }()
	listener, err := server.Listen(ctx, s.listen)
	if err != nil {
		return err
	}
	log.Info("serving", "address", listener.Addr().String())
	if err := gateway.Serve(ctx, listener); err != nil {
		log.Error("not stopped cleanly", "error", err)
	}
	log.Info("stopped")
	return nil
}

// printKeys prints the JWTs that stand for a role: what supabase-js calls the anon key and the service role key.
func printKeys(s *settings, out io.Writer) error {
	keys := identity.Settings{JWTSecret: s.gateway.JWTSecret, Issuer: s.gateway.JWTIssuer, Audience: s.gateway.JWTAudience}
	if _, err := identity.NewVerifier(nil, keys); err != nil {
		return err
	}
	signer, err := identity.NewSigner(keys)
	if err != nil {
		return err
	}
	for _, role := range []identity.Role{identity.Anon, identity.Service} {
		key, err := signer.Key(role)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s %s\n", role, key)
	}
	return nil
}
