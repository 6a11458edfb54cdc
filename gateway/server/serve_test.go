package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"darkroom/gateway/server"
	"darkroom/migrations"
	"darkroom/sql/taskdbtest"
)

const patience = 20 * time.Second

// serve runs a gateway of its own on a free port until the test ends or stop is called; ended gives what Serve returned.
func (b *testBundle) serve(notice time.Duration) (address string, stop context.CancelFunc, ended chan error) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	gateway, err := server.Open(ctx, server.Config{
		DatabaseURL: b.pg.Login(b.t, "authenticator"), StorageURL: "file://" + b.t.TempDir(), ServiceKey: testKey, Log: slog.New(slog.DiscardHandler), DrainNotice: notice,
	})
	must(b.t, err)
	listener, err := server.Listen(ctx, "127.0.0.1:0")
	must(b.t, err)
	ended = make(chan error, 1)
	go func() { ended <- errors.Join(gateway.Serve(ctx, listener), gateway.Close()) }()
	b.t.Cleanup(cancel)
	return listener.Addr().String(), cancel, ended
}

func TestDrainFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := b.image()
	address, stop, ended := b.serve(time.Second)

	// A lock makes the request wait in the database until we let it go.
	tx, err := b.pg.Pool.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), "select from tasks where id = $1 for update", task)
	must(t, err)
	finished := make(chan answer, 1)
	go func() {
		finished <- do(t, http.MethodPost, "http://"+address+"/functions/v1/cancel_task", `{"task_id":"`+task+`"}`, "Apikey", testKey)
	}()
	await(t, "the request to wait for the lock", func() bool {
		var waiting bool
		must(t, b.pg.Pool.QueryRow(t.Context(), "select exists (select from pg_locks where not granted)").Scan(&waiting))
		return waiting
	})

	stop()
	await(t, "/readyz to say no", func() bool {
		return do(t, http.MethodGet, "http://"+address+"/readyz", "").status == http.StatusServiceUnavailable
	})
	await(t, "new connections to be refused", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-ended:
		t.Fatalf("ended with a request in flight: %v", err)
	default:
	}
	must(t, tx.Rollback(t.Context()))
	if got := <-finished; got.status != http.StatusOK || got.json(t)["status"] != "Cancelled" {
		t.Errorf("the request in flight: %d %s", got.status, got.body)
	}
	must(t, <-ended)
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestListenSaysWhatIsWrongWithAnAddress(t *testing.T) {
	t.Parallel()
	if _, err := server.Listen(t.Context(), "8484"); err == nil || !strings.Contains(err.Error(), "must look like") {
		t.Errorf("no address: %v", err)
	}
	for _, address := range []string{"127.0.0.1:0", "localhost:0", "0.0.0.0:0"} {
		listener, err := server.Listen(t.Context(), address)
		must(t, err)
		if _, err := server.Listen(t.Context(), listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "taken by another program") {
			t.Errorf("%s twice: %v", address, err)
		}
		listener.Close()
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.NewEmpty(t)
	good := server.Config{DatabaseURL: pg.URL, StorageURL: "file://" + t.TempDir(), ServiceKey: testKey}
	for want, change := range map[string]func(*server.Config){
		"DARKROOM_SERVICE_KEY needs": func(c *server.Config) { c.ServiceKey = "short" },
		"DATABASE_URL is not set":    func(c *server.Config) { c.DatabaseURL = "" },
		"cannot be read":             func(c *server.Config) { c.DatabaseURL = "http://x" },
		"does not answer":            func(c *server.Config) { c.DatabaseURL = "postgres://127.0.0.1:1/x" },
		"DARKROOM_STORAGE is not":    func(c *server.Config) { c.StorageURL = "" },
		"00001_tables.sql":           func(*server.Config) {},
	} {
		config := good
		change(&config)
		if _, err := server.Open(t.Context(), config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}

	// With Darkroom's migrations alone, River's are named.
	must(t, migrations.Up(t.Context(), pg.URL, migrations.FS))
	good.DatabaseURL = pg.Login(t, "authenticator")
	if _, err := server.Open(t.Context(), good); err == nil || !strings.Contains(err.Error(), "River") {
		t.Errorf("want River's migrations, got %v", err)
	}
	must(t, server.Migrate(t.Context(), pg.URL))
	bad := good
	bad.StorageURL = "file://relative/path"
	if _, err := server.Open(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "absolute/path") {
		t.Errorf("a relative folder: %v", err)
	}
	gateway, err := server.Open(t.Context(), good)
	must(t, err)
	must(t, gateway.Close())

	// A login that could pass by the rules.
	for login, want := range map[string]string{
		pg.URL:                      "because it is a superuser",
		pg.Login(t, "worker"):       "must be a member of the role authenticator",
		pg.Login(t, "service_role"): "must be a member of the role authenticator",
		pg.Login(t, "pg_monitor"):   "must be a member of the role authenticator",
	} {
		good.DatabaseURL = login
		if _, err := server.Open(t.Context(), good); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestSeveralMayMigrateAtOnce(t *testing.T) {
	t.Parallel()
	pg := taskdbtest.NewEmpty(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := server.Migrate(t.Context(), pg.URL); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if pending, err := server.Pending(t.Context(), pg.Pool); err != nil || len(pending) > 0 {
		t.Errorf("pending: %v, %v", pending, err)
	}
}

func TestReadinessFollowsMigrationsAndStorage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ready := func() answer { return do(t, http.MethodGet, b.web.URL+"/readyz", "") }
	if got := ready(); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	_, err := b.pg.Pool.Exec(t.Context(), "delete from goose_db_version where version_id = (select max(version_id) from goose_db_version)")
	must(t, err)
	b.wantError(ready(), http.StatusServiceUnavailable, "GW011")
	if got := do(t, http.MethodGet, b.web.URL+"/healthz", ""); got.status != http.StatusOK {
		t.Errorf("/healthz: %d", got.status)
	}
}

func TestClientsThatSendNothingAreCutOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	address, _, _ := b.serve(0)
	conn, err := net.Dial("tcp", address)
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(patience)))
	began := time.Now()
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("still open after %s: %v", time.Since(began), err)
	}

	// So is one whose headers never end.
	conn, err = net.Dial("tcp", address)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("a", 100<<10))
	if err == nil {
		var reply []byte
		if reply, err = io.ReadAll(conn); err == nil && !strings.HasPrefix(string(reply), "HTTP/1.1 431") {
			t.Errorf("reply: %.80s", reply)
		}
	}
}
