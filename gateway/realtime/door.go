package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/lxzan/gws"

	"darkroom/gateway/identity"
	"darkroom/gateway/realtime/eventlog"
	"darkroom/gateway/realtime/filter"
	"darkroom/gateway/realtime/hub"
)

// Addresses of the door.
const (
	PathSocket    = "/realtime/v1/websocket"
	PathBroadcast = "/realtime/v1/api/broadcast"
	PathCast      = "/realtime/v1/api/broadcast/:topic/events/:event"
	PathStream    = "/projects/:id/events"
)

// Streams tells whether a route is one whose answer has no end.
func Streams(pattern string) bool { return pattern == PathSocket || pattern == PathStream }

// Limits are how many connections there may be; 0 is no limit.
type Limits struct {
	SocketsOfAddress int // of an address of the network
	SocketsOfUser    int
	StreamsOfUser    int
}

// DefaultLimits are the limits of a gateway.
func DefaultLimits() Limits {
	return Limits{SocketsOfAddress: 500, SocketsOfUser: 100, StreamsOfUser: 20}
}

// Config is what a Door needs.
type Config struct {
	Pool        *pgxpool.Pool
	DatabaseURL string // of the same database, for a connection that listens
	Verifier    *identity.Verifier
	Issuer      string                      // of the access tokens made here; "" for none
	Origin      func(origin string) bool    // whether pages of another origin may call
	Network     func(address string) string // whom a limit of addresses counts
	Limits      Limits
	Log         *slog.Logger
}

// Door is /realtime/v1 and the streams. Its methods are safe for concurrent use.
type Door struct {
	config   Config
	log      *slog.Logger
	events   *eventlog.Log
	hub      *hub.Hub
	leases   *leases
	tables   map[string]table
	names    []string
	upgrader *gws.Upgrader
	stop     context.CancelFunc
	work     sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	sockets map[*socket]struct{}
	topics  map[string]map[*channel]struct{}
	counts  map[string]int // connections, by whom they count for
	joins   map[uuid.UUID]*bucket
}

// table is one whose changes can be subscribed to.
type table struct {
	columns  []filter.Column
	json     []byte // the columns
	ownRules bool
}

// New makes a Door and begins to follow the log. The caller closes it.
func New(ctx context.Context, config Config) (*Door, error) {
	d := &Door{
		config: config, log: config.Log, sockets: map[*socket]struct{}{}, topics: map[string]map[*channel]struct{}{}, counts: map[string]int{},
		joins: map[uuid.UUID]*bucket{}, tables: map[string]table{},
	}
	if err := d.readTables(ctx); err != nil {
		return nil, err
	}
	d.events = eventlog.New(config.Pool, config.DatabaseURL, config.Log)
	var err error
	d.hub, err = hub.New(ctx, hub.Config{Log: d.events, Pool: config.Pool, Verifier: config.Verifier, Issuer: config.Issuer, Logger: config.Log})
	if err != nil {
		return nil, err
	}
	d.leases = newLeases(config.Pool, d.hub, config.Log)
	if err := d.leases.write(ctx); err != nil { // a lease says nothing without its gateway
		return nil, err
	}
	d.upgrader = newUpgrader()
	var running context.Context
	running, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	ready := make(chan struct{})
	d.work.Go(func() { d.hub.Run(running, ready) })
	<-ready
	d.work.Go(func() { d.leases.run(running) })
	return d, nil
}

// readTables asks which tables there are. Policies that somebody adds later are noticed when the gateway starts anew.
func (d *Door) readTables(ctx context.Context) error {
	rows, err := d.config.Pool.Query(ctx, "select table_name, columns, own_rules from auth.realtime_tables() order by table_name")
	if err != nil {
		return fmt.Errorf("asking for the tables of realtime: %w", err)
	}
	var name string
	var t table
	_, err = pgx.ForEachRow(rows, []any{&name, &t.json, &t.ownRules}, func() error {
		read := table{ownRules: t.ownRules}
		if err := json.Unmarshal(t.json, &read.columns); err != nil {
			return fmt.Errorf("reading columns: %w", err)
		}
		var err error
		if read.json, err = json.Marshal(read.columns); err != nil { // without blanks
			return fmt.Errorf("writing columns: %w", err)
		}
		d.tables[name] = read
		d.names = append(d.names, name)
		return nil
	})
	if err != nil {
		return fmt.Errorf("asking for the tables of realtime: %w", err)
	}
	if d.tables["projects"].ownRules { // all others ask whose project it is
		for name, t := range d.tables {
			t.ownRules = true
			d.tables[name] = t
		}
	}
	return nil
}

// Routes adds the addresses.
func (d *Door) Routes(e *echo.Echo) {
	e.GET(PathSocket, d.open)
	e.POST(PathBroadcast, d.postBroadcasts)
	e.POST(PathCast, d.postBroadcast)
	e.GET(PathStream, d.stream)
}

// Stop ends all connections so that their clients go on elsewhere, and writes down how far they have come. It may be repeated.
func (d *Door) Stop() {
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	d.stop()
	d.work.Wait()
	d.mu.Lock()
	open := make([]*socket, 0, len(d.sockets))
	for s := range d.sockets {
		open = append(open, s)
	}
	d.mu.Unlock()
	var closing sync.WaitGroup
	for _, s := range open {
		closing.Go(func() { s.shut(closeRestart, "the gateway stops: reconnect") })
	}
	closing.Wait()
}

// count counts a connection for somebody, unless they have as many as they may.
func (d *Door) count(whom string, most int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if most > 0 && d.counts[whom] >= most {
		return false
	}
	d.counts[whom]++
	return true
}

func (d *Door) uncount(whom string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.counts[whom]--; d.counts[whom] <= 0 {
		delete(d.counts, whom)
	}
}

// mayJoin bounds how many channels a user joins in a while, on all connections together: each join leaves a lease.
func (d *Door) mayJoin(user uuid.UUID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.joins) > maxJoiners { // those are full again
		clear(d.joins)
	}
	if d.joins[user] == nil {
		d.joins[user] = &bucket{}
	}
	return user == uuid.Nil || d.joins[user].take(time.Now(), userJoinsPerSecond, userJoinsBurst)
}

const (
	userJoinsPerSecond = 50
	userJoinsBurst     = 1000
	maxJoiners         = 10_000
)

func countOf(user uuid.UUID) string { return "user " + user.String() }

// isOrigin tells whether a page that opens a socket may: one of the gateway's own, or of an origin that may call.
func (d *Door) isOrigin(r *http.Request) bool {
	origin := r.Header.Get(echo.HeaderOrigin)
	return origin == "" || origin == "http://"+r.Host || origin == "https://"+r.Host || d.config.Origin(origin)
}
