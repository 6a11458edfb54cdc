package taskdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// CheckLogin refuses, in one sentence, a connection whose login could pass by Darkroom's rules: a superuser, the owner of the tables, and the like; and
// one that is no member of the group, authenticator for a gateway and worker for a workerd. A database without migrations is not refused.
func CheckLogin(ctx context.Context, db Querier, group string) error {
	var pg *pgconn.PgError
	rows, _ := db.Query(ctx, "select session_user::text, auth.login_fault(), pg_has_role(session_user, $1::name, 'member')", group) // rows have the error
	type login struct {
		name   string
		fault  *string
		member bool
	}
	found, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (l login, err error) {
		err = row.Scan(&l.name, &l.fault, &l.member)
		return l, err //nolint:wrapcheck // wrapped below
	})
	const remedy = "let `gateway migrate` make one, or write: create role … login password '…' in role "
	switch {
	case err == nil && found.fault != nil:
		return fmt.Errorf("the database's user %s must not be used by this program, because %s: %s%s", found.name, *found.fault, remedy, group)
	case err == nil && !found.member:
		return fmt.Errorf("the database's user %s must be a member of the role %s: %s%s", found.name, group, remedy, group)
	case err == nil:
		return nil
	case errors.As(err, &pg) && pg.Code == "42501": // insufficient_privilege
		return fmt.Errorf("the database's user must be a member of the role %s: %s%s", group, remedy, group)
	case errors.As(err, &pg) && (pg.Code == "3F000" || pg.Code == "42883" || pg.Code == "42704"): // no such schema, function, role
		return nil
	}
	return fmt.Errorf("taskdb: checking the login: %w", err)
}
