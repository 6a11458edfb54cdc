package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
)

// columnsNamed finds the columns that a body names.
func columnsNamed(table *relation, names []string) ([]column, error) {
	list := make([]column, len(names))
	for i, name := range names {
		c, known := table.find(name)
		if !known {
			return nil, unknownColumn(name, table)
		}
		list[i] = c
	}
	return list, nil
}

// insert makes rows, and with Prefer: resolution changes those that are there already.
func (d *Door) insert(r *request, table *relation) error {
	if err := r.only("inserts", "resolution", "missing"); err != nil {
		return err
	}
	q, err := readQuery(r.values, table, nil)
	if err != nil {
		return err
	}
	if err := q.forbid("limit", "offset"); err != nil {
		return err
	}
	if len(q.filters) > 0 {
		return unserved("filters on inserts")
	}
	if q.has("on_conflict") && r.resolution == "" {
		return unserved("the parameter on_conflict without Prefer: resolution")
	}
	data, err := readBody(r)
	if err != nil {
		return err
	}
	body, err := readRows(data)
	if err != nil {
		return err
	}
	names := q.columns
	if names == nil {
		names = body.keys
		if err := body.uniform(); err != nil {
			return err
		}
	}
	columns, err := columnsNamed(table, names)
	if err != nil {
		return err
	}
	if body.rows == 0 {
		return r.written(table, http.StatusCreated, result{body: []byte("[]"), total: -1})
	}
	if len(columns) == 0 && body.rows > 1 {
		return badBody("Rows without any column can only be made one by one", "")
	}
	s := r.statement()
	s.add("with _source as (insert into public.", quote(table.name), " as t ")
	if len(columns) == 0 {
		s.add("default values")
	} else {
		s.add("(", quoteAll(namesOf(columns)), ") select ", s.newValues(columns, body, r.missing == "default"),
			" from json_array_elements(", s.param(string(body.data)), "::json) _e (v), json_to_record(_e.v) as ", record("_args", columns))
	}
	if r.resolution != "" {
		if err := s.onConflict(table, columns, q.conflict, r.resolution); err != nil {
			return err
		}
	}
	return d.write1(r, table, q, s, http.StatusCreated)
}

func namesOf(columns []column) []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return names
}

// newValues writes what new rows get: the body's values, and where a row lacks one NULL or, with defaults, the column's default.
func (s *statement) newValues(columns []column, body rowsBody, defaults bool) string {
	items := make([]string, len(columns))
	for i, c := range columns {
		items[i] = "_args." + quote(c.Name)
		lacking := body.missing[c.Name] || !slices.Contains(body.keys, c.Name)
		if defaults && c.Default != nil && lacking {
			items[i] = "case when _e.v -> " + s.param(c.Name) + "::text is null then " + *c.Default + " else " + items[i] + " end"
		}
	}
	return strings.Join(items, ", ")
}

func (s *statement) onConflict(table *relation, columns []column, target []string, resolution string) error {
	if target == nil {
		target = table.Key
	}
	if len(target) == 0 {
		return unserved("upserts on " + table.name + ", which has no primary key, without on_conflict")
	}
	s.add(" on conflict (", quoteAll(target), ") do ")
	if resolution == "ignore-duplicates" {
		s.add("nothing")
		return nil
	}
	var sets []string
	for _, c := range columns {
		if !slices.Contains(target, c.Name) {
			sets = append(sets, quote(c.Name)+" = excluded."+quote(c.Name))
		}
	}
	if len(sets) == 0 { // nothing changes, but the rows are answered
		sets = append(sets, quote(target[0])+" = excluded."+quote(target[0]))
	}
	s.add("update set ", strings.Join(sets, ", "))
	return nil
}

// update changes the rows that the filters find.
func (d *Door) update(r *request, table *relation) error {
	q, err := r.readWrite(table, "updates")
	if err != nil {
		return err
	}
	data, err := readBody(r)
	if err != nil {
		return err
	}
	keys, err := keysOf(data)
	if err != nil {
		return err
	}
	if quirk := d.workersUpdate(r, table); quirk != nil {
		return quirk(r, table, q, data, keys)
	}
	if q.columns != nil {
		keys = q.columns
	}
	columns, err := columnsNamed(table, keys)
	if err != nil {
		return err
	}
	if len(q.filters) == 0 {
		return refuse(codeNoWhere, "UPDATE requires a WHERE clause", "A request without filters would change every row.", "")
	}
	if len(columns) == 0 {
		return r.written(table, http.StatusOK, result{body: []byte("[]"), total: -1})
	}
	s := r.statement()
	sets := make([]string, len(columns))
	for i, c := range columns {
		sets[i] = quote(c.Name) + " = _args." + quote(c.Name)
	}
	s.add("with _source as (update public.", quote(table.name), " as t set ", strings.Join(sets, ", "),
		" from json_to_record(", s.param(string(data)), "::json) as ", record("_args", columns), s.where(q.filters))
	return d.write1(r, table, q, s, http.StatusOK)
}

// remove deletes the rows that the filters find.
func (d *Door) remove(r *request, table *relation) error {
	q, err := r.readWrite(table, "deletes")
	if err != nil {
		return err
	}
	if err := q.forbid("columns"); err != nil {
		return err
	}
	if r.isWorkers() && table.name == "tasks" {
		return d.dropChild(r, table, q)
	}
	if len(q.filters) == 0 {
		return refuse(codeNoWhere, "DELETE requires a WHERE clause", "A request without filters would delete every row.", "")
	}
	s := r.statement()
	s.add("with _source as (delete from public.", quote(table.name), " as t", s.where(q.filters))
	return d.write1(r, table, q, s, http.StatusOK)
}

// readWrite reads the query of an update or a delete.
func (r *request) readWrite(table *relation, kind string) (*query, error) {
	if err := r.only(kind, "max-affected"); err != nil {
		return nil, err
	}
	q, err := readQuery(r.values, table, nil)
	if err != nil {
		return nil, err
	}
	return q, q.forbid("limit", "offset", "on_conflict")
}

// write1 ends the statement of a write, whose RETURNING it adds, runs it and answers.
func (d *Door) write1(r *request, table *relation, q *query, s *statement, status int) error {
	if q.justCount {
		return refuse(codeAggregate, "Use of aggregate functions is not allowed: count", "", "")
	}
	outputs := q.outputs
	s.add(" returning ")
	switch r.returns {
	case "representation":
		s.add(returned(table, q))
	case "headers-only":
		outputs = nil
		if len(table.Key) == 0 {
			return unserved("Prefer: return=headers-only for a table without a primary key")
		}
		s.add(qualified(table.Key))
	default:
		s.add("true as done")
	}
	s.add(") ")
	inner := "select t.* from _source t"
	if r.returns == "representation" {
		inner = "select " + s.outputs(outputs) + " from _source t" + s.order(q.order)
	}
	s.answer(answering{rows: inner, silent: r.returns != "representation" && r.returns != "headers-only", strip: r.stripNulls})
	answer, err := d.run(r, pgx.ReadWrite, s.done(), r.writeCheck(false))
	if err != nil {
		return err
	}
	return r.written(table, status, answer)
}

// returned are the columns of a written row that its answer needs.
func returned(table *relation, q *query) string {
	if q.outputs == nil {
		return "t.*"
	}
	var names []string
	add := func(f field) {
		if !slices.Contains(names, f.column.Name) {
			names = append(names, f.column.Name)
		}
	}
	for _, o := range q.outputs {
		add(o.field)
	}
	for _, o := range q.order {
		add(o.field)
	}
	if len(names) == len(table.Columns) {
		return "t.*"
	}
	return qualified(names)
}

func qualified(names []string) string {
	items := make([]string, len(names))
	for i, name := range names {
		items[i] = "t." + quote(name)
	}
	return strings.Join(items, ", ")
}

// writeCheck is what must hold before a write commits; nil: nothing.
func (r *request) writeCheck(always bool) func(result) error {
	single := r.single && (always || r.returns == "representation")
	if !single && r.maxAffected < 0 {
		return nil
	}
	return func(answer result) error {
		if r.maxAffected >= 0 && answer.rows > r.maxAffected {
			return refuse(codeMaxAffected, "Query result exceeds max-affected preference constraint", fmt.Sprintf("The query affects %d rows", answer.rows), "")
		}
		if single {
			return r.checkSingle(answer.rows)
		}
		return nil
	}
}

// written answers a write: status is that of an answer with rows.
func (r *request) written(table *relation, status int, answer result) error {
	total := int64(-1)
	if r.count {
		total = answer.rows
	}
	switch r.returns {
	case "representation":
		if r.single && answer.rows != 1 { // a body without rows was not run
			return r.checkSingle(answer.rows)
		}
		r.contentRange(0, answer.rows, total)
		return r.send(status, answer)
	case "headers-only":
		r.locate(table, answer)
	}
	r.contentRange(0, 0, total)
	r.sayApplied()
	if status == http.StatusOK {
		status = http.StatusNoContent
	}
	return r.echo.NoContent(status)
}

// locate says where the one row is that was made.
func (r *request) locate(table *relation, answer result) {
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(answer.body, &list); err != nil || len(list) != 1 {
		return
	}
	values := url.Values{}
	for _, key := range table.Key {
		text := string(list[0][key])
		var plain string
		if json.Unmarshal(list[0][key], &plain) == nil {
			text = plain
		}
		values.Set(key, "eq."+text)
	}
	r.echo.Response().Header().Set(echo.HeaderLocation, Prefix+"/"+table.name+"?"+values.Encode())
}
