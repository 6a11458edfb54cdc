// Package filter is the filters of postgres_changes: `col=[not.]op.value`, several joined by commas, all of which must hold.
//
// They mean what the same words mean to PostgREST and so to SQL: null is neither equal nor different. Texts are compared byte by byte, whatever the
// database's collation; patterns of match and imatch are RE2's, which take linear time.
package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits of one filter.
const (
	maxLength = 8 << 10
	maxTerms  = 32
	maxList   = 100 // values of in.(...)
)

// Column is a column of a table and its type, by PostgreSQL's short name, such as int8.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Filter is what rows must be like. The zero Filter takes every row.
type Filter struct {
	terms []term
}

// Row is a row whose columns are JSON.
type Row map[string]json.RawMessage

type term struct {
	column string
	value  kind
	not    bool
	holds  func(have any) bool // of a value that is not null; nil: isNull
	isNull func(null bool, have any) bool
	only   any // of eq: the value
}

// Parse reads a filter for a table with these columns. Its errors are for the app to read.
func Parse(text string, columns []Column) (Filter, error) {
	if len(text) > maxLength {
		return Filter{}, fmt.Errorf("the filter is longer than %d bytes", maxLength)
	}
	var f Filter
	for rest := text; ; {
		part, after, more := cutTerm(rest)
		t, err := parseTerm(part, columns)
		if err != nil {
			return Filter{}, err
		}
		if f.terms = append(f.terms, t); len(f.terms) > maxTerms {
			return Filter{}, fmt.Errorf("the filter has more than %d conditions", maxTerms)
		}
		if !more {
			return f, nil
		}
		rest = after
	}
}

// cutTerm cuts at the first comma that is neither quoted nor in a list. A comma that no `column=` follows belongs to the value: before quoting
// was known, `name=eq.a,b` meant the name "a,b".
func cutTerm(text string) (part, after string, more bool) {
	quoted, depth := false, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth <= 0 && beginsTerm(text[i+1:]):
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

func beginsTerm(text string) bool {
	name, rest, found := strings.Cut(text, "=")
	if !found || name == "" || strings.ContainsAny(name, `,()". `) {
		return false
	}
	op, _, found := strings.Cut(strings.TrimPrefix(rest, "not."), ".")
	return found && slices.Contains(operators, op)
}

var operators = []string{"eq", "neq", "lt", "lte", "gt", "gte", "in", "like", "ilike", "is", "match", "imatch", "isdistinct"}

// ErrColumn says that a filter names a column that the table does not have.
var ErrColumn = errors.New("no such column")

func parseTerm(text string, columns []Column) (term, error) {
	name, rest, found := strings.Cut(text, "=")
	at := slices.IndexFunc(columns, func(c Column) bool { return c.Name == name })
	switch {
	case !found:
		return term{}, fmt.Errorf("the filter %q is not like column=eq.value", text)
	case at < 0:
		return term{}, fmt.Errorf("the filter names %q: %w", name, ErrColumn)
	}
	t := term{column: name, value: kindOf(columns[at].Type)}
	rest, t.not = strings.CutPrefix(rest, "not.")
	op, value, found := strings.Cut(rest, ".")
	if !found || !slices.Contains(operators, op) {
		return term{}, fmt.Errorf("the filter %q has no operator of %s", text, strings.Join(operators, ", "))
	}
	if err := t.operator(op, value); err != nil {
		return term{}, fmt.Errorf("the filter %q: %w", text, err)
	}
	return t, nil
}

// operator makes what the term asks.
func (t *term) operator(op, text string) error {
	if op == "is" {
		return t.is(text)
	}
	if op == "in" {
		return t.in(text)
	}
	value, err := unquote(text)
	if err != nil {
		return err
	}
	switch op {
	case "like", "ilike":
		return t.pattern(likePattern(value, op == "ilike"))
	case "match":
		return t.pattern(value)
	case "imatch":
		return t.pattern("(?i)" + value)
	}
	want, err := t.value.parse(value)
	if err != nil {
		return err
	}
	compare := t.value.compare
	switch op {
	case "eq":
		t.only = want
		t.holds = func(have any) bool { return compare(have, want) == 0 }
	case "neq":
		t.holds = func(have any) bool { return compare(have, want) != 0 }
	case "lt":
		t.holds = func(have any) bool { return compare(have, want) < 0 }
	case "lte":
		t.holds = func(have any) bool { return compare(have, want) <= 0 }
	case "gt":
		t.holds = func(have any) bool { return compare(have, want) > 0 }
	case "gte":
		t.holds = func(have any) bool { return compare(have, want) >= 0 }
	default: // isdistinct
		t.isNull = func(null bool, have any) bool { return null || compare(have, want) != 0 }
	}
	return nil
}

func (t *term) is(text string) error {
	switch text = strings.ToLower(text); text {
	case "null":
		t.isNull = func(null bool, _ any) bool { return null }
	case "not_null":
		t.isNull = func(null bool, _ any) bool { return !null }
	case "true", "false", "unknown":
		if t.value != boolean {
			return errors.New("is." + text + " is for columns of the type bool")
		}
		t.isNull = func(null bool, have any) bool {
			return null && text == "unknown" || !null && have == (text == "true") && text != "unknown"
		}
	default:
		return errors.New("is takes null, not_null, true, false or unknown")
	}
	return nil
}

func (t *term) in(text string) error {
	list, found := strings.CutPrefix(text, "(")
	list, closed := strings.CutSuffix(list, ")")
	if !found || !closed {
		return errors.New("in takes a list such as in.(a,b)")
	}
	texts, err := splitList(list)
	if err != nil {
		return err
	}
	if len(texts) > maxList {
		return fmt.Errorf("in takes %d values at most", maxList)
	}
	wanted := make([]any, len(texts))
	for i, text := range texts {
		if wanted[i], err = t.value.parse(text); err != nil {
			return err
		}
	}
	compare := t.value.compare
	t.holds = func(have any) bool {
		return slices.ContainsFunc(wanted, func(want any) bool { return compare(have, want) == 0 })
	}
	return nil
}

// Matches tells whether a row is as the filter says. An error says that the row cannot be judged.
func (f Filter) Matches(row Row) (bool, error) {
	for _, t := range f.terms {
		data, found := row[t.column]
		null := !found || string(data) == "null"
		var have any
		if !null {
			var err error
			if have, err = t.value.read(data); err != nil {
				return false, fmt.Errorf("the column %s cannot be compared: %w", t.column, err)
			}
		}
		var holds bool
		switch {
		case t.isNull != nil:
			holds = t.isNull(null, have) != t.not
		case null: // SQL's null: neither it nor its negation holds
		default:
			holds = t.holds(have) != t.not
		}
		if !holds {
			return false, nil
		}
	}
	return true, nil
}

// Equal returns the value that a column must have by column=eq.value, if the filter says so, and whether it says nothing else.
func (f Filter) Equal(column string) (value any, alone bool) {
	for _, t := range f.terms {
		if t.column == column && !t.not && t.only != nil {
			return t.only, len(f.terms) == 1
		}
	}
	return nil, false
}
