package taskdbtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/migrations"
	"darkroom/sql/localpg"
)

const (
	// startTimeout limits the start of the server and the making of the template, npm's fetch of PostgreSQL included.
	startTimeout = 5 * time.Minute
	// maxConnections of the temporary server: tests run in parallel, some with dozens of connections.
	maxConnections = "300"
	// maxPoolConns of a test's pool.
	maxPoolConns = 32
)

// cluster is the server on which the databases lie.
type cluster struct {
	url      string
	kept     bool // it outlives this program
	pool     *pgxpool.Pool
	strategy string // of create database
}

// server returns the cluster of this test program. A temporary one is ended by localpg's guard when the program ends.
var server = sync.OnceValues(func() (*cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c := &cluster{url: os.Getenv(EnvURL), kept: true, strategy: "wal_log"}
	if c.url == "" {
		temporary, err := localpg.Start(ctx, localpg.Config{
			Settings: map[string]string{"max_connections": maxConnections, "max_locks_per_transaction": "128"},
			Log:      os.Stderr,
		})
		if err != nil {
			return nil, err
		}
		// Without fsync a file copy is twice as fast as writing the copy to the log.
		c = &cluster{url: temporary.URL(), strategy: "file_copy"}
	}
	var err error
	if c.pool, err = pgxpool.New(ctx, c.url); err != nil {
		return nil, fmt.Errorf("%s: %w", EnvURL, err)
	}
	return c, nil
})

// migratedTemplate returns the name of the database that all tests copy, made when the server has none for these migrations.
var migratedTemplate = sync.OnceValues(func() (string, error) {
	c, err := server()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	digest, err := hash(migrations.FS)
	if err != nil {
		return "", err
	}
	name := "darkroom_template_" + digest
	if err := c.makeTemplate(ctx, name); err != nil {
		return "", fmt.Errorf("making the template %s: %w", name, err)
	}
	return name, nil
})

// hash tells one set of migrations from another.
func hash(files fs.FS) (string, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return "", fmt.Errorf("reading the migrations: %w", err)
	}
	digest := sha256.New()
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return "", fmt.Errorf("reading the migrations: %w", err)
		}
		fmt.Fprintf(digest, "%s %d\n%s", name, len(content), content)
	}
	return hex.EncodeToString(digest.Sum(nil)[:8]), nil
}

// makeTemplate makes the template unless it is there. A lock keeps several test programs apart; one that was killed on the way leaves a database that
// is not marked as a template, which is made anew.
func (c *cluster) makeTemplate(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	defer conn.Close(context.WithoutCancel(ctx)) // it gives up the lock either way
	if _, err := conn.Exec(ctx, "select pg_advisory_lock(hashtext('darkroom test template'))"); err != nil {
		return err //nolint:wrapcheck // as above
	}
	var ready bool
	err = conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1 and datistemplate)", name).Scan(&ready)
	if err != nil || ready {
		return err //nolint:wrapcheck // as above
	}
	for _, sql := range []string{"drop database if exists " + name + " with (force)", "create database " + name + " template template0"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err //nolint:wrapcheck // as above
		}
	}
	if err := migrations.Up(ctx, withDatabase(c.url, name), migrations.FS); err != nil {
		return err
	}
	for _, sql := range []string{
		// The migrator's connection may take a moment to end, and nobody may be connected to what is copied.
		"select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '" + name + "'",
		"alter database " + name + " with is_template true allow_connections false",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err //nolint:wrapcheck // as above
		}
	}
	return nil
}

// clone makes a database as a copy of another.
func (c *cluster) clone(ctx context.Context, name, source string) error {
	if _, err := c.pool.Exec(ctx, "create database "+name+" template "+source+" strategy "+c.strategy); err != nil {
		return fmt.Errorf("copying %s: %w", source, err)
	}
	return nil
}

func randomName() string { return "test_" + strings.ToLower(rand.Text()[:16]) }

// withDatabase returns the connection string with another database.
func withDatabase(server, database string) string {
	address, err := url.Parse(server)
	if err != nil || address.Scheme == "" {
		return server + " dbname=" + database // keywords and values; the last one wins
	}
	address.Path = "/" + database
	return address.String()
}
