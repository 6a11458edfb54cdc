package upstream

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"darkroom/gateway/problem"
)

// passTimeout is how long one request and its answer may take; a WebSocket has no limit.
const passTimeout = time.Hour

// DefaultPrefixes are what a Supabase project has and the gateway has not.
func DefaultPrefixes() []string { return []string{"/graphql/v1"} }

// Project forwards prefixes to a Supabase project.
type Project struct {
	proxy    *proxy
	prefixes []string
	service  [sha256.Size]byte // our service key
}

// NewProject makes a Project from its address, the prefixes that go there, such as /realtime/v1 or /functions/v1/my-own, and our service key, which
// never does.
func NewProject(address string, prefixes []string, serviceKey string, log *slog.Logger) (*Project, error) {
	target, err := parse(address, isLoopback)
	if err != nil {
		return nil, fmt.Errorf("the address of the project behind %w", err)
	}
	for _, prefix := range prefixes {
		if u, err := url.Parse(prefix); err != nil || u.Path != prefix || !strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/") || !isStraight(u) {
			return nil, fmt.Errorf("%q is no prefix such as /realtime/v1", prefix)
		}
	}
	return &Project{newProxy(target, log), slices.Clone(prefixes), sha256.Sum256([]byte(serviceKey))}, nil
}

// Middleware forwards the requests of the prefixes and passes on the others. It stands before the callers are found out: the project behind knows its
// own.
func (p *Project) Middleware(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if !slices.ContainsFunc(p.prefixes, func(prefix string) bool { return isUnder(r.URL, prefix) }) {
			return next(c)
		}
		if p.carriesOurs(r) {
			return problem.Refuse(problem.Unauthorized, "This address belongs to the project behind the gateway: send its own key or a user's token.")
		}
		if err := setDeadlines(c); err != nil {
			return err
		}
		return p.proxy.pass(c, func(*http.Request) {})
	}
}

// ourToken is a personal access token, wherever it stands.
var ourToken = regexp.MustCompile(`dr_(worker|user)_[0-9a-f]{16}`)

// carriesOurs reports whether a request carries a credential that is ours alone: in any header, or in the query.
func (p *Project) carriesOurs(r *http.Request) bool {
	isService := func(text string) bool {
		hash := sha256.Sum256([]byte(text))
		return subtle.ConstantTimeCompare(hash[:], p.service[:]) == 1
	}
	for _, values := range r.Header {
		for _, value := range values {
			_, token, _ := strings.Cut(value, " ") // after Bearer
			if ourToken.MatchString(value) || isService(strings.TrimSpace(value)) || isService(strings.TrimSpace(token)) {
				return true
			}
		}
	}
	for _, values := range r.URL.Query() {
		for _, value := range values {
			if ourToken.MatchString(value) || isService(value) {
				return true
			}
		}
	}
	return ourToken.MatchString(r.URL.Path)
}

// setDeadlines gives a request time for large files and slow answers.
func setDeadlines(c echo.Context) error {
	until, control := time.Now().Add(passTimeout), http.NewResponseController(c.Response())
	err := errors.Join(control.SetReadDeadline(until), control.SetWriteDeadline(until))
	if err != nil && !errors.Is(err, http.ErrNotSupported) { // a test's recorder has none
		return fmt.Errorf("setting the deadlines of a forwarded request: %w", err)
	}
	return nil
}
