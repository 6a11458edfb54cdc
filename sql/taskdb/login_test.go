package taskdb_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"darkroom/migrations"
	"darkroom/sql/taskdb"
)

// checkLogin makes a login, changes it, and says what is wrong with it.
func (b *bench) checkLogin(group, change string) string {
	b.t.Helper()
	address := b.pg.Login(b.t, group)
	config, err := pgx.ParseConfig(address)
	b.noError(err)
	if change != "" {
		b.exec(strings.ReplaceAll(change, "$login", config.User))
	}
	conn, err := pgx.ConnectConfig(b.t.Context(), config)
	b.noError(err)
	defer conn.Close(b.t.Context())
	if err := taskdb.CheckLogin(b.t.Context(), conn, group); err != nil {
		return err.Error()
	}
	return ""
}

func TestS4LoginsThatCouldPassByTheRulesAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, 0)
	for _, group := range []string{"authenticator", "worker"} {
		for change, want := range map[string]string{
			"":                             "",
			"alter role $login superuser":  "it is a superuser",
			"alter role $login bypassrls":  "it bypasses row security",
			"alter role $login createrole": "it may make roles",
			"grant service_role to $login": "it is the service",
			"create table owned (); alter table owned owner to $login": "it owns tables",
		} {
			if got := b.checkLogin(group, change); !strings.Contains(got, want) || (want == "") != (got == "") {
				t.Errorf("%s, %s: %q", group, change, got)
			}
			b.exec("drop table if exists owned")
		}
	}
}

// The logins that `gateway migrate` makes are made once, may get another password, and can do no DDL. That the password is right, the tests of
// `gateway dev` say, which connect by TCP.
func TestS4TheLoginsOfThePrograms(t *testing.T) {
	t.Parallel()
	b := setup(t, 0)
	ctx := t.Context()
	for group, login := range map[string]migrations.Login{"authenticator": migrations.GatewayLogin, "worker": migrations.WorkerdLogin} {
		for _, password := range []string{"", "short", strings.Repeat("a", 15), "with blanks in it 123", "ümlaute-in-the-password"} {
			if err := login.Set(ctx, b.pg.URL, password); err == nil || !strings.Contains(err.Error(), "at least 16 characters") {
				t.Errorf("%q: %v", password, err)
			}
		}
		b.noError(login.Set(ctx, b.pg.URL, "a-password's-first'\"$$"))
		b.noError(login.Set(ctx, b.pg.URL, "password-number-two"))
		config, err := pgx.ParseConfig(b.pg.URL)
		b.noError(err)
		config.User, config.Password = login.Name, "password-number-two"
		conn, err := pgx.ConnectConfig(ctx, config)
		b.noError(err)
		b.noError(taskdb.CheckLogin(ctx, conn, group))
		for _, statement := range []string{
			"create table public.x ()", "create schema x", "alter table public.tasks disable row level security", "drop table public.tasks",
			"create function public.x() returns int language sql as 'select 1'", "alter function auth.uid() security definer", "create role x",
			"set role pg_read_all_data", "select * from darkroom.access_tokens", "truncate public.tasks", "alter role " + login.Name + " superuser",
			"select erase_user(gen_random_uuid())",
		} {
			if _, err := conn.Exec(ctx, statement); err == nil || !strings.Contains(err.Error(), "42501") {
				t.Errorf("%s: %s: %v", login.Name, statement, err)
			}
		}
		b.noError(conn.Close(ctx))
	}
}
