package realtime_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/sql/taskdb"
)

const (
	subscribers = 500
	writersOf   = 8
)

// BenchmarkChanges measures 500 subscribers, each a user with a project, a channel and row security of their own. Writers change a row of one of them at
// a time: /alone nobody listens, /fanout as fast as it goes, /paced a thousand a second. changes/s is until the last has arrived; ms are from the
// answer to the COMMIT to the subscriber. The ratio to /alone says what the machine makes of it; everything runs on this machine.
func BenchmarkChanges(b *testing.B) {
	alone := 0.0
	b.Run("alone", func(b *testing.B) {
		w := newWorld(b)
		users := w.people()
		began := time.Now()
		w.changes(b, users, 0, func(int) {})
		alone = float64(b.N) / time.Since(began).Seconds()
		b.ReportMetric(alone, "changes/s")
	})
	for name, pace := range map[string]time.Duration{"fanout": 0, "paced": time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b)
			gateway := w.process()
			users := w.people()
			committed, arrived := make([]atomic.Int64, b.N), make([]atomic.Int64, b.N)
			var left sync.WaitGroup
			left.Add(b.N)
			for _, u := range users {
				p := &page{t: b, vsn: "2.0.0"}
				p.connect(gateway.web)
				p.join("x", u.token, generations(u))
				go func() {
					for {
						_, data, err := p.conn.Read(b.Context())
						if err != nil {
							return
						}
						if _, rest, found := bytes.Cut(data, []byte(`"location": "`)); found {
							number, _, _ := bytes.Cut(rest, []byte(`"`))
							if n, err := strconv.Atoi(string(number)); err == nil && arrived[n].Swap(time.Now().UnixNano()) == 0 {
								left.Done()
							}
						}
					}
				}()
			}
			b.ResetTimer()
			began := time.Now()
			w.changes(b, users, pace, func(n int) { committed[n].Store(time.Now().UnixNano()) })
			left.Wait()
			rate := float64(b.N) / time.Since(began).Seconds()
			b.ReportMetric(rate, "changes/s")
			b.ReportMetric(rate/alone, "of-alone")
			delays := make([]time.Duration, b.N)
			for n := range delays {
				delays[n] = time.Duration(max(0, arrived[n].Load()-committed[n].Load()))
			}
			slices.Sort(delays)
			b.ReportMetric(float64(delays[b.N/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(delays[b.N*95/100].Microseconds())/1000, "p95-ms")
		})
	}
}

// people makes users with projects.
func (w *world) people() []user {
	w.t.Helper()
	users := make([]user, subscribers)
	for i := range users {
		users[i].id, users[i].project = uuid.New(), uuid.New()
		w.exec("insert into users (id) values ($1)", users[i].id)
		w.exec("insert into projects (id, owner_id, name) values ($1, $2, 'x')", users[i].project, users[i].id)
		users[i].token = w.sign(users[i].id, time.Hour)
	}
	return users
}

// changes makes b.N of them over several connections, not faster than one in each pace.
func (w *world) changes(b *testing.B, users []user, pace time.Duration, done func(n int)) {
	b.Helper()
	next, began := atomic.Int64{}, time.Now()
	var writing sync.WaitGroup
	for range writersOf {
		conn := w.pg.Conn(b)
		writing.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= b.N {
					return
				}
				time.Sleep(time.Until(began.Add(time.Duration(n) * pace)))
				_, err := conn.Exec(b.Context(), "insert into generations (project_id, type, location) values ($1, 'image', $2)", users[n%len(users)].project, strconv.Itoa(n))
				if err != nil {
					b.Error(err)
					return
				}
				done(n)
			}
		})
	}
	writing.Wait()
}

// BenchmarkIdleSockets measures the memory of the gateway's process with 10,000 sockets, then with a channel on each. The clients are in this process.
func BenchmarkIdleSockets(b *testing.B) {
	const sockets, perUser = 10_000, 100
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < sockets+1000 {
		b.Skipf("%d files may be open, and %d are wanted: ulimit -n", limit.Cur, sockets+1000)
	}
	w := newWorld(b)
	for b.Loop() {
		gateway := w.process()
		before := residentMiB(b, gateway.pid)
		conns := make([]net.Conn, sockets)
		for i := range conns {
			conns[i] = upgrade(b, gateway.web.URL)
		}
		b.ReportMetric(residentMiB(b, gateway.pid)-before, "MiB-connected")
		users := w.people()[:sockets/perUser]
		for i, conn := range conns {
			u := users[i/perUser]
			text := fmt.Sprintf(`["1","1","realtime:x","phx_join",{"access_token":%q,"config":{"postgres_changes":[{"event":"*","schema":"public","table":"generations","filter":"project_id=eq.%s"}]}}]`, u.token, u.project)
			if _, err := conn.Write(masked(text)); err != nil {
				b.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(awhile))
			if got, err := bufio.NewReader(conn).Peek(200); err != nil || !bytes.Contains(got, []byte(`"status":"ok"`)) {
				b.Fatalf("socket %d: %q, %v", i, got, err)
			}
		}
		b.ReportMetric(residentMiB(b, gateway.pid)-before, "MiB-joined")
		for _, conn := range conns {
			_ = conn.Close()
		}
		gateway.kill()
	}
}

// upgrade opens a WebSocket that keeps nothing but its connection.
func upgrade(b *testing.B, url string) net.Conn {
	b.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	must(b, err)
	_, err = fmt.Fprintf(conn, "GET /realtime/v1/websocket?vsn=2.0.0&apikey=%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", strings.ReplaceAll(anonKey, " ", "+"))
	must(b, err)
	head := make([]byte, 512)
	n, err := conn.Read(head)
	if err != nil || !bytes.HasPrefix(head[:n], []byte("HTTP/1.1 101")) {
		b.Fatalf("%q, %v", head[:n], err)
	}
	return conn
}

// masked is a text frame of a client, with the mask 0.
func masked(text string) []byte {
	frame := []byte{0x81, 0x80 | 126, byte(len(text) >> 8), byte(len(text)), 0, 0, 0, 0}
	return append(frame, text...)
}

// residentMiB is how much memory a process has.
func residentMiB(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(b, err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	must(b, err)
	return float64(kib) / 1024
}

// BenchmarkDoorbell measures what it costs 32 writers that somebody listens to the doorbell and arms it again and again. Rounds with and without take
// turns; of-silent is the ratio of their speeds.
func BenchmarkDoorbell(b *testing.B) {
	const connections, rounds = 32, 10
	w := newWorld(b)
	w.stop() // its gateway listens too
	config, err := pgxpool.ParseConfig(w.pg.URL)
	must(b, err)
	config.MaxConns, config.MinConns = connections, connections
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	must(b, err)
	defer pool.Close()
	round := func() time.Duration {
		began, next := time.Now(), atomic.Int64{}
		var writing sync.WaitGroup
		for range connections {
			writing.Go(func() {
				for next.Add(1) <= int64(b.N) {
					if _, err := pool.Exec(b.Context(), "insert into generations (project_id, type, location) values ($1, 'image', 'x')", w.a.project); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		writing.Wait()
		return time.Since(began)
	}
	round()
	var silent, armed time.Duration
	b.ResetTimer()
	for range rounds {
		silent += round()
		ctx, stop := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		listens := make(chan struct{})
		go func() {
			begin := sync.OnceFunc(func() { close(listens) })
			ended <- taskdb.Listen(ctx, w.pg.URL, func(context.Context) error {
				begin()
				return nil
			})
		}()
		<-listens
		armed += round()
		stop()
		must(b, <-ended)
	}
	b.ReportMetric(float64(b.N*rounds)/armed.Seconds(), "changes/s")
	b.ReportMetric(silent.Seconds()/armed.Seconds(), "of-silent")
}
