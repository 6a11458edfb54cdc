package realtime_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"darkroom/gateway/realtime"
	"darkroom/gateway/server"
)

// envGateway makes the test program a gateway with these settings, in JSON, which tells its address and serves until it is killed.
const envGateway = "DARKROOM_TEST_GATEWAY"

func TestMain(m *testing.M) {
	if settings := os.Getenv(envGateway); settings != "" {
		serve(settings)
		return
	}
	os.Exit(m.Run())
}

func serve(settings string) {
	config := server.Config{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	for variable, field := range map[string]*string{"database": &config.DatabaseURL, "storage": &config.StorageURL} {
		var said map[string]string
		if err := json.Unmarshal([]byte(settings), &said); err != nil {
			panic(err)
		}
		*field = said[variable]
	}
	config.ServiceKey, config.AnonKey, config.JWTSecret = serviceKey, anonKey, jwtSecret
	config.Connections = realtime.Limits{StreamsOfUser: 1} // as many sockets as come
	gateway, err := server.Open(context.Background(), config)
	if err != nil {
		panic(err)
	}
	listener, err := server.Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("http://" + listener.Addr().String()) //nolint:forbidigo // the parent reads it
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := errors.Join(gateway.Serve(ctx, listener), gateway.Close()); err != nil {
		panic(err)
	}
}

// process is a gateway in a process of its own.
type process struct {
	web  *httptest.Server // its address, and nothing else
	kill func()
	term func() error // and waits for its end
	pid  int
}

func (w *world) process() process {
	w.t.Helper()
	program, err := os.Executable()
	must(w.t, err)
	settings, err := json.Marshal(map[string]string{"database": w.login, "storage": "file://" + w.t.TempDir()})
	must(w.t, err)
	cmd := exec.CommandContext(w.t.Context(), program)
	cmd.Env = append(os.Environ(), envGateway+"="+string(settings))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = w.log
	out, err := cmd.StdoutPipe()
	must(w.t, err)
	must(w.t, cmd.Start())
	kill := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	term := func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return cmd.Wait()
	}
	w.t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		w.t.Fatalf("the gateway does not start: %v\n%s", err, w.log)
	}
	return process{&httptest.Server{URL: strings.TrimSpace(line)}, kill, term, cmd.Process.Pid}
}

// writers begin to make generations of user a, in transactions that commit in any order, and return what waits for their end.
func (w *world) writers(events, connections int) (wait func()) {
	w.t.Helper()
	for i := range connections {
		conn := w.pg.Conn(w.t)
		w.written.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 7))
			for n := 0; n < events/connections; {
				tx, err := conn.Begin(w.t.Context())
				if err != nil {
					w.t.Error(err)
					return
				}
				for range 1 + random.IntN(4) {
					n++
					_, err = tx.Exec(w.t.Context(), "insert into generations (project_id, type, location) values ($1, 'image', $2)", w.a.project, fmt.Sprint(i, ".", n))
					if err != nil {
						w.t.Error(err)
					}
				}
				time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
				if err := tx.Commit(w.t.Context()); err != nil {
					w.t.Error(err)
				}
			}
		})
	}
	return w.written.Wait
}
