package realtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/lxzan/gws"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
	"darkroom/gateway/realtime/phoenix"
)

// open is GET /realtime/v1/websocket.
func (d *Door) open(c echo.Context) error {
	s, status, err := d.admit(c)
	if err != nil {
		p := problem.From(err)
		if status == 0 {
			status = problem.Status(p.Code)
		}
		problem.Write(c, d.log, err, status, problem.Shape(PathSocket, status, p))
		return nil
	}
	if err := d.upgrade(c, s); err != nil {
		d.forget(s)
		d.log.DebugContext(c.Request().Context(), "a socket was not opened", "error", err)
	}
	return nil
}

// admit decides whether a socket may be opened, and counts it.
func (d *Door) admit(c echo.Context) (s *socket, status int, err error) {
	r := c.Request()
	query := r.URL.Query()
	version, known := phoenix.ParseVersion(query.Get("vsn"))
	switch {
	case !websocket(r):
		c.Response().Header().Set(echo.HeaderUpgrade, "websocket")
		return nil, http.StatusUpgradeRequired, problem.Refuse(problem.Malformed, "This address takes WebSockets only.")
	case !known:
		return nil, 0, problem.Refuse(problem.Malformed, "There is no vsn but 1.0.0 and 2.0.0.")
	case !d.isOrigin(r):
		return nil, http.StatusForbidden, problem.New("TD041", "Not allowed", "Pages of this origin may not connect.", "DARKROOM_CORS_ORIGINS names those that may.")
	}
	s = &socket{door: d, version: version, channels: map[string]*channel{}}
	if s.apikey, err = identity.Credential(r); err != nil {
		return nil, 0, err
	}
	if s.apikey == "" { // a browser sends no headers
		if s.apikey = query.Get("apikey"); strings.HasPrefix(s.apikey, "dr_") {
			return nil, 0, problem.Refuse(problem.Unauthorized, "An access token does not belong in an address: connect with the public key, and send it as access_token.")
		}
	}
	who, err := d.config.Verifier.Verify(r.Context(), s.apikey)
	if err != nil {
		return nil, 0, err
	}
	if who.Role == identity.Worker {
		return nil, http.StatusForbidden, problem.New("TD041", "Not allowed", "Workers have nothing to subscribe to.", "")
	}
	if d.isStopped() {
		return nil, 0, problem.Refuse(problem.Unavailable, "The gateway is stopping.")
	}
	whom := "address " + d.config.Network(c.RealIP())
	if !d.count(whom, d.config.Limits.SocketsOfAddress) {
		c.Response().Header().Set(echo.HeaderRetryAfter, "5")
		return nil, 0, problem.Refuse(problem.TooMany, fmt.Sprintf("This address has %d connections open.", d.config.Limits.SocketsOfAddress))
	}
	s.counted = append(s.counted, whom)
	return s, 0, nil
}

func websocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get(echo.HeaderUpgrade), "websocket") && r.Header.Get("Sec-WebSocket-Key") != "" &&
		r.Header.Get("Sec-WebSocket-Version") == "13" && strings.Contains(strings.ToLower(r.Header.Get(echo.HeaderConnection)), "upgrade")
}

func (d *Door) isStopped() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopped
}

// upgrade makes the request a socket, which then is read by a goroutine of its own, so that nothing of the request stays.
func (d *Door) upgrade(c echo.Context, s *socket) error {
	connection, _, err := c.Response().Hijack()
	if err != nil {
		return fmt.Errorf("taking over the connection: %w", err)
	}
	c.Response().Status, c.Response().Committed = http.StatusSwitchingProtocols, true
	s.net = &corked{Conn: connection}
	s.conn, err = d.upgrader.UpgradeFromConn(s.net, bufio.NewReaderSize(s.net, readBuffer), c.Request())
	if err != nil {
		return fmt.Errorf("upgrading: %w", err)
	}
	s.conn.Session().Store("", s)
	d.mu.Lock()
	stopped := d.stopped
	d.sockets[s] = struct{}{}
	d.mu.Unlock()
	if stopped {
		go s.shut(closeRestart, "the gateway stops: reconnect")
	}
	go s.conn.ReadLoop()
	return nil
}

// forget takes a socket out of the counts.
func (d *Door) forget(s *socket) {
	d.mu.Lock()
	delete(d.sockets, s)
	d.mu.Unlock()
	for _, whom := range s.counted {
		d.uncount(whom)
	}
}

func newUpgrader() *gws.Upgrader {
	return gws.NewUpgrader(events{}, &gws.ServerOption{
		ReadMaxPayloadSize: maxMessage, WriteMaxPayloadSize: maxFrame, ReadBufferSize: readBuffer,
		Logger: quiet{}, NewSession: func() gws.SessionStorage { return &session{} },
	})
}

// session holds a connection's socket in gws.
type session struct{ *socket }

func (s *session) Len() int                               { return 0 }
func (s *session) Load(string) (any, bool)                { return s.socket, true }
func (s *session) Delete(string)                          {}
func (s *session) Store(_ string, value any)              { s.socket, _ = value.(*socket) }
func (s *session) Range(func(key string, value any) bool) {}

func socketOf(conn *gws.Conn) *socket {
	held, _ := conn.Session().Load("")
	s, _ := held.(*socket)
	return s
}

// quiet drops what gws would log: broken connections are no news.
type quiet struct{}

func (quiet) Error(...any) {}

// events are what gws tells of a connection, all from the goroutine that reads it.
type events struct{}

func (events) OnOpen(conn *gws.Conn) { socketOf(conn).heard() }

func (events) OnClose(conn *gws.Conn, err error) {
	said, is := errors.AsType[*gws.CloseError](err)
	socketOf(conn).gone(is && said.Code == closeGoingAway)
}

func (events) OnPing(conn *gws.Conn, payload []byte) {
	socketOf(conn).heard()
	socketOf(conn).put(message{opcode: gws.OpcodePong, frame: payload})
}

func (events) OnPong(conn *gws.Conn, payload []byte) {
	socketOf(conn).heard()
	socketOf(conn).answered(payload)
}

func (events) OnMessage(conn *gws.Conn, m *gws.Message) {
	defer func() { _ = m.Close() }()
	s := socketOf(conn)
	s.heard()
	// Elsewhere, so that the stack that stays with each connection remains small.
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if thrown := recover(); thrown != nil { // of one message
				s.door.log.Error("realtime: panic", "panic", thrown, "stack", string(debug.Stack()))
				s.shut(closeInternal, "a fault of the gateway: reconnect")
			}
		}()
		s.read(m)
	}()
	<-done
}

// read reads a message and answers it.
func (s *socket) read(m *gws.Message) {
	if m.Opcode == gws.OpcodeBinary {
		said, cast, err := phoenix.DecodeBinary(m.Bytes())
		if err != nil {
			s.shut(closeProtocol, "not a binary message of Phoenix 2.0.0")
			return
		}
		s.noteRef(said)
		s.broadcast(said, cast)
		return
	}
	said, err := s.version.Decode(m.Bytes())
	if err != nil {
		s.shut(closeProtocol, "not a message of this vsn")
		return
	}
	s.noteRef(said)
	ctx, cancel := context.WithTimeout(context.Background(), messageMost)
	defer cancel()
	s.handle(ctx, said)
}

const (
	closeInternal  = 1011
	closeGoingAway = 1001 // what browsers say when a page is left
	closeProtocol  = 1002
	messageMost    = 8 * time.Second // that one message may take; clients wait for 10
)

// gone ends what the socket had: its subscriptions can be gone on with. left says that its page went away.
func (s *socket) gone(left bool) {
	s.mu.Lock()
	s.closed = true
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
	s.mu.Unlock()
	s.mu.Lock()
	for topic, a := range s.awaited {
		a.timeout.Stop()
		delete(s.awaited, topic)
	}
	s.mu.Unlock()
	for _, ch := range s.channels {
		ch.lose(left)
	}
	s.door.forget(s)
}

// handle answers a message.
func (s *socket) handle(ctx context.Context, m phoenix.Message) {
	switch {
	case m.Topic == phoenix.Socket && m.Event == phoenix.Heartbeat:
		s.say(s.version.Answer(m, "ok", struct{}{}))
	case m.Event == phoenix.Join:
		s.join(ctx, m)
	case m.Event == phoenix.Leave:
		s.forgetAwaited(m.Topic)
		if ch := s.channels[m.Topic]; ch != nil {
			ch.leave()
		}
		s.say(s.version.Answer(m, "ok", struct{}{}))
		s.say(s.version.Push(m.JoinRef, m.Topic, phoenix.Close, struct{}{}))
	case m.Event == phoenix.AccessToken:
		s.renew(ctx, m)
	case m.Event == phoenix.Broadcast && s.keepAwaited(m):
	case m.Event == phoenix.Broadcast:
		cast, err := phoenix.ParseCast(m.Payload)
		if err != nil {
			s.refuse(m, "a broadcast has an event and a payload")
			return
		}
		s.broadcast(m, cast)
	case m.Event == phoenix.Presence:
		s.refuse(m, "presence is not served here")
	default:
		s.refuse(m, "there is no event "+m.Event)
	}
}

func (s *socket) refuse(m phoenix.Message, reason string) {
	s.say(s.version.Answer(m, "error", map[string]string{"reason": reason}))
}

func (s *socket) noteRef(m phoenix.Message) {
	if n := m.Ref.Number(); n > s.lastRef.Load() {
		s.lastRef.Store(n)
	}
}

// countUser counts the socket for a user that joins on it.
func (s *socket) countUser(user uuid.UUID) error {
	if user == uuid.Nil || s.user != uuid.Nil {
		return nil
	}
	most := s.door.config.Limits.SocketsOfUser
	if !s.door.count(countOf(user), most) {
		return fmt.Errorf("this user has %d connections open: %w", most, errTooMany)
	}
	s.user = user
	s.counted = append(s.counted, countOf(user))
	return nil
}

var errTooMany = errors.New("close some")
