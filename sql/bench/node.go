package main

import (
	"bufio"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed peers/peers.mjs peers/package.json peers/package-lock.json peers/.npmrc
var peerFiles embed.FS

// What the peers of the Node world need; npm brings a Node to machines that have an older one.
const (
	nodeMajor   = 22
	nodeVersion = "22.23.3"
)

var errNoNode = errors.New("graphile-worker and pg-boss are left out")

// node is a folder with the peers that npm has installed.
type node struct {
	dir, program string
	running      []*process
}

// installNode installs the peers of the Node world that are wanted; errNoNode when that cannot be.
func installNode(ctx context.Context, peers []string) (*node, error) {
	if !slices.Contains(peers, "graphile-worker") && !slices.Contains(peers, "pg-boss") {
		return nil, nil //nolint:nilnil // none is wanted
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return nil, fmt.Errorf("%w: npm is not installed", errNoNode)
	}
	dir, err := os.MkdirTemp("", "darkroom-bench-")
	if err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	n := &node{dir: dir, program: "node"}
	if err := n.install(ctx, npm); err != nil {
		n.remove()
		return nil, err
	}
	return n, nil
}

func (n *node) install(ctx context.Context, npm string) error {
	for _, name := range []string{"peers.mjs", "package.json", "package-lock.json", ".npmrc"} {
		data, err := peerFiles.ReadFile("peers/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(n.dir, name), data, 0o600)
		}
		if err != nil {
			return fmt.Errorf("peers: %w", err)
		}
	}
	npmRun := func(args ...string) error {
		cmd := exec.CommandContext(ctx, npm, append(args, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")...)
		cmd.Dir = n.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: npm %s: %w: %s", errNoNode, args[0], err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	if err := npmRun("ci"); err != nil {
		return err
	}
	version, err := exec.CommandContext(ctx, "node", "--version").Output()
	major, _, _ := strings.Cut(strings.TrimPrefix(string(version), "v"), ".")
	if number, _ := strconv.Atoi(major); err == nil && number >= nodeMajor {
		return nil
	}
	platform := "node-" + runtime.GOOS + "-" + map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	n.program = filepath.Join(n.dir, "node_modules", platform, "bin", "node")
	return npmRun("install", "--no-save", platform+"@"+nodeVersion)
}

// remove ends what still runs, and removes the folder.
func (n *node) remove() {
	for _, p := range n.running {
		p.end()
	}
	_ = os.RemoveAll(n.dir)
}

// process is a running peer.
type process struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *bufio.Scanner
	end func()
}

type command struct {
	Op    string `json:"op"`
	N     int    `json:"n,omitempty"`
	Conns int    `json:"conns,omitempty"`
	Batch int    `json:"batch,omitempty"`
}

type answer struct {
	Rows       int64     `json:"rows"`
	FromCall   []float64 `json:"fromCall"`
	FromAnswer []float64 `json:"fromAnswer"`
	Error      string    `json:"error"`
}

func (n *node) start(ctx context.Context, peer, url string) (*process, error) {
	cmd := exec.CommandContext(ctx, n.program, "peers.mjs", peer, url)
	cmd.Dir, cmd.Stderr = n.dir, os.Stderr
	cmd.Env = append(os.Environ(), "BENCH_PAYLOAD="+payload, "NODE_ENV=production")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", peer, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", peer, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", peer, err)
	}
	p := &process{cmd: cmd, in: json.NewEncoder(in), out: bufio.NewScanner(out)}
	p.out.Buffer(nil, 1<<20)
	p.end = sync.OnceFunc(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	n.running = append(n.running, p)
	if _, err := p.answer(); err != nil {
		p.end()
		return nil, fmt.Errorf("%s: %w", peer, err)
	}
	return p, nil
}

func (p *process) do(c command) (answer, error) {
	if err := p.in.Encode(c); err != nil {
		return answer{}, fmt.Errorf("peer: %w", err)
	}
	return p.answer()
}

func (p *process) answer() (answer, error) {
	var a answer
	if !p.out.Scan() {
		return a, errors.New("the peer has ended")
	}
	if err := json.Unmarshal(p.out.Bytes(), &a); err != nil {
		return a, fmt.Errorf("peer: %w", err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

// A process is also the session that runs in it: there is one at a time.
func (p *process) count(context.Context) (int64, error) {
	a, err := p.do(command{Op: "count"})
	return a.Rows, err
}

func (p *process) stop(context.Context) (int64, error) {
	a, err := p.do(command{Op: "stop"})
	return a.Rows, err
}

var nodePeers = map[string]struct{ does, left string }{
	"graphile-worker": {
		"its own runner, which completes (deletes) a job while it fetches the next; retries, no credits, results or events",
		"select count(*) from graphile_worker._private_jobs",
	},
	"pg-boss": {
		"its fetch and complete; retries and a kept row for each job, no credits or events",
		"select count(*) from pgboss.job where name = 'bench' and state < 'completed'",
	},
}

func (e *env) newNodePeer(ctx context.Context, name string) (*contender, error) {
	c, pool, p, err := e.openNodePeer(ctx, name)
	if err != nil {
		return nil, err
	}
	start := func(op string) func(context.Context, int, int) (session, error) {
		return func(_ context.Context, conns, batch int) (session, error) {
			_, err := p.do(command{Op: op, Conns: conns, Batch: batch})
			return p, err
		}
	}
	c.work, c.create = start("work"), start("create")
	c.fill = func(ctx context.Context, n int) error {
		if _, err := p.do(command{Op: "fill", N: n}); err != nil {
			return err
		}
		return execAll(ctx, pool, statement{"vacuum analyze", nil})
	}
	c.left = func(ctx context.Context) (left int64, err error) {
		err = pool.QueryRow(ctx, nodePeers[name].left).Scan(&left)
		return left, err //nolint:wrapcheck // the caller does
	}
	return c, nil
}

func (e *env) openNodePeer(ctx context.Context, name string) (*contender, *pgxpool.Pool, *process, error) {
	c, pool, err := e.newPlain(ctx, name, nodePeers[name].does, "select 1")
	if err != nil {
		return nil, nil, nil, err
	}
	p, err := e.node.start(ctx, name, c.url)
	if err != nil {
		return nil, nil, nil, err
	}
	closePool := c.close
	c.close = func() {
		p.end()
		closePool()
	}
	return c, pool, p, nil
}

// nodeLatency is how long a peer takes on an idle system from the answer to a new job, and from its call, to the start of the work, in ms.
func (e *env) nodeLatency(ctx context.Context, name string, n int) (fromAnswer, fromCall []float64, err error) {
	c, _, p, err := e.openNodePeer(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	a, err := p.do(command{Op: "latency", N: n})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return a.FromAnswer, a.FromCall, e.finish(ctx, c)
}
