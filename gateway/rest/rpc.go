package rest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// rpc calls a function.
func (d *Door) rpc(r *request) error {
	method := r.echo.Request().Method
	byQuery := method == http.MethodGet || method == http.MethodHead
	if !byQuery && method != http.MethodPost {
		return refuse(codeMethodOfRPC, "Cannot use the "+method+" method on RPC", "", "Functions take POST, and GET and HEAD where they only read.")
	}
	if err := r.only("functions", "max-affected"); err != nil {
		return err
	}
	var data []byte
	var given []string
	if !byQuery {
		var err error
		if data, err = readBody(r); err != nil {
			return err
		}
		if data == nil {
			data = []byte("{}")
		}
		if given, err = keysOf(data); err != nil {
			return err
		}
	}
	names := func(s *schema) []string {
		if byQuery {
			return argumentsIn(r, s.functions[r.name])
		}
		return given
	}
	known, err := d.cache.now(r.ctx, func(s *schema) bool { return len(matching(s.functions[r.name], names(s))) > 0 })
	if err != nil {
		return err
	}
	given = names(known)
	f, err := choose(known, r.name, given)
	if err != nil {
		return err
	}
	if byQuery && f.Volatile {
		return refuse(codeMethodOfRPC, "Cannot use the "+method+" method on RPC", "The function "+f.Name+" may write.", "Call it with POST.")
	}
	return d.callFunction(r, f, given, data)
}

// reserved are parameters that are never arguments.
var reserved = []string{"select", "order", "limit", "offset", "columns", "on_conflict", "and", "or", "not.and", "not.or"}

// argumentsIn lists the parameters of a query string that are arguments of an overload; the others are filters.
func argumentsIn(r *request, overloads []*function) []string {
	var names []string
	for name := range r.values {
		if slices.Contains(reserved, name) {
			continue
		}
		if slices.ContainsFunc(overloads, func(f *function) bool { _, is := f.argument(name); return is }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// matching are the overloads that can be called with these arguments.
func matching(overloads []*function, given []string) []*function {
	var list []*function
	for _, f := range overloads {
		if missing, unknown := f.misfit(given); len(missing) == 0 && len(unknown) == 0 {
			list = append(list, f)
		}
	}
	return list
}

// misfit says what stands against calling a function with these arguments.
func (f *function) misfit(given []string) (missing, unknown []string) {
	for _, name := range given {
		if _, is := f.argument(name); !is {
			unknown = append(unknown, name)
		}
	}
	for _, a := range f.Args {
		if !a.Optional && !slices.Contains(given, a.Name) {
			missing = append(missing, a.Name)
		}
	}
	return missing, unknown
}

func choose(s *schema, name string, given []string) (*function, error) {
	list := matching(s.functions[name], given)
	switch len(list) {
	case 1:
		return list[0], nil
	case 0:
		return nil, unknownFunction(s, name, given)
	}
	signatures := make([]string, len(list))
	for i, f := range list {
		types := make([]string, len(f.Args))
		for j, a := range f.Args {
			types[j] = a.Name + " => " + a.Type
		}
		signatures[i] = "public." + f.Name + "(" + strings.Join(types, ", ") + ")"
	}
	return nil, refuse(codeOverload, "Could not choose the best candidate function between: "+strings.Join(signatures, ", "), "",
		"Try renaming the parameters or the function itself in the database so function overloading can be resolved")
}

func unknownFunction(s *schema, name string, given []string) error {
	message := "Could not find the function public." + shortened(name)
	if len(given) > 0 {
		message += "(" + shortened(strings.Join(given, ", ")) + ")"
	} else {
		message += " without parameters"
	}
	message += " in the schema cache"
	overloads := s.functions[name]
	if len(overloads) == 0 {
		hint := ""
		if near := nearest(name, s.functionNames()); near != "" {
			hint = "Perhaps you meant to call the function public." + near
		}
		return refuse(codeFunction, message, "There is no function of this name.", hint)
	}
	var details []string
	missing, unknown := overloads[0].misfit(given)
	if len(missing) > 0 {
		details = append(details, "Missing: "+strings.Join(missing, ", ")+".")
	}
	if len(unknown) > 0 {
		details = append(details, "Unknown: "+shortened(strings.Join(unknown, ", "))+".")
	}
	takes := make([]string, len(overloads[0].Args))
	for i, a := range overloads[0].Args {
		takes[i] = a.Name
	}
	return refuse(codeFunction, message, strings.Join(details, " "), fmt.Sprintf("The function takes: %s.", strings.Join(takes, ", ")))
}

// from writes what the call of a function stands after: its arguments, and the call itself.
func (s *statement) from(r *request, f *function, given []string, data []byte) (source, invocation string) {
	args := make([]argument, 0, len(given))
	for _, name := range given {
		a, _ := f.argument(name)
		args = append(args, a)
	}
	if data == nil {
		items := make([]string, len(args))
		for i, a := range args {
			items[i] = quote(a.Name) + " => " + s.param(r.values.Get(a.Name)) + "::" + a.Type
		}
		return "", "public." + quote(f.Name) + "(" + strings.Join(items, ", ") + ")"
	}
	if len(args) == 0 {
		return "", "public." + quote(f.Name) + "()"
	}
	columns := make([]column, len(args))
	for i, a := range args {
		columns[i] = column{Name: a.Name, Type: a.Type}
	}
	return "json_to_record(" + s.param(string(data)) + "::json) as " + record("_args", columns), call(f, args)
}

// callFunction runs a function and answers what it returned. data has the arguments, but for GET and HEAD.
func (d *Door) callFunction(r *request, f *function, given []string, data []byte) error {
	skip := map[string]bool{}
	if data == nil {
		for _, name := range given {
			if len(r.values[name]) > 1 {
				return badQuery("The parameter %s is given more than once", name)
			}
			skip[name] = true
		}
	}
	rows := &relation{name: f.Name, Columns: f.Columns}
	if f.Columns == nil { // only limit and offset of a set mean anything
		for name := range r.values {
			if !skip[name] && (!f.Set || name != "limit" && name != "offset") {
				return refuse(codeFunction, "Could not find the function public."+f.Name+" with the parameter "+shortened(name)+" in the schema cache",
					"The function returns no columns, and has no argument of this name.", "")
			}
		}
	}
	q, err := readQuery(r.values, rows, skip)
	if err != nil {
		return err
	}
	if err := q.forbid("columns", "on_conflict"); err != nil {
		return err
	}
	most := int64(-1) // what a function did must not be cut off from its answer
	access := pgx.ReadWrite
	if !f.Volatile {
		most, access = maxRows, pgx.ReadOnly
	}
	w, err := r.rows(q, most)
	if err != nil {
		return err
	}
	s := r.statement()
	if err := s.function(r, f, q, w, given, data); err != nil {
		return err
	}
	var check func(result) error
	if f.Volatile {
		check = r.writeCheck(f.Columns != nil)
	}
	answer, err := d.run(r, access, s.done(), check)
	if err != nil {
		return err
	}
	return r.answerFunction(f, answer, w)
}

// function writes the statement of a call.
func (s *statement) function(r *request, f *function, q *query, w window, given []string, data []byte) error {
	if q.justCount {
		return refuse(codeAggregate, "Use of aggregate functions is not allowed: count", "", "")
	}
	source, invocation := s.from(r, f, given, data)
	lateral := invocation
	if source != "" {
		lateral = source + ", lateral " + invocation
	}
	switch {
	case f.Void:
		s.add("select 'null', 0 from ", lateral, " t")
	case f.Columns == nil && !f.Set:
		s.add("select coalesce(to_json(_v.v), 'null')::text, 1 from (select ", invocation, " as v")
		if source != "" {
			s.add(" from ", source)
		}
		s.add(") _v")
	case f.Columns == nil:
		s.add("select coalesce(json_agg(_v.v), '[]')::text, count(*) from (select ", invocation, " as v")
		if source != "" {
			s.add(" from ", source)
		}
		s.add(s.window(w), ") _v")
	default:
		where, total := s.where(q.filters), ""
		if r.count {
			s.add("with _source as materialized (select t.* from ", lateral, " t) ")
			lateral = "_source"
			total = "(select count(*) from _source t" + where + ")"
		}
		s.answer(answering{
			rows:  "select " + s.outputs(q.outputs) + " from " + lateral + " t" + where + s.order(q.order) + s.window(w),
			total: total, silent: r.wantsNothing || r.returns == "minimal", strip: r.stripNulls, bounded: !f.Volatile,
		})
	}
	return nil
}

func (r *request) answerFunction(f *function, answer result, w window) error {
	switch {
	case f.Void || r.returns == "minimal":
		r.contentRange(w.offset, answer.rows, answer.total)
		r.sayApplied()
		return r.echo.NoContent(http.StatusNoContent)
	case f.Columns == nil:
		r.single = false
		return r.send(http.StatusOK, answer)
	case f.Set:
		return r.answerRows(answer, w)
	}
	if err := r.checkSingle(answer.rows); err != nil {
		return err
	}
	if r.contentRange(0, answer.rows, answer.total); answer.rows == 0 { // a filter took it
		answer.body, r.single = []byte("null"), false
	} else if !r.single && len(answer.body) > 1 {
		answer.body = answer.body[1 : len(answer.body)-1] // of the list of one
	}
	return r.send(http.StatusOK, answer)
}
