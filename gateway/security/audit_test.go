package security_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"darkroom/sql/taskdb"
)

// TestS33AuditRowsStay: "Audit rows cannot be changed by application roles." Nor by the owner of the table, short of taking the trigger away.
func TestS33AuditRowsStay(t *testing.T) {
	t.Parallel()
	none(t, auditFindings(newLab(t)))
}

// notAudited are columns of audited tables that stay out of the log, and why.
var notAudited = map[string]string{
	"users.email": "an address of a person", "users.created_at": "the entry has the time",
	"access_tokens.id": "the target", "access_tokens.label": "a text of a person", "access_tokens.prefix": "part of the token",
	"access_tokens.hash": "a secret's", "access_tokens.created_at": "the entry has the time", "access_tokens.last_used_at": "no act",
}

func auditFindings(l *lab) (findings []string) {
	l.t.Helper()
	ctx := l.t.Context()
	found := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	var last int64
	entries := func() []taskdb.AuditEntry {
		list, err := l.db.ListAudit(ctx, "", 1000, 0)
		l.must(err)
		fresh := slices.DeleteFunc(list, func(e taskdb.AuditEntry) bool { return e.ID <= last })
		if len(fresh) > 0 {
			last = fresh[0].ID
		}
		return fresh
	}
	entries()
	someone := l.person("audited", 7)
	token := taskdb.NewAccessToken{}
	for _, step := range []struct {
		name, by string
		act      func(db *taskdb.DB, tx pgx.Tx) error
		want     []string
	}{
		{"create_user and grant_credits", "", nil, []string{"INSERT credit_ledger " + someone.id.String() + ` {"seq": 1, "amount": 7.000}`, "INSERT users " + someone.id.String()}},
		{"create_access_token", "A", func(db *taskdb.DB, _ pgx.Tx) (err error) {
			token, err = db.CreateAccessToken(ctx, "user", canary, time.Hour, l.a.id)
			return err
		}, []string{"INSERT access_tokens"}},
		{"revoke_access_token", "service", func(db *taskdb.DB, _ pgx.Tx) error {
			_, err := db.RevokeAccessToken(ctx, token.ID)
			return err
		}, []string{`UPDATE access_tokens`}},
		{"grant_credits", "service", func(db *taskdb.DB, _ pgx.Tx) error {
			_, err := db.GrantCredits(ctx, l.a.id, taskdb.WholeCredits(5), "k", canary)
			return err
		}, []string{`INSERT credit_ledger ` + l.a.id.String()}},
		{"prices", "", func(_ *taskdb.DB, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "update task_types set base_price = 9 where name = 'single_image'")
			return err
		}, []string{`UPDATE task_types single_image {"base_price": 9`}},
		{"tools", "", func(_ *taskdb.DB, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "delete from tools where tool_id = 'image-generation'")
			return err
		}, []string{`DELETE tools image-generation`}},
		{"use of a token", "", func(_ *taskdb.DB, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "update darkroom.access_tokens set last_used_at = clock_timestamp()")
			return err
		}, nil},
	} {
		if step.act != nil {
			who := caller{}
			if step.by != "" {
				who = l.caller(step.by)
			}
			l.must(pgx.BeginFunc(ctx, l.pg.Pool, func(tx pgx.Tx) error {
				become(l.t, tx, who)
				return step.act(taskdb.New(tx), tx)
			}))
		}
		got := entries()
		if len(got) != len(step.want) {
			found("%s: %d entries, want %d", step.name, len(got), len(step.want))
			continue
		}
		for i, entry := range got {
			text := fmt.Sprintf("%s %s %s %s", entry.Act, entry.Object, entry.Target, entry.Details)
			if !strings.HasPrefix(text, step.want[i]) {
				found("%s: %s, want %s", step.name, text, step.want[i])
			}
			if step.by != "" && (entry.Role != l.caller(step.by).role || entry.Login == "" || (entry.Subject != nil) != (step.by == "A")) {
				found("%s: by %s %s %v", step.name, entry.Login, entry.Role, entry.Subject)
			}
			if strings.Contains(text, canary) || strings.Contains(text, "@") {
				found("%s: tells too much: %s", step.name, text)
			}
		}
	}

	for _, c := range append(l.callers, caller{name: "the owner"}) {
		for _, sql := range []string{
			"update darkroom.audit_log set login = 'x'", "delete from darkroom.audit_log", "truncate darkroom.audit_log",
			"insert into darkroom.audit_log (login, role, act, object, target, details) values ('x', 'x', 'INSERT', 'x', 'x', '{}')",
		} {
			l.try(c, func(tx pgx.Tx) {
				_, err := tx.Exec(ctx, sql)
				if got := code(err); got != "42501" && !(c.role == "" && got == "TD089") && !(c.role == "" && strings.HasPrefix(sql, "insert")) {
					found("%s, %s: %v", c.name, sql, err)
				}
			})
		}
	}

	// Every column is in the log, or has a reason why not.
	for _, column := range l.texts(`
		select c.relname || '.' || a.attname from pg_trigger t join pg_class c on c.oid = t.tgrelid
		join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		where t.tgname = 'audit' and c.relname <> 'credit_ledger' and strpos(pg_get_triggerdef(t.oid), quote_literal(a.attname)) = 0`) {
		if _, known := notAudited[column]; !known {
			found("%s is not in the audit log, and nothing says why", column)
		}
	}
	return findings
}
