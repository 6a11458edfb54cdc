package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// envHelper makes the test binary a program that starts a server, tells about it and waits to be killed: in the folder
// after "dir:", or a temporary one.
const envHelper = "DARKROOM_LOCALPG_HELPER"

// helperReport is what that program prints.
type helperReport struct {
	pid     int
	sockets string
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(envHelper); dir != "" {
		if err := helper(strings.TrimPrefix(dir, "dir:")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func helper(dir string) error {
	server, err := Start(context.Background(), Config{Dir: dir})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(os.Stdout, "%d %q\n", server.PID(), server.sockets); err != nil {
		return fmt.Errorf("helper: %w", err)
	}
	<-server.Done()
	return errors.New("helper: the server ended by itself")
}

// startHelper starts that program in a process group of its own.
func startHelper(t *testing.T, dir string) (*exec.Cmd, helperReport) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envHelper+"=dir:"+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var report helperReport
	if _, err := fmt.Fscanf(out, "%d %q\n", &report.pid, &report.sockets); err != nil {
		t.Fatalf("the helper did not report: %v", err)
	}
	return cmd, report
}

// dataDir returns a new folder for a kept cluster that an unprivileged server can reach: t.TempDir is closed to other users.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "localpg test ") //nolint:usetesting // as the comment says; with blanks in its name
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "kept cluster "+strings.Repeat("long ", 20)+"name") // a socket's path could not be that long
}

func start(t *testing.T, config Config) *Server {
	t.Helper()
	server, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, server) })
	return server
}

func stop(t *testing.T, server *Server) {
	t.Helper()
	if err := server.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func query(t *testing.T, server *Server, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	answer := ""
	for rows.Next() {
		answer = string(rows.RawValues()[0])
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

// await waits until the condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func gone(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has more than one line", err)
	}
}

func TestTemporaryClusterIsUsableAndDeletedAtStop(t *testing.T) {
	t.Parallel()
	began := time.Now()
	server := start(t, Config{Database: "darkroom", Settings: map[string]string{"max_connections": "33"}})
	t.Logf("empty to usable: %v, PostgreSQL %s", time.Since(began), server.Version())
	for sql, want := range map[string]string{
		"select current_database()":            "darkroom",
		"show max_connections":                 "33",
		"show fsync":                           "off",
		"show listen_addresses":                "",
		"select split_part(version(), ' ', 2)": server.Version(),
	} {
		if got := query(t, server, sql); got != want {
			t.Errorf("%s: got %q, want %q", sql, got, want)
		}
	}
	stop(t, server)
	if !gone(server.sockets) {
		t.Errorf("%s was left", server.sockets)
	}
	select {
	case <-server.Done():
	default:
		t.Error("Done is open after Stop")
	}
}

func TestDurableTemporaryClusterLiesOnDisk(t *testing.T) {
	t.Parallel()
	server := start(t, Config{Durable: true})
	if got := query(t, server, "show fsync"); got != "on" {
		t.Errorf("fsync is %s", got)
	}
	if strings.HasPrefix(server.data, ramDisk) {
		t.Errorf("the cluster lies in the RAM disk: %s", server.data)
	}
	stop(t, server)
	if !gone(server.data) {
		t.Errorf("%s was left", server.data)
	}
}

func TestKeptClusterKeepsItsDataInAFolderWithBlanks(t *testing.T) {
	t.Parallel()
	config := Config{Dir: dataDir(t), Listen: "127.0.0.1:0", Database: "darkroom"}
	began := time.Now()
	first := start(t, config)
	t.Logf("empty folder to usable: %v", time.Since(began))
	query(t, first, "create table kept as select 42 as answer")
	if got := query(t, first, "show fsync"); got != "on" {
		t.Errorf("fsync is %s", got)
	}
	stop(t, first)

	began = time.Now()
	second := start(t, config)
	t.Logf("kept folder to usable: %v", time.Since(began))
	if got := query(t, second, "select answer from kept"); got != "42" {
		t.Errorf("after a restart: got %q, want 42", got)
	}
}

func TestKeptClusterAsksForItsPassword(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, Config{Dir: dir, Listen: "127.0.0.1:0"})
	info, err := os.Stat(filepath.Join(dir, passwordName))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the password's file has mode %v, want 0600", info.Mode().Perm())
	}
	address, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	if address.Hostname() != "127.0.0.1" {
		t.Errorf("URL names host %s", address.Hostname())
	}
	bySocket := *address
	bySocket.Host = ""
	bySocket.RawQuery = url.Values{"host": {server.sockets}, "port": {address.Port()}}.Encode()
	for _, right := range []url.URL{*address, bySocket} {
		conn, err := pgx.Connect(t.Context(), right.String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close(t.Context())
		wrong := right
		wrong.User = url.UserPassword("postgres", "guess")
		if conn, err := pgx.Connect(t.Context(), wrong.String()); err == nil {
			conn.Close(t.Context())
			t.Errorf("a wrong password is accepted by %s", right.Redacted())
		}
	}
}

func TestLostPasswordIsOneSentence(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	stop(t, start(t, Config{Dir: dir}))
	if err := os.Remove(filepath.Join(dir, passwordName)); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{Dir: dir})
	wantError(t, err, "password of the database is lost", filepath.Join(dir, passwordName))
}

func TestTwoProgramsCannotUseOneFolder(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, Config{Dir: dir})
	_, err := Start(t.Context(), Config{Dir: dir})
	wantError(t, err, "in use by another program (process "+strconv.Itoa(os.Getpid())+")", "use another folder")
	if got := query(t, server, "select 1"); got != "1" {
		t.Error("the first server was harmed")
	}
}

func TestTakenPortIsOneSentence(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, err = Start(t.Context(), Config{Dir: dataDir(t), Listen: listener.Addr().String()})
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	wantError(t, err, "port "+port+" is taken by another program", "choose another port")
}

func TestTemporaryFolderWithALongNameIsPassedBy(t *testing.T) {
	long := filepath.Join(filepath.Dir(dataDir(t)), strings.Repeat("long", 25))
	if err := os.Mkdir(long, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	server := start(t, Config{Durable: true})
	if got := query(t, server, "select 1"); got != "1" {
		t.Errorf("got %q", got)
	}
}

func TestOnlyLoopbackIsListenedOn(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"0.0.0.0:5484", "192.0.2.1:5484", ":5484", "127.0.0.1", "127.0.0.1:70000"} {
		if _, err := Start(t.Context(), Config{Listen: address}); err == nil {
			t.Errorf("%q is accepted", address)
		} else if !strings.Contains(err.Error(), "to listen on must") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestDataOfAnotherMajorVersionIsOneSentence(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	stop(t, start(t, Config{Dir: dir}))
	if err := os.WriteFile(filepath.Join(dir, dataName, "PG_VERSION"), []byte("12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{Dir: dir})
	wantError(t, err, "was made by PostgreSQL 12 and opens with no other major version", "move it away")
}

func TestWrongSettingIsReportedAsTheServerSaysIt(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Config{Settings: map[string]string{"no_such_setting": "1"}})
	wantError(t, err, "the server ended", `"no_such_setting"`)
}

func TestHalfMadeClusterIsRemoved(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	left := filepath.Join(dir, newPrefix+"killed")
	if err := os.MkdirAll(filepath.Join(left, "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Dir: dir})
	if !gone(left) {
		t.Errorf("%s was left", left)
	}
}

func TestKilledServerRecovers(t *testing.T) {
	t.Parallel()
	config := Config{Dir: dataDir(t)}
	first := start(t, config)
	query(t, first, "create table kept as select 42 as answer")
	if err := syscall.Kill(first.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-first.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("Done stays open after the server's death")
	}
	stop(t, first)
	second := start(t, config)
	if got := query(t, second, "select answer from kept"); got != "42" {
		t.Errorf("after recovery: got %q, want 42", got)
	}
}

func TestServerEndsWhenItsProgramIsKilled(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"temporary": "", "kept": dataDir(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program, report := startHelper(t, dir)
			if err := syscall.Kill(-program.Process.Pid, syscall.SIGKILL); err != nil { // the whole process group
				t.Fatal(err)
			}
			_ = program.Wait()
			await(t, "the server's end", func() bool { return errors.Is(syscall.Kill(report.pid, 0), syscall.ESRCH) })
			await(t, "the temporary folder's end", func() bool { return gone(report.sockets) })
		})
	}
}

func TestGuardAloneEndsTheServer(t *testing.T) {
	t.Parallel()
	program := exec.Command("sleep", "600")
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "a folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	guard, err := startGuard("INT", folder)
	if err != nil {
		t.Fatal(err)
	}
	guard.watch(program.Process.Pid)
	guard.pipe.Close() // as our death would
	var exit *exec.ExitError
	if err := program.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Errorf("the program ended with %v, want the signal INT", err)
	}
	if err := guard.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if !gone(folder) {
		t.Errorf("%s was left", folder)
	}
}

func TestGuardSparesAProcessThatItShouldForget(t *testing.T) {
	t.Parallel()
	program := exec.Command("sleep", "600")
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = program.Process.Kill()
		_ = program.Wait()
	}()
	guard, err := startGuard("KILL", filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	guard.watch(program.Process.Pid)
	guard.forget()
	guard.release()
	if err := syscall.Kill(program.Process.Pid, 0); err != nil {
		t.Errorf("the process was ended: %v", err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", program.Process.Pid))
	if err == nil && strings.Contains(string(status), ") Z ") {
		t.Error("the process was killed")
	}
}

func TestLeftoverServerIsEndedAndItsDataUsed(t *testing.T) {
	t.Parallel()
	config := Config{Dir: dataDir(t)}
	first := start(t, config)
	query(t, first, "create table kept as select 42 as answer")
	// As if our program had been killed and neither guard nor kernel had ended the server.
	if err := first.owner.Close(); err != nil {
		t.Fatal(err)
	}
	second := start(t, config)
	select {
	case <-first.Done():
	default:
		t.Error("the leftover server still runs")
	}
	if got := query(t, second, "select answer from kept"); got != "42" {
		t.Errorf("got %q, want 42", got)
	}
}

func TestRootsHomeIsOneSentence(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as another user")
	}
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{Dir: filepath.Join(closed, "cluster")})
	wantError(t, err, "refuses to run as root", "can't enter", "use a folder that other users can reach")
}
