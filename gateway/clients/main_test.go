package clients_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"darkroom/gateway/server"
)

// envGateway makes the test program a gateway, with these settings as JSON. It ends when its standard input does.
const envGateway = "DARKROOM_CLIENTS_GATEWAY"

// gatewaySettings are what a gateway in a process of its own is told.
type gatewaySettings struct {
	Database, Storage, Listen string
}

func TestMain(m *testing.M) {
	if text := os.Getenv(envGateway); text != "" {
		if err := serveGateway(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveGateway is that process. It says "serving" on standard output, and drains when it is asked to stop by SIGTERM.
func serveGateway(text string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1) // whoever started it has ended
	}()
	var settings gatewaySettings
	if err := json.Unmarshal([]byte(text), &settings); err != nil {
		return fmt.Errorf("%s: %w", envGateway, err)
	}
	gateway, err := server.Open(ctx, server.Config{
		DatabaseURL: settings.Database, StorageURL: settings.Storage, ServiceKey: serviceKey, AnonKey: anonKey, JWTSecret: jwtSecret,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	listener, err := server.Listen(ctx, settings.Listen)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(os.Stdout, "serving"); err != nil {
		return err
	}
	if err := gateway.Serve(ctx, listener); err != nil {
		return err
	}
	return gateway.Close()
}
