package taskdb

import (
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// WithTLS returns a connection string for which the server must prove who it is: one that says nothing of TLS (sslmode, or PGSSLMODE in the environment)
// and names another machine gets sslmode=verify-full. PostgreSQL's own default, prefer, would send the password to whoever answers. Sockets and loopback
// addresses stay as they are, and so does what somebody wrote down: sslmode=disable for a network that nobody else is in.
func WithTLS(url string) (string, error) {
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		return "", fmt.Errorf("taskdb: the database URL cannot be read: %w", err)
	}
	if os.Getenv("PGSSLMODE") != "" || strings.Contains(url, "sslmode") || config.TLSConfig != nil && !config.TLSConfig.InsecureSkipVerify {
		return url, nil
	}
	local := isLocal(config.Host)
	for _, other := range config.Fallbacks {
		local = local && isLocal(other.Host)
	}
	switch {
	case local:
		return url, nil
	case !strings.Contains(url, "://"):
		return strings.TrimSpace(url + " sslmode=verify-full"), nil // keywords and values
	case strings.Contains(url, "?"):
		return url + "&sslmode=verify-full", nil
	}
	return url + "?sslmode=verify-full", nil
}

// isLocal tells whether a host is this machine: a folder of sockets, or a loopback address.
func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || host == "localhost" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || ip != nil && ip.IsLoopback()
}
