package rest

import (
	"slices"
	"strings"
)

// condition is one filter, or several joined by and() or or().
type condition struct {
	negated bool
	join    string // "and" or "or"; "": a filter
	parts   []condition

	field    field
	operator string // as the dialect names it
	quantor  string // "", "any" or "all"
	value    string
	list     []string // of in
}

// operators are those that compare with one value, and their SQL.
var operators = map[string]string{
	"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "like": "like", "ilike": "ilike", "match": "~", "imatch": "~*",
	"cs": "@>", "cd": "<@", "ov": "&&", "isdistinct": "is distinct from",
}

// quantified are the operators that take (any) and (all).
var quantified = []string{"eq", "like", "ilike", "gt", "gte", "lt", "lte", "match", "imatch"}

// unservedOperators are those of PostgREST that this door does not have.
var unservedOperators = []string{"fts", "plfts", "phfts", "wfts", "sl", "sr", "nxr", "nxl", "adj"}

var truths = map[string]string{"null": "null", "not_null": "not null", "true": "true", "false": "false", "unknown": "unknown"}

// readFilter reads one parameter, `column=operator.value` or `or=(...)`. budget is how many conditions the request has left.
func readFilter(name, value string, r *relation, budget *int) (condition, error) {
	bare, negated := strings.CutPrefix(name, "not.")
	if bare == "and" || bare == "or" {
		if _, isColumn := r.find(bare); !isColumn || negated {
			p := parser{text: value, relation: r, budget: budget}
			c, err := p.group(bare, 0)
			if err == nil && p.at < len(p.text) {
				err = p.wrong("nothing more")
			}
			c.negated = negated
			return c, err
		}
	}
	f, err := readField(name, r)
	if err != nil {
		return condition{}, err
	}
	c := condition{field: f}
	p := parser{text: value, relation: r, budget: budget}
	if err := p.operator(&c); err != nil {
		return c, err
	}
	rest := p.text[p.at:]
	if c.operator == "in" {
		inner, opened := strings.CutPrefix(rest, "(")
		inner, closed := strings.CutSuffix(inner, ")")
		if !opened || !closed {
			return c, badQuery("failed to parse filter (%s): in takes a list such as in.(1,2)", shortened(value))
		}
		c.list, err = readList(inner)
		return c, err
	}
	return c, c.setValue(rest)
}

// setValue takes the value of a filter and checks what must be checked before PostgreSQL sees it.
func (c *condition) setValue(value string) error {
	c.value = value
	switch c.operator {
	case "is":
		if _, known := truths[strings.ToLower(value)]; !known {
			return badQuery("failed to parse filter (is.%s): is takes null, not_null, true, false or unknown", shortened(value))
		}
		c.value = strings.ToLower(value)
	case "like", "ilike":
		c.value = strings.ReplaceAll(value, "*", "%")
	}
	return nil
}

// readList reads `1,2,"a,b"`.
func readList(text string) ([]string, error) {
	list := []string{}
	if text == "" {
		return list, nil
	}
	p := parser{text: text}
	for {
		item, err := p.item(",")
		if err != nil {
			return nil, err
		}
		list = append(list, item)
		if p.at == len(p.text) {
			return list, nil
		}
		p.at++ // the comma
	}
}

// parser goes through the value of a parameter.
type parser struct {
	text     string
	at       int
	relation *relation
	budget   *int
}

func (p *parser) wrong(expected string) error {
	return badQuery("failed to parse filter (%s): expected %s at character %d", shortened(p.text), expected, p.at+1)
}

func (p *parser) skip(prefix string) bool {
	if strings.HasPrefix(p.text[p.at:], prefix) {
		p.at += len(prefix)
		return true
	}
	return false
}

// group reads `(condition,condition,...)`.
func (p *parser) group(join string, depth int) (condition, error) {
	c := condition{join: join}
	if depth >= maxLogicDepth {
		return c, badQuery("Filters may stand in each other up to %d deep", maxLogicDepth)
	}
	if !p.skip("(") {
		return c, p.wrong("(")
	}
	for {
		part, err := p.part(depth)
		if err != nil {
			return c, err
		}
		c.parts = append(c.parts, part)
		switch {
		case p.skip(","):
		case p.skip(")"):
			return c, nil
		default:
			return c, p.wrong(", or )")
		}
	}
}

// part reads one member of a group: a group, or `column.operator.value`.
func (p *parser) part(depth int) (condition, error) {
	for p.skip(" ") { // after a comma
	}
	for _, start := range []struct {
		text, join string
		negated    bool
	}{{"and(", "and", false}, {"or(", "or", false}, {"not.and(", "and", true}, {"not.or(", "or", true}} {
		if p.skip(start.text) {
			p.at-- // the parenthesis
			c, err := p.group(start.join, depth+1)
			c.negated = start.negated
			return c, err
		}
	}
	var c condition
	name, err := p.name()
	if err != nil {
		return c, err
	}
	if c.field, err = readField(name, p.relation); err != nil {
		return c, err
	}
	if err := p.operator(&c); err != nil {
		return c, err
	}
	if c.operator != "in" {
		value, err := p.item(",)")
		if err != nil {
			return c, err
		}
		return c, c.setValue(value)
	}
	if !p.skip("(") {
		return c, p.wrong("( after in.")
	}
	c.list = []string{}
	if p.skip(")") {
		return c, nil
	}
	for {
		item, err := p.item(",)")
		if err != nil {
			return c, err
		}
		c.list = append(c.list, item)
		switch {
		case p.skip(","):
		case p.skip(")"):
			return c, nil
		default:
			return c, p.wrong(", or )")
		}
	}
}

// name reads a column, with its JSON path, up to the dot.
func (p *parser) name() (string, error) {
	start, quoted := p.at, false
	for ; p.at < len(p.text); p.at++ {
		switch ch := p.text[p.at]; {
		case ch == '"':
			quoted = !quoted
		case ch == '.' && !quoted:
			name := p.text[start:p.at]
			p.at++
			return name, nil
		case (ch == ',' || ch == '(' || ch == ')') && !quoted:
			return "", p.wrong("column.operator.value")
		}
	}
	return "", p.wrong("column.operator.value")
}

// operator reads `[not.]operator[(any|all)].`.
func (p *parser) operator(c *condition) error {
	if *p.budget--; *p.budget < 0 {
		return badQuery("A request may have up to %d filters", maxConditions)
	}
	c.negated = p.skip("not.")
	name, _, found := strings.Cut(p.text[p.at:], ".")
	if !found {
		return p.wrong("operator.value, as in eq.1")
	}
	p.at += len(name) + 1
	base, quantor, _ := strings.Cut(name, "(")
	switch {
	case slices.Contains(unservedOperators, base):
		return refuse(codeFeature, "Feature not implemented: the operator "+shortened(name), "", "What is served stands in gateway/rest/README.md.")
	case base != "is" && base != "in" && operators[base] == "":
		return badQuery("failed to parse filter (%s): there is no operator %q", shortened(p.text), shortened(name))
	}
	c.operator = base
	switch quantor {
	case "":
		if base == name {
			return nil
		}
	case "any)", "all)":
		if slices.Contains(quantified, base) {
			c.quantor = strings.TrimSuffix(quantor, ")")
			return nil
		}
	}
	return badQuery("failed to parse filter (%s): there is no operator %q", shortened(p.text), shortened(name))
}

// item reads a value up to one of the stops: quoted, in braces, or as it is.
func (p *parser) item(stops string) (string, error) {
	rest := p.text[p.at:]
	if strings.HasPrefix(rest, `"`) {
		return p.quoted()
	}
	end := 0
	if strings.HasPrefix(rest, "{") {
		end = braced(rest)
	}
	next := strings.IndexAny(rest[end:], stops)
	if next < 0 {
		next = len(rest) - end
	}
	p.at += end + next
	return rest[:end+next], nil
}

func (p *parser) quoted() (string, error) {
	value := strings.Builder{}
	for p.at++; p.at < len(p.text); p.at++ {
		switch ch := p.text[p.at]; ch {
		case '\\':
			p.at++
			if p.at == len(p.text) {
				return "", p.wrong(`"`)
			}
			value.WriteByte(p.text[p.at])
		case '"':
			p.at++
			return value.String(), nil
		default:
			value.WriteByte(ch)
		}
	}
	return "", p.wrong(`"`)
}

// braced is the length of a text that begins with a brace up to the one that closes it, or 0.
func braced(text string) int {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch ch := text[i]; {
		case ch == '\\' && quoted:
			i++
		case ch == '"':
			quoted = !quoted
		case quoted:
		case ch == '{':
			depth++
		case ch == '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}
