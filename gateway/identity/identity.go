// Package identity says who calls the gateway, and runs what they ask for in the database as them.
//
// [Verifier] turns a key, a JWT or a personal access token into an [Identity]. [DB] opens a transaction in which PostgreSQL knows that identity: its
// role, and its claims in request.jwt.claims, both for that transaction only, so that a pooled connection can never carry them to somebody else.
package identity

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
)

// Role is the database role that a request runs as.
type Role string

// The roles. Anon is somebody with no more than the public key.
const (
	Anon          Role = "anon"
	Authenticated Role = "authenticated"
	Worker        Role = "worker"
	Service       Role = "service_role"
)

// Identity is who calls.
type Identity struct {
	Role    Role
	Subject uuid.UUID       // the user; uuid.Nil for anon, the service, and workers of all users
	Token   uuid.UUID       // the personal access token; uuid.Nil without one
	Claims  json.RawMessage // a JSON object, for request.jwt.claims
	Key     string          // names the caller for limits, such as "user:<id>"; no secret
}

const contextKey = "darkroom.identity"

// Of returns who made the request. Before a Verifier has seen it that is nobody: the zero Identity, with which [DB.As] does nothing.
func Of(c echo.Context) Identity {
	who, _ := c.Get(contextKey).(Identity)
	return who
}

// Set notes who made the request.
func Set(c echo.Context, who Identity) { c.Set(contextKey, who) }

// DB runs transactions as callers.
type DB struct {
	pool   *pgxpool.Pool
	limits map[Role]settings
}

// settings are limits of a role, in PostgreSQL's words, such as "8s"; "0" is none.
type settings struct{ statement, lock, idle string }

// New reads the limits of the roles from the database, which ALTER ROLE sets. SET ROLE alone would not apply them.
func New(ctx context.Context, pool *pgxpool.Pool) (*DB, error) {
	d := &DB{pool: pool, limits: map[Role]settings{}}
	rows, err := pool.Query(ctx, "select role_name, statement_timeout, lock_timeout, idle_in_transaction_session_timeout from auth.role_limits()")
	if err != nil {
		return nil, fmt.Errorf("reading the limits of the roles: %w", err)
	}
	var role Role
	var limit settings
	_, err = pgx.ForEachRow(rows, []any{&role, &limit.statement, &limit.lock, &limit.idle}, func() error {
		d.limits[role] = limit
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the limits of the roles: %w", err)
	}
	return d, nil
}

// As runs do in a transaction of the caller, and commits it if do returns nil.
func (d *DB) As(ctx context.Context, who Identity, access pgx.TxAccessMode, do func(tx pgx.Tx) error) error {
	begin := d.begin(who, Work{})
	args := make([]any, len(begin.Params))
	for i, param := range begin.Params {
		args[i] = string(param)
	}
	return pgx.BeginTxFunc(ctx, d.pool, pgx.TxOptions{AccessMode: access}, func(tx pgx.Tx) error { //nolint:wrapcheck // what do returns must stay what it is
		_, err := tx.Exec(ctx, begin.SQL, args...)
		if err != nil {
			return fmt.Errorf("becoming %s: %w", who.Role, err)
		}
		return do(tx)
	})
}

// Pool is the gateway's own connection, with the rights of the role authenticator: sign-in, tokens and limits, and nothing of any user.
func (d *DB) Pool() *pgxpool.Pool { return d.pool }
