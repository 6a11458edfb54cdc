package taskdb_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"darkroom/sql/taskdb"
)

// source is this package, as far as its calls go.
type source struct {
	calls   map[string]goCall   // by the name of the Go variable
	results map[string]string   // name of the variable -> type of a row or value
	tags    map[string][]string // struct -> db tags
	json    map[string][]string // struct -> json names
}

type goCall struct{ function, sql string }

func readSource(t *testing.T) source {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	s := source{map[string]goCall{}, map[string]string{}, map[string][]string{}, map[string][]string{}}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s.read(n)
			return true
		})
	}
	return s
}

func (s source) read(n ast.Node) {
	switch n := n.(type) {
	case *ast.ValueSpec: // callX = call{"function", "sql"}
		for i, v := range n.Values {
			if lit, ok := v.(*ast.CompositeLit); ok && isIdent(lit.Type, "call") {
				s.calls[n.Names[i].Name] = goCall{unquote(lit.Elts[0]), unquote(lit.Elts[1])}
			}
		}
	case *ast.CallExpr: // rowsOf[T](ctx, db, callX, ...)
		index, ok := n.Fun.(*ast.IndexExpr)
		if ok && (isIdent(index.X, "rowsOf") || isIdent(index.X, "rowOf") || isIdent(index.X, "valueOf")) {
			if called, ok := n.Args[2].(*ast.Ident); ok {
				s.results[called.Name] = typeName(index.Index)
			}
		}
	case *ast.TypeSpec:
		if fields, ok := n.Type.(*ast.StructType); ok {
			for _, field := range fields.Fields.List {
				if field.Tag == nil {
					continue
				}
				tag := reflect.StructTag(unquote(field.Tag))
				if column := tag.Get("db"); column != "" {
					s.tags[n.Name.Name] = append(s.tags[n.Name.Name], column)
				}
				name, _, _ := strings.Cut(tag.Get("json"), ",")
				s.json[n.Name.Name] = append(s.json[n.Name.Name], name)
			}
		}
	}
}

func isIdent(e ast.Expr, name string) bool {
	ident, ok := e.(*ast.Ident)
	return ok && ident.Name == name
}

func typeName(e ast.Expr) string {
	if star, ok := e.(*ast.StarExpr); ok {
		return "*" + typeName(star.X)
	}
	if ident, ok := e.(*ast.Ident); ok {
		return ident.Name
	}
	return fmt.Sprintf("%T", e)
}

func unquote(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		return ""
	}
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return text
}

// Each public function of the database has one statement here, which names all its arguments, and one method, whose rows have the
// columns that it returns; and the other way round.
func TestEachFunctionHasItsMethod(t *testing.T) {
	t.Parallel()
	b, src := setup(t, 0), readSource(t)
	arguments := map[string][]string{}
	rows, err := b.pg.Pool.Query(t.Context(), `
		select p.proname, coalesce(p.proargnames[:p.pronargs], '{}') from pg_proc p
		where p.pronamespace = 'public'::regnamespace and p.prorettype <> 'trigger'::regtype
		  and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
		union all select 'invariant_violations', '{}'`)
	b.noError(err)
	defer rows.Close()
	for rows.Next() {
		var name string
		var names []string
		b.noError(rows.Scan(&name, &names))
		if _, twice := arguments[name]; twice {
			t.Errorf("the function %s is overloaded: old arguments were left behind", name)
		}
		arguments[name] = names
	}
	b.noError(rows.Err())

	called := map[string]bool{}
	conn := b.pg.Conn(t)
	for variable, c := range src.calls {
		called[c.function] = true
		names, exists := arguments[c.function]
		if !exists {
			t.Errorf("%s calls %s, which does not exist", variable, c.function)
			continue
		}
		if !strings.Contains(c.sql, " "+c.function) {
			t.Errorf("%s is said to call %s: %s", variable, c.function, c.sql)
		}
		for _, name := range names {
			if !regexp.MustCompile(`[(, ]` + name + ` => `).MatchString(c.sql) {
				t.Errorf("%s does not name the argument %s of %s", variable, name, c.function)
			}
		}
		statement, err := conn.Prepare(t.Context(), "", c.sql)
		if err != nil {
			t.Errorf("%s: %v", c.sql, err)
			continue
		}
		var columns []string
		for _, field := range statement.Fields {
			columns = append(columns, field.Name)
		}
		row, used := src.results[variable]
		want, isStruct := src.tags[row]
		switch {
		case !used:
			t.Errorf("no method uses %s", variable)
		case isStruct && !sameSet(columns, want):
			t.Errorf("%s returns %v, %s has %v", c.function, columns, row, want)
		case !isStruct && len(columns) != 1:
			t.Errorf("%s returns %v, read as one %s", c.function, columns, row)
		}
	}
	for name := range arguments {
		if !called[name] {
			t.Errorf("the function %s has no statement in calls.go", name)
		}
	}
}

// What is sent as JSON has the fields of the composite types that it is read into.
func TestJSONArgumentsFitTheirTypes(t *testing.T) {
	t.Parallel()
	b, src := setup(t, 0), readSource(t)
	for composite, structure := range map[string]string{"new_task": "NewTask", "completion": "Completion"} {
		columns := value[[]string](b, "select array_agg(attname::text) from pg_attribute where attrelid = $1::regclass and attnum > 0", composite)
		if !sameSet(columns, src.json[structure]) {
			t.Errorf("%s has %v, %s has %v", composite, columns, structure, src.json[structure])
		}
	}
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// The codes that the SQL files raise, those of Errors, and those in the table of sql/README.md are the same, and so are the messages.
func TestErrorTable(t *testing.T) {
	t.Parallel()
	raised := map[string]string{}
	raise := regexp.MustCompile(`raise exception '((?:[^']|'')*)'\s+using errcode = '(TD...)'`)
	for _, pattern := range []string{"../*.sql", "../internal/*.sql", "../auth/*.sql"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, name := range files {
			if filepath.Base(name) == "schema.sql" {
				continue
			}
			text := readFile(t, name)
			matches := raise.FindAllStringSubmatch(text, -1)
			if n := strings.Count(text, "errcode ="); n != len(matches) {
				t.Errorf("%s sets errcode %d times, %d of them as raise exception '...' using errcode = 'TD...'", name, n, len(matches))
			}
			for _, match := range matches {
				if message, known := raised[match[2]]; known && message != match[1] {
					t.Errorf("%s is raised as %q and, in %s, as %q", match[2], message, name, match[1])
				}
				raised[match[2]] = match[1]
			}
		}
	}
	inGo := map[string]string{}
	for _, e := range taskdb.Errors() {
		inGo[e.Code] = e.Message
	}
	if !maps.Equal(raised, inGo) {
		t.Errorf("the SQL files raise %v, taskdb.Errors has %v", raised, inGo)
	}
	inReadme := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| *`(TD...)` *\\|").FindAllStringSubmatch(readFile(t, "../README.md"), -1) {
		if inReadme[match[1]] {
			t.Errorf("sql/README.md has %s twice", match[1])
		}
		inReadme[match[1]] = true
	}
	if got, want := slices.Sorted(maps.Keys(inReadme)), slices.Sorted(maps.Keys(inGo)); !slices.Equal(got, want) {
		t.Errorf("sql/README.md has %v, want %v", got, want)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// An error says its code, message and detail in one line, and is matched by its code alone.
func TestErrorText(t *testing.T) {
	t.Parallel()
	if got := taskdb.ErrTaskEnded.Error(); got != "TD032: Task has ended" {
		t.Errorf("without detail: %q", got)
	}
	err := fmt.Errorf("wrapped: %w", &taskdb.Error{Code: "TD032", Message: "m", Detail: "d"})
	wantCode := taskdb.ErrTaskEnded
	if got := err.Error(); got != "wrapped: TD032: m: d" {
		t.Errorf("with detail: %q", got)
	}
	for _, e := range taskdb.Errors() {
		if is := e.Is(wantCode); is != (e.Code == "TD032") {
			t.Errorf("%s is TD032: %v", e.Code, is)
		}
	}
}
