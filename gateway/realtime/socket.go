package realtime

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/lxzan/gws"

	"darkroom/gateway/realtime/phoenix"
)

const (
	maxMessage   = 256 << 10        // of a client
	maxFrame     = 256 << 20        // to a client: rows are never cut
	maxQueue     = 4096             // messages that wait for a socket to take them
	maxQueued    = 16 << 20         // bytes of them, unless there is but one
	writeMost    = 10 * time.Second // that a client may take nothing
	shutMost     = time.Second      // for a word of farewell
	silenceMost  = 90 * time.Second // clients say that they live every 25 or 30 s
	askArrived   = 250 * time.Millisecond
	readBuffer   = 1 << 10
	closeRestart = 1012
	closeSlow    = 1013
)

// socket is one WebSocket.
type socket struct {
	door    *Door
	conn    *gws.Conn
	net     *corked
	version phoenix.Version
	apikey  string // of the address
	counted []string
	lastRef atomic.Int64 // the highest number of a message that its client sent
	joins   bucket
	casts   bucket

	channels map[string]*channel // by topic; touched by what reads from the socket alone
	user     uuid.UUID           // the first that joined; the sockets of a user are counted

	mu             sync.Mutex
	queue          []message
	queued         int // bytes
	writing        bool
	closed         bool
	awaited        map[string]*awaited // by topic
	asking         bool                // a ping is under way, or soon
	taken, arrived uint64
	room           chan struct{} // closed when the queue has been taken
}

// message is what waits to be written: a frame, or a change in the frame of its channel.
type message struct {
	opcode gws.Opcode
	frame  []byte
	around *phoenix.Frame
	ids    []int // of a change; nil: a broadcast
}

var errClosed = errors.New("the connection has ended")

// put gives the socket a message, in order. False: it is closed, or did not take what came before and is now.
func (s *socket) put(m message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if len(s.queue) >= maxQueue || s.queued > 0 && s.queued+len(m.frame) > maxQueued {
		s.closed = true
		go s.close(closeSlow, "too slow: reconnect and go on")
		return false
	}
	s.queue = append(s.queue, m)
	s.queued += len(m.frame)
	if m.around != nil {
		s.taken++
		s.askLater()
	}
	if !s.writing {
		s.writing = true
		go s.write()
	}
	return true
}

// say sends a text frame.
func (s *socket) say(frame []byte) { s.put(message{opcode: gws.OpcodeText, frame: frame}) }

// write writes what is queued until nothing is.
func (s *socket) write() {
	for {
		s.mu.Lock()
		list, room := s.queue, s.room
		s.queue, s.queued, s.room = nil, 0, nil
		if s.writing = len(list) > 0 && !s.closed; !s.writing {
			s.mu.Unlock()
			if room != nil {
				close(room)
			}
			return
		}
		s.mu.Unlock()
		s.net.hold()
		for _, m := range list {
			frame := m.frame
			switch {
			case m.ids != nil:
				frame = m.around.With(m.ids, m.frame)
			case m.around != nil:
				frame = m.around.Around(m.frame)
			}
			if s.conn.WriteMessage(m.opcode, frame) != nil {
				break // it closes itself, which ends the reading
			}
		}
		if s.net.release() != nil {
			_ = s.net.Close()
		}
		if room != nil {
			close(room)
		}
	}
}

// wait returns when there is room for many messages.
func (s *socket) wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		closed, few := s.closed, len(s.queue) < maxQueue/4 && s.queued < maxQueued/4
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		switch {
		case closed:
			return errClosed
		case few:
			return nil
		}
		select {
		case <-ctx.Done():
			return errClosed
		case <-room:
		}
	}
}

// askLater sends a ping soon, whose answer says what has arrived. Called with the lock held.
func (s *socket) askLater() {
	if !s.asking {
		s.asking = true
		time.AfterFunc(askArrived, s.ask)
	}
}

func (s *socket) ask() {
	s.mu.Lock()
	taken := s.taken
	s.mu.Unlock()
	s.put(message{opcode: gws.OpcodePing, frame: strconv.AppendUint(nil, taken, 10)})
}

// answered notes what a ping's answer says.
func (s *socket) answered(payload []byte) {
	taken, err := strconv.ParseUint(string(payload), 10, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || taken > s.taken || !s.asking {
		return
	}
	s.arrived, s.asking = max(s.arrived, taken), false
	if s.arrived < s.taken {
		s.askLater()
	}
}

func (s *socket) counts() (taken, arrived uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken, s.arrived
}

// shut closes the socket with a reason for its client.
func (s *socket) shut(code uint16, reason string) {
	s.mu.Lock()
	before := s.closed
	s.closed = true
	s.mu.Unlock()
	if !before {
		s.close(code, reason)
	}
}

// close says why, as far as the client listens, and ends the connection.
func (s *socket) close(code uint16, reason string) {
	s.mu.Lock()
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
	s.mu.Unlock()
	s.net.hurry()
	_ = s.conn.WriteClose(code, []byte(reason))
	_ = s.net.Close()
}

// heard notes a sign of life.
func (s *socket) heard() { _ = s.conn.SetReadDeadline(time.Now().Add(silenceMost)) }

// corked is a connection whose writes can be gathered into few. Its client has some time to take each of them.
type corked struct {
	net.Conn

	last   atomic.Bool // what is written now is the last
	mu     sync.Mutex
	held   bool
	buffer *[]byte
}

const gather = 32 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2*gather); return &b }} //nolint:gochecknoglobals // a pool

func (c *corked) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.held {
		return len(p), c.send(p)
	}
	if len(*c.buffer)+len(p) > gather {
		if err := c.flush(); err != nil {
			return 0, err
		}
		if len(p) > gather {
			return len(p), c.send(p)
		}
	}
	*c.buffer = append(*c.buffer, p...)
	return len(p), nil
}

func (c *corked) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held, c.buffer = true, buffers.Get().(*[]byte) //nolint:forcetypeassert // of the pool
}

func (c *corked) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.flush()
	buffers.Put(c.buffer)
	c.held, c.buffer = false, nil
	return err
}

func (c *corked) flush() error {
	if len(*c.buffer) == 0 {
		return nil
	}
	err := c.send(*c.buffer)
	*c.buffer = (*c.buffer)[:0]
	return err
}

// send writes in pieces, so that a client on a slow line is not taken for one that does not read.
func (c *corked) send(p []byte) error {
	for len(p) > 0 {
		if !c.last.Load() {
			_ = c.SetWriteDeadline(time.Now().Add(writeMost))
		}
		n := min(len(p), gather)
		if _, err := c.Conn.Write(p[:n]); err != nil {
			return err //nolint:wrapcheck // it is a net.Conn
		}
		p = p[n:]
	}
	return nil
}

// hurry gives the client a moment for what is still written.
func (c *corked) hurry() {
	c.last.Store(true)
	_ = c.SetWriteDeadline(time.Now().Add(shutMost))
}

// bucket limits what a client does in a while.
type bucket struct {
	left float64
	at   time.Time
}

func (b *bucket) take(now time.Time, perSecond, burst float64) bool {
	if b.at.IsZero() {
		b.left = burst
	} else {
		b.left = min(burst, b.left+perSecond*now.Sub(b.at).Seconds())
	}
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
