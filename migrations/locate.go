package migrations

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// failedStatement is a tracer that remembers the last statement that failed.
type failedStatement struct{ sql string }

type statementKey struct{}

func (f *failedStatement) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, statementKey{}, data.SQL)
}

func (f *failedStatement) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	if sql, ok := ctx.Value(statementKey{}).(string); ok && data.Err != nil {
		f.sql = sql
	}
}

// Locate says where in the file, of that name and text, the statement failed: file, line, column and the line's text, as far as the server told
// a position.
func Locate(name, file, statement string, failure *pgconn.PgError) string {
	runes := []rune(statement)
	at := int(failure.Position) - 1
	told := at >= 0 && at < len(runes)
	if !told {
		at = 0
	}
	before := string(runes[:at])
	lineInStatement := strings.Count(before, "\n")
	column := len([]rune(before[strings.LastIndex(before, "\n")+1:])) + 1
	lines := strings.Split(statement, "\n")

	line := findLine(strings.Split(file, "\n"), lines, lineInStatement)
	if line == 0 {
		return name
	}
	text := strings.TrimSpace(lines[lineInStatement])
	if !told {
		return fmt.Sprintf("%s: the statement at line %d (%s)", name, line, text)
	}
	return fmt.Sprintf("%s: line %d, column %d (%s)", name, line, column, text)
}

// findLine returns the number in the file, from 1, of the statement's line with the given index; 0 when the statement is not found.
func findLine(file, statement []string, index int) int {
	for start := range file {
		if at, found := align(file[start:], statement, index); found {
			return start + at + 1
		}
	}
	return 0
}

// align tells whether the file goes on with the statement, and at which line of it the statement's line with the given index stands. goose drops some
// blank and comment lines from statements, so those may stand between.
func align(file, statement []string, index int) (at int, found bool) {
	matched := 0
	for i, line := range file {
		switch {
		case strings.TrimSpace(line) == strings.TrimSpace(statement[matched]):
			if matched == index {
				at = i
			}
			matched++
		case matched == 0 || !skippable(line):
			return 0, false
		}
		if matched == len(statement) {
			return at, true
		}
	}
	return 0, false
}

func skippable(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || strings.HasPrefix(line, "--")
}
