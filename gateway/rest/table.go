package rest

import (
	"github.com/jackc/pgx/v5"
)

// read answers rows of a table.
func (d *Door) read(r *request, table *relation) error {
	if err := r.only("reads"); err != nil {
		return err
	}
	q, err := readQuery(r.values, table, nil)
	if err != nil {
		return err
	}
	if err := q.forbid("columns", "on_conflict"); err != nil {
		return err
	}
	w, err := r.rows(q, maxRows)
	if err != nil {
		return err
	}
	s := r.statement()
	where := s.where(q.filters)
	source := " from public." + quote(table.name) + " t" + where
	total := ""
	if r.count {
		total = "(select count(*)" + source + ")"
	}
	var inner string
	if q.justCount {
		inner = `select count(*) as "count"` + source
		w.offset, w.whole = 0, true
	} else {
		inner = "select " + s.outputs(q.outputs) + source + s.order(q.order) + s.window(w)
	}
	s.answer(answering{rows: inner, total: total, silent: r.wantsNothing, strip: r.stripNulls, bounded: true})
	answer, err := d.run(r, pgx.ReadOnly, s.done(), nil)
	if err != nil {
		return err
	}
	return r.answerRows(answer, w)
}

// forbid refuses parameters that mean nothing here.
func (q *query) forbid(names ...string) error {
	for _, name := range names {
		if q.has(name) {
			return unserved("the parameter " + name + " for this request")
		}
	}
	return nil
}

// rows is the window that limit, offset and the header Range ask for, within the limit of the door; most is -1 where there is none.
func (r *request) rows(q *query, most int64) (window, error) {
	w := window{limit: q.limit, offset: q.offset}
	if r.hasRange {
		if q.has("limit") || q.has("offset") {
			return w, unserved("the header Range beside limit and offset")
		}
		w.offset = r.rangeFrom
		if r.rangeTo >= 0 {
			w.limit = r.rangeTo - r.rangeFrom + 1
		}
	}
	if most >= 0 && (w.limit < 0 || w.limit > most) {
		w.limit = most
	}
	return w, nil
}
