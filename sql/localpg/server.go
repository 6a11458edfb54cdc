package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Files in a kept folder.
const (
	dataName     = "data"           // the cluster
	newPrefix    = "data.new-"      // a cluster in the making
	passwordName = "password"       // of the superuser, readable by its owner only
	logName      = "server.log"     // what the server says
	ownerName    = "owner.lock"     // held by the program that started the server; holds its pid
	serverName   = "server.lock"    // held by the server's processes
	superuser    = "postgres"       // the database role that owns everything
	maxLogSize   = 16 << 20         // bytes of server.log at which a start begins a new one
	ramDisk      = "/dev/shm"       // where temporary clusters go when it is big enough
	minRAMDisk   = 1 << 30          // bytes free that it must have: a container's default of 64 MB would fill up
	maxSocketDir = 80               // bytes; a socket's whole path is limited to 103 on macOS, 107 on Linux
	endPatience  = 20 * time.Second // how long a server may take to end by itself before it is made to
)

// Config says which cluster to run. The zero value is a temporary one for tests.
type Config struct {
	// Dir is the folder in which the cluster is kept from run to run. Empty: a temporary cluster, deleted when it stops.
	Dir string
	// Durable makes a temporary cluster lie on disk and write as a kept one does (fsync on), for benchmarks. A kept cluster is always durable.
	Durable bool
	// Listen is a loopback address and port, such as "127.0.0.1:5484", on which the server accepts connections besides its Unix socket; port 0
	// chooses a free one. Empty: the socket only.
	Listen string
	// Database is made when it does not exist, and is the one [Server.URL] names. Empty: "postgres".
	Database string
	// Binaries is the installation to use. The zero value: what [Find] finds, of the version that made a kept cluster.
	Binaries Binaries
	// Settings go to the server as they are, such as {"max_connections": "300"}.
	Settings map[string]string
	// Log is told what takes time (fetching PostgreSQL, making the cluster), a line each. Nil: nobody.
	Log io.Writer
}

// Server is a running PostgreSQL server. Its methods may be called from several goroutines.
type Server struct {
	config   Config
	binaries Binaries
	user     *account
	data     string // folder of the cluster
	log      string // file
	sockets  string // folder of the Unix socket
	host     string // to listen on, or empty
	port     uint16
	password string   // empty: local connections are trusted
	owner    *os.File // lock of a kept folder
	guard    *guard
	cmd      *exec.Cmd
	logStart int64 // size of the log when this server started
	done     chan struct{}
	released sync.Once
}

// Start starts a server and returns when it accepts connections: after about 0.1 s with a kept cluster, 1 s with an empty folder. ctx limits the start, not
// the server's life. A server that was left over from a killed program is ended first; one that was killed itself recovers.
//
// Errors, each one sentence: no PostgreSQL found (see [Find]), the folder is in use or made by another major version or can't be reached by the server's
// user, the port is taken, or what the server itself said.
func Start(ctx context.Context, config Config) (*Server, error) {
	if config.Log == nil {
		config.Log = io.Discard
	}
	server := &Server{config: config, port: 5432, done: make(chan struct{})}
	if err := server.start(ctx); err != nil {
		server.release()
		return nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	return server, nil
}

func (s *Server) start(ctx context.Context) error {
	if err := s.chooseAddress(); err != nil {
		return err
	}
	if err := s.openFolder(); err != nil {
		return err
	}
	serverLock, err := s.endLeftover(ctx)
	if err != nil {
		return err
	}
	defer serverLock.Close()
	if err := s.findBinaries(ctx); err != nil {
		return err
	}
	if err := s.checkPort(ctx); err != nil {
		return err
	}
	if err := s.initialise(ctx); err != nil {
		return err
	}
	if err := s.launch(serverLock); err != nil {
		return err
	}
	if err := s.awaitReady(ctx); err != nil {
		s.kill()
		return err
	}
	if err := s.createDatabase(ctx); err != nil {
		s.kill()
		return err
	}
	return nil
}

// URL returns the connection string of the database: by TCP when there is an address to listen on, else by the Unix socket.
func (s *Server) URL() string { return s.DatabaseURL(s.config.Database) }

// DatabaseURL is [Server.URL] for another database of the server, which need not exist.
func (s *Server) DatabaseURL(name string) string {
	address := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + name}
	if s.password != "" {
		address.User = url.UserPassword(superuser, s.password)
	}
	port := strconv.Itoa(int(s.port))
	if s.host != "" {
		address.Host = net.JoinHostPort(s.host, port)
		address.RawQuery = "sslmode=disable"
	} else {
		address.RawQuery = url.Values{"host": {s.sockets}, "port": {port}}.Encode()
	}
	return address.String()
}

// Version returns the server's version, such as "15.18".
func (s *Server) Version() string { return s.binaries.Version }

// Program returns the path of another program of the installation, such as psql, or "" where it has none.
func (s *Server) Program(name string) string {
	path, err := exec.LookPath(filepath.Join(s.binaries.Dir, name))
	if err != nil {
		return ""
	}
	return path
}

// PID returns the process id of the server.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Done is closed when the server has ended, asked to or not.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop ends the server, cutting its connections, and deletes a temporary cluster. When ctx ends first the server is ended the hard way, which costs a
// kept cluster only the time to recover at its next start. Stopping twice does nothing.
func (s *Server) Stop(ctx context.Context) error {
	signal := syscall.SIGINT // "fast": a clean end without waiting for the clients
	if s.config.Dir == "" {
		signal = syscall.SIGQUIT // "immediate": nothing is kept
	}
	_ = s.cmd.Process.Signal(signal) // fails only when it has ended
	var err error
	select {
	case <-s.done:
	case <-ctx.Done():
		err = fmt.Errorf("stopping PostgreSQL: %w", ctx.Err())
		s.kill()
	}
	s.release()
	return err
}

// kill ends the server within seconds.
func (s *Server) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-s.done:
	case <-time.After(endPatience):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

// release cleans up behind a server that has ended, or never started.
func (s *Server) release() {
	s.released.Do(func() {
		if s.guard != nil {
			s.guard.release()
		}
		if s.owner != nil {
			_ = s.owner.Close()
		}
	})
}

// chooseAddress reads Listen.
func (s *Server) chooseAddress() error {
	if s.config.Database == "" {
		s.config.Database = superuser
	}
	if s.config.Listen == "" {
		return nil
	}
	host, portText, err := net.SplitHostPort(s.config.Listen)
	if err != nil {
		return fmt.Errorf("the address to listen on must look like 127.0.0.1:5484: %w", err)
	}
	if host != "127.0.0.1" && host != "::1" {
		return fmt.Errorf("the address to listen on must be 127.0.0.1 or ::1, not %q", host)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return fmt.Errorf("the port to listen on must be a number up to 65535, not %q", portText)
	}
	s.host, s.port = host, uint16(port)
	return nil
}

// checkPort finds out whether the port is free, or a free one.
func (s *Server) checkPort(ctx context.Context) error {
	if s.host == "" {
		return nil
	}
	address := net.JoinHostPort(s.host, strconv.Itoa(int(s.port)))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d is taken by another program: end that or choose another port", s.port)
	}
	if err != nil {
		return fmt.Errorf("can't listen on %s: %w", address, err)
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok {
		s.port = tcp.AddrPort().Port()
	}
	return listener.Close() //nolint:wrapcheck // never fails here
}

// endLeftover takes the lock that the server will inherit. While another server of this folder still has it, that one was left by a killed program:
// it is told to end, and waited for.
func (s *Server) endLeftover(ctx context.Context) (*os.File, error) {
	name := filepath.Join(filepath.Dir(s.data), serverName)
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL}
	for {
		lock, err := tryLock(name)
		if lock != nil || err != nil {
			return lock, err
		}
		if len(signals) == 0 {
			return nil, fmt.Errorf("an earlier server still uses %s and does not end: kill its postgres processes", s.data)
		}
		fmt.Fprintln(s.config.Log, "an earlier PostgreSQL server still runs in the folder: ending it")
		if pid, ok := s.postmaster(ctx); ok {
			_ = syscall.Kill(pid, signals[0]) // fails when it has just ended
		}
		signals = signals[1:]
		waiting, cancel := context.WithTimeout(ctx, endPatience)
		lock, err = lockFile(waiting, name)
		cancel()
		if lock != nil || ctx.Err() != nil {
			return lock, err
		}
	}
}

// postmaster returns the pid that the cluster's pid file names, if that process is a server of this cluster.
func (s *Server) postmaster(ctx context.Context) (int, bool) {
	content, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid"))
	if err != nil {
		return 0, false
	}
	line, _, _ := bytes.Cut(content, []byte("\n"))
	pid, err := strconv.Atoi(string(line))
	if err != nil || pid <= 1 {
		return 0, false
	}
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		if command, err = exec.CommandContext(ctx, "ps", "-o", "args=", "-p", strconv.Itoa(pid)).Output(); err != nil {
			return 0, false
		}
	}
	return pid, bytes.Contains(command, []byte(s.data))
}

func (s *Server) durable() bool { return s.config.Durable || s.config.Dir != "" }

// settings are ours below the caller's.
func (s *Server) settings() map[string]string {
	settings := map[string]string{
		"listen_addresses":        s.host,
		"port":                    strconv.Itoa(int(s.port)),
		"unix_socket_directories": `"` + strings.ReplaceAll(s.sockets, `"`, `""`) + `"`,
		"unix_socket_permissions": "0700",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"log_line_prefix":         "%m [%p] ",
		"cluster_name":            "darkroom",
	}
	if !s.durable() {
		maps.Copy(settings, map[string]string{
			"fsync":              "off",
			"synchronous_commit": "off",
			"full_page_writes":   "off",
			"wal_level":          "minimal",
			"max_wal_senders":    "0",
			"max_wal_size":       "256MB", // a RAM disk is small
			"jit":                "off",
		})
	}
	maps.Copy(settings, s.config.Settings)
	return settings
}

// launch starts the server. The server keeps the lock: its processes inherit the descriptor.
func (s *Server) launch(lock *os.File) error {
	if info, err := os.Stat(s.log); err == nil {
		s.logStart = info.Size()
	}
	if s.logStart > maxLogSize {
		s.logStart = 0
		if err := os.Truncate(s.log, 0); err != nil {
			return fmt.Errorf("the server's log: %w", err)
		}
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("the server's log: %w", err)
	}
	defer log.Close()

	args := []string{"-D", s.data}
	settings := s.settings()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	s.cmd = exec.Command(filepath.Join(s.binaries.Dir, "postgres"), args...) //nolint:noctx // the program that Find chose; it outlives ctx
	s.cmd.Dir = "/"
	s.cmd.Env = cleanEnv()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.ExtraFiles = []*os.File{lock}
	signal := syscall.SIGINT
	if s.config.Dir == "" {
		signal = syscall.SIGQUIT
	}
	s.cmd.SysProcAttr = s.user.procAttr(signal)

	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the signal at our death is tied to the thread that starts the server: it must live as long
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		if err == nil {
			s.guard.watch(s.cmd.Process.Pid)
		}
		started <- err
		if err == nil {
			_ = s.cmd.Wait() // how it ended stands in its log
			s.guard.forget()
			close(s.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("%s: %w", s.cmd.Path, err)
	}
	return nil
}

// awaitReady waits for the line that the server adds to its pid file when it accepts connections.
func (s *Server) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		content, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid"))
		if lines := strings.Split(string(content), "\n"); err == nil && len(lines) >= 8 &&
			lines[0] == strconv.Itoa(s.PID()) && strings.TrimSpace(lines[7]) == "ready" {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("the server ended: %s", s.complaint())
		case <-ctx.Done():
			return fmt.Errorf("waiting for the server (its log: %s): %w", s.log, ctx.Err())
		case <-tick.C:
		}
	}
}

// complaint returns the server's first FATAL or PANIC message, else its last line.
func (s *Server) complaint() string {
	content, err := os.ReadFile(s.log)
	if err != nil || int64(len(content)) < s.logStart {
		return "its log " + s.log + " could not be read"
	}
	text := string(content[s.logStart:])
	for line := range strings.Lines(text) {
		for _, level := range []string{"FATAL:  ", "PANIC:  "} {
			if _, message, found := strings.Cut(line, level); found {
				return strings.TrimSpace(message)
			}
		}
	}
	return lastLine(text)
}

// createDatabase makes the configured database if there is none.
func (s *Server) createDatabase(ctx context.Context) error {
	if s.config.Database == superuser {
		return nil
	}
	conn, err := pgx.Connect(ctx, s.DatabaseURL(superuser))
	if err != nil {
		return fmt.Errorf("connecting to the new server: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var exists bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", s.config.Database).Scan(&exists); err != nil {
		return fmt.Errorf("looking for database %s: %w", s.config.Database, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, "create database "+pgx.Identifier{s.config.Database}.Sanitize()); err != nil {
		return fmt.Errorf("making database %s: %w", s.config.Database, err)
	}
	return nil
}

// cleanEnv is our environment without what would steer PostgreSQL's programs, and with a locale that every system has.
func cleanEnv() []string {
	env := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "PG") || strings.HasPrefix(entry, "LC_") || strings.HasPrefix(entry, "LANG")
	})
	return append(env, "LC_ALL=C")
}
