package limits

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
	"darkroom/gateway/problem"
)

// Sign-ins that may be tried, whether they succeed or not.
var (
	signInsOfEmail   = Rate{PerSecond: 10. / 300, Burst: 10}
	signInsOfAddress = Rate{PerSecond: 30. / 300, Burst: 30}
)

// unlimited are the functions, by either name, that a worker calls about work which it has in hand. To refuse one would throw the work away: an
// unmodified Headless-Wan2GP reports a task as Failed whose completion it could not deliver.
var unlimited = map[string]bool{
	"complete_task": true, "complete_tasks": true, "process_completed_task": true, "fail_task": true, "release_task": true, "update_task_status": true,
	"generate_upload_url": true, "heartbeat_worker": true, "func_worker_heartbeat_with_logs": true, "report_progress": true,
}

// IsUnlimited reports whether no limit of rate holds for a request: completions, heartbeats, uploads of outputs, and the checks of health.
func IsUnlimited(r *http.Request) bool {
	path := r.URL.Path
	switch r.Method {
	case http.MethodPost:
		name, found := strings.CutPrefix(path, "/functions/v1/")
		if !found {
			name, found = strings.CutPrefix(path, "/rest/v1/rpc/")
		}
		return found && unlimited[strings.ReplaceAll(name, "-", "_")]
	case http.MethodPut:
		return strings.HasPrefix(path, "/storage/v1/object/upload/sign/")
	}
	return path == "/healthz" || path == "/readyz"
}

// ByAddress limits the requests of each address, before it is known whose they are. Those of whom trusted says yes pass.
func (l *Limiter) ByAddress(trusted func(*http.Request) bool) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if r := c.Request(); !l.settings.Address.unlimited() && !IsUnlimited(r) && !trusted(r) {
				if wait, ok := l.take(r.Context(), "address", Network(c.RealIP()), l.settings.Address); !ok {
					return refuse(c, wait, "This address sends too many requests.")
				}
			}
			return next(c)
		}
	}
}

// ByCaller limits the requests of each key, and those of all keys of an owner together to twice that: so a key gone wild does not shut its owner out.
// The service's key has no limit; neither has the public key, which is everybody's: those who have no other are told apart by their addresses.
func (l *Limiter) ByCaller(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		who := identity.Of(c)
		if l.settings.Key.unlimited() || IsUnlimited(c.Request()) || (who.Role != identity.Authenticated && who.Role != identity.Worker) {
			return next(c)
		}
		ctx := c.Request().Context()
		if wait, ok := l.take(ctx, "key", who.Key, l.settings.Key); !ok {
			return refuse(c, wait, "This key sends too many requests.")
		}
		if who.Subject != uuid.Nil {
			both := Rate{PerSecond: 2 * l.settings.Key.PerSecond, Burst: 2 * l.settings.Key.Burst}
			if wait, ok := l.take(ctx, "owner", who.Subject.String(), both); !ok {
				return refuse(c, wait, "The keys of this user send too many requests.")
			}
		}
		return next(c)
	}
}

// SignIn limits how often a password is tried: 10 times in 5 minutes for an e-mail address, 30 times from an address of the network. email may be "".
// The refusal has the code GW012, and the answer's Retry-After is set.
func (l *Limiter) SignIn(c echo.Context, email string) error {
	ctx := c.Request().Context()
	if wait, ok := l.take(ctx, "sign-in from", Network(c.RealIP()), signInsOfAddress); !ok {
		return refuse(c, wait, "This address tries to sign in too often.")
	}
	if email = strings.ToLower(strings.TrimSpace(email)); email != "" {
		if wait, ok := l.take(ctx, "sign-in of", email, signInsOfEmail); !ok {
			return refuse(c, wait, "Too many tried to sign in with this e-mail address.")
		}
	}
	return nil
}

func refuse(c echo.Context, wait time.Duration, details string) error {
	seconds := int(math.Ceil(wait.Seconds()))
	c.Response().Header().Set(echo.HeaderRetryAfter, strconv.Itoa(max(seconds, 1)))
	return problem.Refuse(problem.TooMany, details)
}

// Network is who is limited for an address: IPv4 addresses one by one, and of IPv6 the 64 bits that a customer has at least.
func Network(address string) string {
	const customer = 64
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "" // a connection without an address, as of a test
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.Prefix(customer)
	if err != nil {
		return ip.String()
	}
	return prefix.String()
}

// ClientAddress says how to find the address of a client: it is that of the connection, unless that is a proxy of these networks. Their X-Forwarded-For is
// believed, from its end on, as far as it names such proxies. Networks are as 10.0.0.0/8, a single address may stand alone.
func ClientAddress(proxies []string) (echo.IPExtractor, error) {
	if len(proxies) == 0 {
		return echo.ExtractIPDirect(), nil
	}
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, text := range proxies {
		prefix, err := netip.ParsePrefix(text)
		if address, alone := netip.ParseAddr(text); alone == nil {
			prefix, err = address.Prefix(address.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("%q %w", text, errNetwork)
		}
		options = append(options, echo.TrustIPRange(asIPNet(prefix)))
	}
	return echo.ExtractIPFromXFFHeader(options...), nil
}

var errNetwork = errors.New("is no network such as 10.0.0.0/8 or 2001:db8::/32")

func asIPNet(prefix netip.Prefix) *net.IPNet {
	prefix = prefix.Masked()
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}
