package rest

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxQueryBytes bounds a query string; supabase-js warns above 8000.
	maxQueryBytes = 16 << 10
	// maxConditions bounds the filters of a request, maxLogicDepth how deep and() and or() stand in each other.
	maxConditions = 200
	maxLogicDepth = 8
	// maxRows is how many rows a read answers; a larger limit gives these.
	maxRows = 1000
)

// field is a column, or with path what stands at a place in its JSON.
type field struct {
	column column
	path   []step
}

// step goes into a JSON value: -> or, as text, ->>.
type step struct {
	key    string
	index  bool // key is the number of an array's element
	asText bool
}

// output is one item of select.
type output struct {
	field
	name string
}

type ordering struct {
	field
	descending bool
	nulls      string // "", "first" or "last"
}

// query is a query string that was understood.
type query struct {
	outputs   []output // nil: all columns
	justCount bool     // select=count
	filters   []condition
	order     []ordering
	limit     int64 // -1: none
	offset    int64
	columns   []string // of a write
	conflict  []string
	given     []string // reserved parameters that were there
}

func (q *query) has(name string) bool { return slices.Contains(q.given, name) }

// readQuery understands the query string of a request on r. Parameters of the names in skip are not for it.
func readQuery(values url.Values, r *relation, skip map[string]bool) (*query, error) {
	q := &query{limit: -1}
	names := make([]string, 0, len(values))
	for name := range values {
		if !skip[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names) // so that the same request gives the same statement
	budget := maxConditions
	for _, name := range names {
		given := values[name]
		reserved := slices.Contains([]string{"select", "order", "limit", "offset", "columns", "on_conflict"}, name)
		if reserved && len(given) > 1 {
			return nil, badQuery("The parameter %s is given more than once", name)
		}
		if reserved {
			q.given = append(q.given, name)
		}
		var err error
		switch name {
		case "select":
			err = q.readSelect(given[0], r)
		case "order":
			err = q.readOrder(given[0], r)
		case "limit":
			q.limit, err = readNumber(name, given[0])
		case "offset":
			q.offset, err = readNumber(name, given[0])
		case "columns":
			q.columns, err = readNames(name, given[0], r)
		case "on_conflict":
			q.conflict, err = readNames(name, given[0], r)
		default:
			for _, value := range given {
				var c condition
				if c, err = readFilter(name, value, r, &budget); err != nil {
					return nil, err
				}
				q.filters = append(q.filters, c)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return q, nil
}

func readNumber(name, text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 48)
	if err != nil || n < 0 {
		return 0, badQuery("The parameter %s must be a number, not %q", name, shortened(text))
	}
	return n, nil
}

// outputName is what a result's key may look like where it does not stand in the schema.
var outputName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_ $-]{0,62}$`)

var aggregate = regexp.MustCompile(`\b(count|sum|avg|min|max)\(\)`)

func (q *query) readSelect(text string, r *relation) error {
	if text = strings.TrimSpace(text); text == "" || text == "*" {
		return nil
	}
	if _, there := r.find("count"); !there && (text == "count" || text == "count()") {
		q.justCount = true
		return nil
	}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "*" {
			for _, c := range r.Columns {
				q.outputs = append(q.outputs, output{field: field{column: c}, name: c.Name})
			}
			continue
		}
		one, err := readOutput(item, r)
		if err != nil {
			return err
		}
		q.outputs = append(q.outputs, one)
	}
	return nil
}

func readOutput(item string, r *relation) (output, error) {
	var one output
	if strings.Contains(item, "::") {
		return one, unserved("casts in select: " + shortened(item))
	}
	if aggregate.MatchString(item) {
		return one, refuse(codeAggregate, "Use of aggregate functions is not allowed: "+shortened(item), "", "")
	}
	if strings.ContainsAny(item, "()!") || strings.HasPrefix(item, "...") {
		return one, unserved("embedded selects: " + shortened(item))
	}
	if alias, rest, found := strings.Cut(item, ":"); found {
		one.name, item = strings.TrimSpace(alias), strings.TrimSpace(rest)
		if !outputName.MatchString(one.name) {
			return one, badQuery("The alias %q in select must be of letters, digits, _, $, - and blanks, at most 63", shortened(one.name))
		}
	}
	var err error
	if one.field, err = readField(item, r); err != nil || one.name != "" {
		return one, err
	}
	one.name, _, _ = strings.Cut(item, "->")
	for _, s := range one.path {
		if !s.index {
			one.name = s.key
		}
	}
	if len(one.path) > 0 && !outputName.MatchString(one.name) {
		return one, badQuery("The key %q in select needs an alias, as in name:%s", shortened(one.name), shortened(item))
	}
	return one, nil
}

// readField reads `column`, `column->key` or `column->>key`.
func readField(text string, r *relation) (field, error) {
	name, rest, nested := strings.Cut(text, "->")
	c, known := r.find(unquoted(name))
	if !known {
		if strings.ContainsRune(name, '.') {
			return field{}, unserved("filters on embedded tables: " + shortened(text))
		}
		return field{}, refuse(codeUnknownColumn, "column "+r.name+"."+shortened(unquoted(name))+" does not exist", "", "")
	}
	f := field{column: c}
	for nested {
		var s step
		rest, s.asText = strings.CutPrefix(rest, ">")
		var key string
		key, rest, nested = strings.Cut(rest, "->")
		s.key = unquoted(strings.TrimSpace(key))
		if s.key == "" || s.asText && nested {
			return field{}, badQuery("The JSON path %q ends in the wrong place: it looks like column->key->>key", shortened(text))
		}
		if _, err := strconv.ParseInt(s.key, 10, 32); err == nil {
			s.index = true
		}
		f.path = append(f.path, s)
	}
	return f, nil
}

func unquoted(name string) string {
	if len(name) >= 2 && name[0] == '"' && name[len(name)-1] == '"' {
		return name[1 : len(name)-1]
	}
	return name
}

func (q *query) readOrder(text string, r *relation) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	for item := range strings.SplitSeq(text, ",") {
		if strings.ContainsRune(item, '(') {
			return unserved("order by embedded tables: " + shortened(item))
		}
		item = strings.TrimSpace(item)
		var o ordering
		item, o.nulls = cutSuffixOf(item, map[string]string{".nullsfirst": "first", ".nullslast": "last"})
		var direction string
		item, direction = cutSuffixOf(item, map[string]string{".asc": "asc", ".desc": "desc"})
		o.descending = direction == "desc"
		var err error
		if o.field, err = readField(item, r); err != nil {
			return err
		}
		q.order = append(q.order, o)
	}
	return nil
}

func cutSuffixOf(text string, meanings map[string]string) (string, string) {
	for suffix, meaning := range meanings {
		if before, found := strings.CutSuffix(text, suffix); found {
			return before, meaning
		}
	}
	return text, ""
}

// readNames reads a list of columns, which may be quoted.
func readNames(name, text string, r *relation) ([]string, error) {
	var list []string
	for item := range strings.SplitSeq(text, ",") {
		item = unquoted(strings.TrimSpace(item))
		c, known := r.find(item)
		if !known {
			return nil, unknownColumn(item, r)
		}
		if slices.Contains(list, c.Name) {
			return nil, badQuery("The parameter %s names the column %s twice", name, c.Name)
		}
		list = append(list, c.Name)
	}
	return list, nil
}

// unknownColumn is for columns that are written.
func unknownColumn(name string, r *relation) error {
	return refuse(codeColumn, "Could not find the '"+shortened(name)+"' column of '"+r.name+"' in the schema cache", "", "")
}
