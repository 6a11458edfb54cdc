package migrations

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"

	"darkroom/sql/taskdb"
)

// Login is a database role that a program logs in as. By itself it may do nothing: its group says what.
type Login struct{ Name, group, settings string }

// The logins. Their settings are a backstop: the gateway gives each request the limits of its role, and workerd each call its own.
var (
	GatewayLogin = Login{"darkroom_gateway", "authenticator", "set statement_timeout = '30s'; set lock_timeout = '10s'; set idle_in_transaction_session_timeout = '30s'"}
	WorkerdLogin = Login{"darkroom_workerd", "worker", "set lock_timeout = '30s'; set idle_in_transaction_session_timeout = '1min'"}
)

const minPassword = 16 // characters

// Set makes the login, or gives it this password. owner is the connection string of the database's owner, who may make roles. The password itself is not sent: the server gets
// what it would keep of it, so that no log of statements has it.
func (l Login) Set(ctx context.Context, owner, password string) error {
	if len(password) < minPassword || strings.ContainsFunc(password, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("the password of %s needs at least %d characters, printable ASCII without blanks: take the output of `openssl rand -hex 24`", l.Name, minPassword)
	}
	verifier, err := scram(password)
	if err != nil {
		return err
	}
	if owner, err = taskdb.WithTLS(owner); err != nil {
		return fmt.Errorf("making the login %s: %w", l.Name, err)
	}
	conn, err := pgx.Connect(ctx, owner)
	if err != nil {
		return fmt.Errorf("making the login %s: %w", l.Name, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	statements := []string{
		"do $$ begin create role " + l.Name + "; exception when duplicate_object or unique_violation then null; end $$",
		"alter role " + l.Name + " login password '" + verifier + "'",
		"grant " + l.group + " to " + l.Name,
	}
	for setting := range strings.SplitSeq(l.settings, "; ") {
		statements = append(statements, "alter role "+l.Name+" "+setting)
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Roles belong to all databases of the server: two that change one at once would fail.
		_, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtextextended('darkroom logins', 0))")
		for i := 0; err == nil && i < len(statements); i++ {
			_, err = tx.Exec(ctx, statements[i])
		}
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("making the login %s, for which the user of the database must be allowed to make roles: %w", l.Name, err)
	}
	return nil
}

// scram is what PostgreSQL keeps of a password (RFC 5803, with the parameters of PostgreSQL's own encryption).
func scram(password string) (string, error) {
	const iterations = 4096
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", errors.Join(errors.New("encrypting a password"), err)
	}
	sign := func(text string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode(salt), encode(stored[:]), encode(sign("Server Key"))), nil
}

// URL returns the connection string of the login: the owner's, a URL or keywords and values, with another user.
func (l Login) URL(owner, password string) string {
	address, err := url.Parse(owner)
	if err != nil || address.Scheme == "" {
		return owner + " user=" + l.Name + " password=" + password // the last one wins
	}
	address.User = url.UserPassword(l.Name, password)
	query := address.Query()
	query.Del("user")
	query.Del("password")
	address.RawQuery = query.Encode()
	return address.String()
}
