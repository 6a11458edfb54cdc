package clients_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// proxy stands between clients and a gateway and breaks connections, as networks do.
type proxy struct {
	target   string
	listener net.Listener
	work     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	pairs  map[*pair]struct{}
	broken int
}

// pair is a connection of a client and the one to the gateway that goes on with it.
type pair struct {
	client, gateway net.Conn
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
		p.mu.Unlock()
		p.breakAll()
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
		_, _ = io.Copy(gateway, client)
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

// reader reads from the gateway until the pair is stalled, and then never returns before the connection is cut.
type reader struct{ *pair }

func (r *reader) Read(b []byte) (int, error) {
	n, err := r.gateway.Read(b)
	select {
	case <-r.stalled: // what was read is lost; more is taken, as the buffers of a network do
		_, _ = io.Copy(io.Discard, r.gateway)
		return 0, io.EOF
	default:
		return n, err //nolint:wrapcheck // it is a reader
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

func (p *proxy) open() []*pair {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*pair, 0, len(p.pairs))
	for b := range p.pairs {
		list = append(list, b)
	}
	p.broken += len(list)
	return list
}

// breakAll breaks all connections.
func (p *proxy) breakAll() {
	for _, b := range p.open() {
		b.cut()
	}
}

// breakOne breaks one connection of those that there are; every other time it first takes for a while what the gateway sends, and loses it.
func (p *proxy) breakOne(random *rand.Rand) {
	p.mu.Lock()
	var chosen *pair
	if n := len(p.pairs); n > 0 {
		left := random.IntN(n)
		for b := range p.pairs {
			if left--; left < 0 {
				chosen = b
				break
			}
		}
		p.broken++
	}
	p.mu.Unlock()
	switch {
	case chosen == nil:
	case random.IntN(2) == 0:
		chosen.cut()
	default:
		chosen.stall.Do(func() { close(chosen.stalled) })
		time.AfterFunc(time.Duration(random.IntN(2000))*time.Millisecond, chosen.cut)
	}
}

func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// ServeHTTP breaks all connections when asked by POST, also by a page of another origin.
func (p *proxy) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Access-Control-Allow-Origin", "*")
	if r.Method == http.MethodPost {
		p.breakAll()
	}
	rw.WriteHeader(http.StatusNoContent)
}
