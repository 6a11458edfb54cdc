// Package s3test runs a real S3 server for tests: versitygw, over a temporary folder, on a loopback port.
//
// Compiling it takes minutes, so it is done only where [EnvRun] asks for it, and kept in the cache folder of [install.CacheDir]. Where it is in the
// cache the tests always run.
package s3test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"darkroom/sql/localpg/install"
)

// EnvRun is the variable that, set to 1, has the server compiled when it is not in the cache.
const EnvRun = "DARKROOM_TEST_S3"

const (
	accessKey = "darkroom"
	secretKey = "darkroom-secret"

	startTimeout = 30 * time.Second
	startTries   = 3 // a free port may be taken by another before the server has it
)

// script runs the server and ends with it, and ends it when its own standard input ends: so also when the test is killed.
const script = `exec 3<&0
"$@" & server=$!
{ read -r line <&3; kill -9 $server; } 2>/dev/null & reader=$!
wait $server
kill $reader`

// Server is a running S3 server.
type Server struct {
	// Dir holds a folder per bucket, with a file per object.
	Dir string

	program, secret, address string
	metadata                 string // a folder: attributes of files can't hold it on every file system

	stdin io.Closer
	done  chan struct{} // closed when the server has ended
}

// Start runs a server until the test ends, and puts its credentials into this process's environment. It skips the test where there is no server.
func Start(tb testing.TB) *Server {
	tb.Helper()
	return StartWith(tb, secretKey)
}

// StartWith is [Start] for a server with another secret, which refuses what this process sends.
func StartWith(tb testing.TB, secret string) *Server {
	tb.Helper()
	s := &Server{Dir: tb.TempDir(), metadata: tb.TempDir(), program: find(tb), secret: secret}
	// As for every user of the library: credentials come from the environment. They are the same for all tests of a process.
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": ""} {
		if err := os.Setenv(name, value); err != nil { //nolint:usetesting // parallel tests share it
			tb.Fatal(err)
		}
	}
	tb.Cleanup(s.Kill)
	s.Restart(tb)
	return s
}

// Restart starts the server again over the same folder, after [Server.Kill]. Its URLs are new.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	var err error
	for range startTries {
		if err = s.start(tb.Context()); err == nil {
			return
		}
	}
	tb.Fatalf("s3test: %v", err)
}

func find(tb testing.TB) string {
	tb.Helper()
	program := install.GoProgram{Package: "github.com/versity/versitygw/cmd/versitygw", Version: "v1.8.0"}
	file, ok := program.Cached()
	if ok {
		return file
	}
	if os.Getenv(EnvRun) != "1" {
		tb.Skipf("the S3 server versitygw is not in the cache; %s=1 compiles it, which takes minutes", EnvRun)
	}
	file, err := program.Fetch(tb.Context(), func() { tb.Log("compiling versitygw (once)") })
	if err != nil {
		tb.Fatalf("s3test: %v", err)
	}
	return file
}

func (s *Server) start(ctx context.Context) error {
	free, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("look for a free port: %w", err)
	}
	s.address = free.Addr().String()
	if err := free.Close(); err != nil {
		return fmt.Errorf("look for a free port: %w", err)
	}

	var output strings.Builder
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", script, "sh", s.program, "--port", s.address, "--health", "/health", "--quiet", "--keep-alive",
		"posix", "--sidecar", s.metadata, s.Dir)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ROOT_ACCESS_KEY=" + accessKey, "ROOT_SECRET_KEY=" + s.secret}
	cmd.Stdout, cmd.Stderr = &output, &output
	if s.stdin, err = cmd.StdinPipe(); err != nil {
		return fmt.Errorf("start versitygw: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start versitygw: %w", err)
	}
	done := make(chan struct{})
	s.done = done
	go func() {
		defer close(done)
		_ = cmd.Wait() // says that it was killed
	}()
	if err := s.await(ctx); err != nil {
		s.Kill() // and then its output is complete
		return fmt.Errorf("versitygw: %w: %s", err, output.String())
	}
	return nil
}

func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint()+"/health", http.NoBody)
		if err != nil {
			return fmt.Errorf("ask for its health: %w", err)
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.done:
			return errors.New("it has ended")
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill() {
	if s.done != nil {
		_ = s.stdin.Close()
		<-s.done
	}
}

// MakeBucket makes a bucket and returns its URL, for storage.Open. More parameters may be added with "&".
func (s *Server) MakeBucket(tb testing.TB, name string) string {
	tb.Helper()
	if err := os.Mkdir(filepath.Join(s.Dir, name), 0o700); err != nil {
		tb.Fatalf("s3test: %v", err)
	}
	return s.URL(name)
}

// Endpoint is the server's address, such as http://127.0.0.1:9000.
func (s *Server) Endpoint() string { return "http://" + s.address }

// URL is the URL of a bucket, which need not exist.
func (s *Server) URL(bucket string) string {
	query := url.Values{"region": {"us-east-1"}, "endpoint": {s.Endpoint()}, "use_path_style": {"true"}}
	return "s3://" + bucket + "?" + query.Encode()
}
