package clients_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between clients and a gateway and breaks connections, as networks do.
type proxy struct {
	target   string
	listener net.Listener
	work     sync.WaitGroup
	broken   atomic.Int64 // how often

	mu     sync.Mutex
	closed bool
	pairs  map[*pair]struct{}
}

// pair is a connection of a client and the one to the gateway that goes on with it.
type pair struct {
	client, gateway net.Conn
	live            atomic.Bool   // a socket or a stream: only those are broken
	stalled         chan struct{} // closed: nothing more goes to the client
	stall           sync.Once
}

// newProxy starts a proxy of a gateway's address, which ends with the test.
func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{target: target, listener: listener, pairs: map[*pair]struct{}{}}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.mu.Lock()
		p.closed = true
		for b := range p.pairs {
			b.cut()
		}
		p.mu.Unlock()
		p.work.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.carry(client) })
	}
}

func (p *proxy) carry(client net.Conn) {
	dialer := net.Dialer{Timeout: time.Minute}
	gateway, err := dialer.DialContext(context.Background(), "tcp", p.target)
	if err != nil { // it is being restarted
		cut(client)
		return
	}
	between := &pair{client: client, gateway: gateway, stalled: make(chan struct{})}
	p.mu.Lock()
	closed := p.closed
	p.pairs[between] = struct{}{}
	p.mu.Unlock()
	if closed {
		between.cut()
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(&writer{between}, client)
		half(gateway)
	})
	both.Go(func() {
		_, _ = io.Copy(client, &reader{between})
		half(client)
	})
	both.Wait()
	p.mu.Lock()
	delete(p.pairs, between)
	p.mu.Unlock()
	client.Close()
	gateway.Close()
}

// writer writes to the gateway and looks what is asked for.
type writer struct{ *pair }

func (w *writer) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, []byte("GET /realtime/")) || bytes.HasPrefix(b, []byte("GET /projects/")) {
		w.live.Store(true)
	}
	return w.gateway.Write(b)
}

// reader reads from the gateway until the pair is stalled, and then never returns before the connection is cut.
type reader struct{ *pair }

func (r *reader) Read(b []byte) (int, error) {
	n, err := r.gateway.Read(b)
	select {
	case <-r.stalled: // what was read is lost; more is taken, as the buffers of a network do
		_, _ = io.Copy(io.Discard, r.gateway)
		return 0, io.EOF
	default:
		return n, err
	}
}

// half says that no more comes, and leaves open what comes from there.
func half(conn net.Conn) {
	if tcp, is := conn.(*net.TCPConn); is {
		_ = tcp.CloseWrite()
	}
}

// cut breaks a connection: what was under way is lost.
func cut(conn net.Conn) {
	if tcp, is := conn.(*net.TCPConn); is {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

func (b *pair) cut() {
	cut(b.client)
	cut(b.gateway)
}

// live are the connections that can be broken.
func (p *proxy) live() []*pair {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*pair, 0, len(p.pairs))
	for b := range p.pairs {
		if b.live.Load() {
			list = append(list, b)
		}
	}
	return list
}

// breakAll breaks all sockets and streams.
func (p *proxy) breakAll() {
	for _, b := range p.live() {
		b.cut()
		p.broken.Add(1)
	}
}

// breakOne breaks one socket or stream; every other time it first takes for a while what the gateway sends, and loses it.
func (p *proxy) breakOne(random *rand.Rand) {
	list := p.live()
	if len(list) == 0 {
		return
	}
	chosen := list[random.IntN(len(list))]
	p.broken.Add(1)
	if random.IntN(2) == 0 {
		chosen.cut()
		return
	}
	chosen.stall.Do(func() { close(chosen.stalled) })
	time.AfterFunc(time.Duration(random.IntN(stallMost)), chosen.cut)
}

const stallMost = int(2 * time.Second)

// ServeHTTP breaks all sockets and streams when asked by POST, also by a page of another origin.
func (p *proxy) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Access-Control-Allow-Origin", "*")
	if r.Method == http.MethodPost {
		p.breakAll()
	}
	rw.WriteHeader(http.StatusNoContent)
}
