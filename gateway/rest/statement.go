package rest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"darkroom/gateway/identity"
)

// maxAnswerBytes bounds what a read answers. What would be longer is not sent by the database.
const maxAnswerBytes = 32 << 20

// statement is SQL in the making: names come from the schema cache, everything of the request becomes a parameter.
type statement struct {
	strings.Builder

	params [][]byte
	// workerNames makes names of workers stand for their ids in filters.
	workerNames bool
}

// add writes SQL. Its parts are constants of this package and names out of the schema.
func (s *statement) add(parts ...string) {
	for _, part := range parts {
		s.WriteString(part)
	}
}

// param adds a parameter and returns its place.
func (s *statement) param(value string) string {
	s.params = append(s.params, []byte(value))
	return "$" + strconv.Itoa(len(s.params))
}

func (s *statement) done() identity.Statement {
	return identity.Statement{SQL: s.String(), Params: s.params}
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quote(name)
	}
	return strings.Join(quoted, ", ")
}

// of writes a field of the row t.
func (s *statement) of(f field) string {
	name := "t." + quote(f.column.Name)
	if len(f.path) == 0 {
		return name
	}
	sql := strings.Builder{}
	sql.WriteString(name)
	if f.column.Type != "jsonb" && f.column.Type != "json" {
		sql.Reset()
		sql.WriteString("to_jsonb(" + name + ")")
	}
	for _, step := range f.path {
		operator, kind := " -> ", "::text"
		if step.asText {
			operator = " ->> "
		}
		if step.index {
			kind = "::integer"
		}
		sql.WriteString(operator + s.param(step.key) + kind)
	}
	return "(" + sql.String() + ")"
}

// outputs writes the columns of a result.
func (s *statement) outputs(list []output) string {
	if list == nil {
		return "t.*"
	}
	items := make([]string, len(list))
	for i, one := range list {
		items[i] = s.of(one.field) + " as " + quote(one.name)
	}
	return strings.Join(items, ", ")
}

// where writes the filters, or nothing.
func (s *statement) where(filters []condition) string {
	if len(filters) == 0 {
		return ""
	}
	return " where " + s.joined("and", filters)
}

func (s *statement) joined(with string, list []condition) string {
	items := make([]string, len(list))
	for i, c := range list {
		items[i] = s.condition(c)
	}
	return strings.Join(items, " "+with+" ")
}

func (s *statement) condition(c condition) string {
	not := ""
	if c.negated {
		not = "not "
	}
	if c.join != "" {
		return not + "(" + s.joined(c.join, c.parts) + ")"
	}
	left := s.of(c.field)
	switch {
	case c.operator == "is":
		return not + "(" + left + " is " + truths[c.value] + ")"
	case c.operator == "in":
		right := s.param(arrayOf(c.list))
		if s.workerNames && isWorker(c.field) {
			right = "(array(select auth.worker_id(n) from unnest(" + right + "::text[]) n))"
		}
		return not + "(" + left + " = any (" + right + "))"
	case c.quantor != "":
		return not + "(" + left + " " + operators[c.operator] + " " + c.quantor + " (" + s.param(c.value) + "))"
	}
	right := s.param(c.value)
	if s.workerNames && isWorker(c.field) && (c.operator == "eq" || c.operator == "neq") {
		right = "(select auth.worker_id(" + right + "))"
	}
	return not + "(" + left + " " + operators[c.operator] + " " + right + ")"
}

// arrayOf writes a list as PostgreSQL reads arrays.
func arrayOf(list []string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	items := make([]string, len(list))
	for i, item := range list {
		items[i] = `"` + escape.Replace(item) + `"`
	}
	return "{" + strings.Join(items, ",") + "}"
}

func (s *statement) order(list []ordering) string {
	if len(list) == 0 {
		return ""
	}
	items := make([]string, len(list))
	for i, o := range list {
		items[i] = s.of(o.field)
		if o.descending {
			items[i] += " desc"
		}
		if o.nulls != "" {
			items[i] += " nulls " + o.nulls
		}
	}
	return " order by " + strings.Join(items, ", ")
}

// window is which rows of a result are wanted.
type window struct {
	limit, offset int64
	whole         bool // the answer speaks of all rows, however few it has itself
}

func (s *statement) window(w window) string {
	sql := ""
	if w.limit >= 0 {
		sql = " limit " + s.param(strconv.FormatInt(w.limit, 10))
	}
	if w.offset > 0 {
		sql += " offset " + s.param(strconv.FormatInt(w.offset, 10))
	}
	return sql
}

// answering is what the outermost select gives.
type answering struct {
	rows    string // the select whose rows are answered
	total   string // how many there would be without a window; "": nobody asks
	silent  bool   // they are counted only
	strip   bool   // nulls are left out
	bounded bool   // a text that is too long becomes null
}

// answer writes the outermost select. Its columns are the JSON of all rows, how many they are, and the total.
func (s *statement) answer(a answering) {
	body, total := "coalesce(json_agg(_row.*), '[]')", a.total
	if a.strip {
		body = "json_strip_nulls(" + body + ")"
	}
	if a.silent {
		body = "''"
	}
	if total == "" {
		total = "null"
	}
	if a.bounded {
		s.add("select case when octet_length(_all.body) <= ", strconv.Itoa(maxAnswerBytes), " then _all.body end, _all.n, _all.total from (")
	}
	s.add("select ", body, "::text as body, count(*) as n, ", total, " as total from (", a.rows, ") _row")
	if a.bounded {
		s.add(") _all")
	}
}

// arguments writes the call of a function by name, with its arguments taken from the record _args.
func call(f *function, given []argument) string {
	items := make([]string, len(given))
	for i, a := range given {
		items[i] = quote(a.Name) + " => _args." + quote(a.Name)
	}
	return fmt.Sprintf("public.%s(%s)", quote(f.Name), strings.Join(items, ", "))
}

// record writes the shape in which json_to_record reads a body.
func record(alias string, columns []column) string {
	items := make([]string, len(columns))
	for i, c := range columns {
		items[i] = quote(c.Name) + " " + c.Type
	}
	return alias + "(" + strings.Join(items, ", ") + ")"
}
