package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/auth"
	"darkroom/gateway/functions"
	"darkroom/gateway/identity"
	ratelimit "darkroom/gateway/limits"
	"darkroom/gateway/objects"
	"darkroom/gateway/problem"
	"darkroom/gateway/realtime"
	"darkroom/gateway/rest"
	"darkroom/gateway/storage"
	"darkroom/gateway/web"
	"darkroom/sql/taskdb"
)

const (
	pathHealth = "/healthz"
	pathReady  = "/readyz"

	maxBodyBytes   = 2 << 20 // but see functions.MaxBytes
	maxHeaderBytes = 64 << 10
	minKeyBytes    = 16

	headerTimeout = 5 * time.Second // a client that sends its headers byte by byte
	readTimeout   = time.Minute     // headers and body
	writeTimeout  = time.Minute     // an answer
	idleTimeout   = 2 * time.Minute
	callTimeout   = 12 * time.Second // of one request in the database; Headless-Wan2GP waits 15 s for a claim
	drainTimeout  = 25 * time.Second // what is in flight when asked to stop; under the 30 s that container engines give
)

var errNoDatabase = errors.New("DATABASE_URL is not set: give the database as postgres://user:password@host:5432/darkroom")

// Config is what a gateway needs.
type Config struct {
	DatabaseURL string // PostgreSQL, migrated; the user is a member of the role authenticator and no more
	StorageURL  string // as storage.Open takes it, e.g. file:///var/lib/darkroom/media
	ServiceKey  string // opens everything; at least 16 characters
	AnonKey     string // opaque and public, for apps before anybody signs in; may be ""
	JWTSecret   string // signs access tokens, at least 32 characters; without it nobody signs in here
	JWKS        string // where the public keys of another issuer's JWTs are, as identity.Settings has it; may be ""
	JWTIssuer   string // what a JWT's iss must be; "" for anything
	JWTAudience string // what a JWT's aud must contain; "" for anything
	SignUp      bool   // whether anybody may sign up
	PublicURL   string // where callers find the gateway, such as https://tasks.example.com; "" as each request says
	MaxUpload   int64  // of a user's file, in bytes; 0 for objects.DefaultMaxUpload
	Log         *slog.Logger
	Guard       Guard // limits, other origins, proxies
	Upstream    Upstream
	Connections realtime.Limits // of WebSockets and streams; the zero value is realtime.DefaultLimits
	Dev         Door            // what only `gateway dev` has; nil for none
	// DrainNotice is how long /readyz says no before new connections are refused, so that a load balancer can look away.
	DrainNotice time.Duration
}

// Server is the gateway. Its methods are safe for concurrent use.
type Server struct {
	pool     *pgxpool.Pool
	as       *identity.DB
	bucket   *storage.Bucket
	doors    []Door
	objects  *objects.Door
	realtime *realtime.Door
	verifier *identity.Verifier
	log      *slog.Logger
	notice   time.Duration
	draining atomic.Bool
	guard    *guard
	headers  time.Duration // how long a client may take to send its headers
	request  time.Duration // and all of its request
	echo     *echo.Echo
}

// Open connects a gateway to its database and storage. It fails with one sentence when a setting is wrong, the database does not
// answer, its user may do more than a gateway needs, or migrations are pending, which it names. The caller closes it.
func Open(ctx context.Context, config Config) (*Server, error) {
	if len(config.ServiceKey) < minKeyBytes {
		return nil, fmt.Errorf("DARKROOM_SERVICE_KEY needs at least %d characters: set it to a random text, such as the output of `openssl rand -hex 32`", minKeyBytes)
	}
	if config.DatabaseURL == "" {
		return nil, errNoDatabase
	}
	if config.StorageURL == "" {
		return nil, errors.New("DARKROOM_STORAGE is not set: give a folder as file:///var/lib/darkroom/media")
	}
	pool, err := taskdb.OpenPool(ctx, config.DatabaseURL)
	if err != nil {
		return nil, err
	}
	err = taskdb.CheckLogin(ctx, pool, "authenticator")
	var pending []string
	if err == nil {
		pending, err = Pending(ctx, pool)
	}
	if err == nil && len(pending) > 0 {
		err = fmt.Errorf("the database lacks migrations (%s): run `gateway migrate`", strings.Join(pending, ", "))
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	keys := identity.Settings{
		ServiceKey: config.ServiceKey, AnonKey: config.AnonKey, JWTSecret: config.JWTSecret, JWKS: config.JWKS,
		Issuer: config.JWTIssuer, Audience: config.JWTAudience, Log: config.Log,
	}
	verifier, err := identity.NewVerifier(pool, keys)
	if err != nil {
		pool.Close()
		return nil, err
	}
	bucket, err := storage.Open(ctx, config.StorageURL)
	if err != nil {
		pool.Close()
		return nil, err
	}
	s := &Server{
		pool: pool, bucket: bucket, verifier: verifier, log: config.Log, notice: config.DrainNotice, headers: headerTimeout, request: readTimeout,
	}
	if s.as, err = identity.New(ctx, pool); err == nil {
		s.guard, err = newGuard(config, pool)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	// Workers upload also where nobody signs in. The signer makes a key of its own of the secret.
	signer := objects.NewSigner([]byte(cmp.Or(config.JWTSecret, config.ServiceKey)))
	signIn, err := auth.New(auth.Config{
		Pool: pool, Keys: keys, Verifier: verifier, SignUp: config.SignUp, Limit: s.guard.limiter.SignIn, Log: config.Log,
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	tables, err := tables(ctx, config, keys, s.as)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.objects = objects.New(objects.Config{
		Bucket: bucket, DB: s.as, Signer: signer, MaxUpload: cmp.Or(config.MaxUpload, objects.DefaultMaxUpload), Log: config.Log,
	})
	if s.realtime, err = realtime.New(ctx, realtime.Config{
		Pool: pool, DatabaseURL: config.DatabaseURL, Verifier: verifier, Issuer: issuerOf(keys), Origin: s.guard.isOrigin, Network: ratelimit.Network,
		Limits: connections(config), Log: config.Log,
	}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	console, err := newConsole(config, keys)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.doors = []Door{
		signIn, tables, s.objects, s.realtime, functions.New(functions.Config{DB: s.as, Bucket: bucket, Signer: signer, PublicURL: config.PublicURL, Log: config.Log}), console,
	}
	if config.Dev != nil {
		s.doors = append(s.doors, config.Dev)
	}
	s.echo = s.routes()
	return s, nil
}

// Door is one surface of the gateway, such as /rest/v1.
type Door interface {
	Routes(e *echo.Echo)
}

// issuerOf is the iss of the access tokens that are made here, "" where none are.
func issuerOf(keys identity.Settings) string {
	signer, err := identity.NewSigner(keys)
	if err != nil {
		return ""
	}
	return signer.Issuer()
}

// connections are the limits of WebSockets and streams. Where addresses are not limited, they may be those of a proxy.
func connections(config Config) realtime.Limits {
	if config.Connections != (realtime.Limits{}) {
		return config.Connections
	}
	limits := realtime.DefaultLimits()
	if config.Guard.Limits.Address == (ratelimit.Rate{}) {
		limits.SocketsOfAddress = 0
	}
	return limits
}

// newConsole makes the page that the gateway shows. Its public key is the one of the settings; without that it is one as `gateway keys` prints, and where
// nobody signs in here there is none.
func newConsole(config Config, keys identity.Settings) (*web.Door, error) {
	key := config.AnonKey
	if key == "" && config.JWTSecret != "" {
		signer, err := identity.NewSigner(keys)
		if err != nil {
			return nil, err
		}
		if key, err = signer.Key(identity.Anon); err != nil {
			return nil, err
		}
	}
	return web.New(web.Config{Key: key, Dev: config.Dev != nil, PublicURL: config.PublicURL})
}

// Close ends the connections to database and storage. To be called after Serve has returned.
func (s *Server) Close() error {
	if s.realtime != nil {
		s.realtime.Stop()
	}
	s.guard.close()
	s.pool.Close()
	return s.bucket.Close()
}

// routes is the table of all addresses. A later door adds its group here.
func (s *Server) routes() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = s.guard.clientAddress
	e.HTTPErrorHandler = s.answerError

	// Around everything, outermost first. Other origins come before the Verifier: preflights carry no key. What is forwarded leaves here, before the
	// limits of our own calls and without a key of ours.
	e.Use(requestID, s.accessLog, s.recoverPanic, securityHeaders, s.guard.cors, s.guard.byAddress, s.guard.forward, limits, ratelimit.Depth,
		s.verifier.Middleware(isOpen), s.guard.byCaller)

	e.GET(pathHealth, s.health)
	e.GET(pathReady, s.ready)

	for _, d := range s.doors {
		d.Routes(e)
	}
	return e
}

// Routes lists what the gateway answers: methods and paths, as the router has them. gateway/openapi.yaml describes each.
func (s *Server) Routes() []*echo.Route { return s.echo.Routes() }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.echo.ServeHTTP(w, r) }

// Listen opens the address to serve at, such as 127.0.0.1:8484.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	_, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("the address to listen on must look like 127.0.0.1:8484, not %q", address)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if isTaken(err) {
		return nil, fmt.Errorf("the address %s is taken by another program: end that one, or set DARKROOM_LISTEN to a free one such as 127.0.0.1:8485", address)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", address, err)
	}
	return listener, nil
}

// Serve answers requests until ctx ends. Then it drains: /readyz says no, after the notice new connections are refused, and
// requests in flight are finished, for 25 s at most. A clean end is nil.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	web := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.headers,
		ReadTimeout:       s.request,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // broken clients
	}
	keeping, stopKeeping := context.WithCancel(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() { s.objects.Run(keeping) })
	defer keeper.Wait()
	defer stopKeeping()

	ended := make(chan error, 1)
	go func() { ended <- web.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}

	s.draining.Store(true)
	time.Sleep(s.notice)
	s.realtime.Stop() // whose clients come back elsewhere
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := web.Shutdown(drain); err != nil {
		_ = web.Close()
		return fmt.Errorf("stopping: requests were still running after %s and were cut: %w", drainTimeout, err)
	}
	return nil
}

// answerError writes the answer to an error of any handler.
func (s *Server) answerError(err error, c echo.Context) {
	if path := c.Request().URL.Path; path == rest.Prefix || strings.HasPrefix(path, rest.Prefix+"/") { // what stood before its door
		status, body := rest.Answer(err, identity.Of(c))
		problem.Write(c, s.log, err, status, body)
		return
	}
	p := problem.From(err)
	status := problem.Status(p.Code)
	problem.Write(c, s.log, err, status, problem.Shape(c.Request().URL.Path, status, p))
}

func isTaken(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
