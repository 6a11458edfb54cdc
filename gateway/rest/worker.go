package rest

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Headless-Wan2GP (github.com/peteromallet/Headless-Wan2GP) writes to tables where Darkroom has functions. With a worker's token these requests, in
// exactly these forms, become the calls that they mean.

// asWorkersKnow is a table with the names that workers of others use.
func asWorkersKnow(table *relation) *relation {
	if table.name != "workers" {
		return table
	}
	known := *table
	known.alias = map[string]string{"metadata": "info"}
	return &known
}

// isWorker reports whether a field holds ids of workers.
func isWorker(f field) bool {
	return len(f.path) == 0 && (f.column.Name == "worker_id" || f.column.Name == "id" && f.column.Type == "text")
}

type quirk func(r *request, table *relation, q *query, data []byte, keys []string) error

// workersUpdate is what an update of a worker means; nil: an update.
func (d *Door) workersUpdate(r *request, table *relation) quirk {
	switch {
	case !r.isWorkers():
		return nil
	case table.name == "tasks":
		return d.giveBack
	case table.name == "workers":
		return d.noteWorker
	}
	return nil
}

// exactly takes apart filters of the form column=eq.value, one for each column, and refuses others.
func exactly(filters []condition, columns ...string) (map[string]string, error) {
	values := map[string]string{}
	for _, c := range filters {
		name := c.field.column.Name
		_, twice := values[name]
		if c.join != "" || c.negated || c.operator != "eq" || c.quantor != "" || len(c.field.path) > 0 || twice || !slices.Contains(columns, name) {
			return nil, unserved("workers filter what they change by " + strings.Join(columns, ", ") + ", each with eq")
		}
		values[name] = c.value
	}
	if _, named := values["id"]; !named {
		return nil, unserved("workers change one row, by id=eq.")
	}
	return values, nil
}

// giveBack is `PATCH tasks?id=eq.U&worker_id=eq.W&status=eq.In Progress {"status":"Queued",...}`: the task goes back into the queue with a failure
// counted. Where the filters match no running task of the worker's it changes nothing, as an update would.
func (d *Door) giveBack(r *request, table *relation, q *query, data []byte, keys []string) error {
	for _, key := range keys {
		if !slices.Contains([]string{"status", "worker_id", "generation_started_at", "claimed_at", "error_details", "error_message", "attempts"}, key) {
			return unknownColumn(key, table)
		}
	}
	var body struct {
		Status       string  `json:"status"`
		WorkerID     *string `json:"worker_id"`
		ErrorDetails string  `json:"error_details"`
		ErrorMessage string  `json:"error_message"`
	}
	if err := json.Unmarshal(data, &body); err != nil {
		return badBody("The body has a value of the wrong type", "")
	}
	if body.Status != "Queued" || body.WorkerID != nil {
		return unserved("workers change a task by its functions; here they only give it back, with {\"status\": \"Queued\", \"worker_id\": null}")
	}
	where, err := exactly(q.filters, "id", "worker_id", "status")
	if err != nil {
		return err
	}
	if status, named := where["status"]; named && status != "In Progress" {
		return unserved("workers give back what is In Progress")
	}
	args := map[string]any{"task_id": where["id"], "reason": body.ErrorDetails + body.ErrorMessage}
	if worker, named := where["worker_id"]; named {
		args["worker_name"] = worker
	}
	return d.callInstead(r, table, q, "auth.give_back_task", args, "TD021", "TD031", "TD032")
}

// noteWorker is `PATCH workers?id=eq.W {"status":"error","metadata":{...}}`: it is kept in workers.info.
func (d *Door) noteWorker(r *request, table *relation, q *query, data []byte, keys []string) error {
	where, err := exactly(q.filters, "id")
	if err != nil {
		return err
	}
	for _, key := range keys {
		if key != "status" && key != "metadata" {
			return unknownColumn(key, table)
		}
	}
	var body struct {
		Status   *string                    `json:"status"`
		Metadata map[string]json.RawMessage `json:"metadata"`
	}
	if err := json.Unmarshal(data, &body); err != nil {
		return badBody("status must be a text and metadata an object", "")
	}
	note := map[string]any{}
	for key, value := range maps.All(body.Metadata) {
		note[key] = value
	}
	if body.Status != nil {
		note["status"] = *body.Status
	}
	return d.callInstead(r, table, q, "auth.note_worker", map[string]any{"worker_name": where["id"], "note": note})
}

// dropChild is `DELETE tasks?id=eq.U` of a child that was made twice: it is cancelled alone, and answered as it was.
func (d *Door) dropChild(r *request, table *relation, q *query) error {
	where, err := exactly(q.filters, "id")
	if err != nil {
		return err
	}
	return d.callInstead(r, table, q, "auth.drop_child", map[string]any{"task_id": where["id"]}, "TD021")
}

// instead are the functions that stand for writes of workers, with the types of their arguments.
var instead = map[string][]column{
	"auth.give_back_task": {{Name: "task_id", Type: "uuid"}, {Name: "worker_name", Type: "text"}, {Name: "reason", Type: "text"}},
	"auth.note_worker":    {{Name: "worker_name", Type: "text"}, {Name: "note", Type: "jsonb"}},
	"auth.drop_child":     {{Name: "task_id", Type: "uuid"}},
}

// callInstead calls a function that returns rows of the table, and answers them as those of a write. Refusals with the codes in gone mean that no row
// was found.
func (d *Door) callInstead(r *request, table *relation, q *query, name string, args map[string]any, gone ...string) error {
	if id, named := args["task_id"].(string); named {
		if _, err := uuid.Parse(id); err != nil {
			return refuse("22P02", "invalid input syntax for type uuid: \""+shortened(id)+"\"", "", "")
		}
	}
	data, err := json.Marshal(args)
	if err != nil {
		return badBody("Empty or invalid json", "")
	}
	columns := instead[name]
	named := make([]string, len(columns))
	for i, c := range columns {
		named[i] = c.Name + " => _args." + c.Name
	}
	s := r.statement()
	s.add("with _source as materialized (select t.* from json_to_record(", s.param(string(data)), "::json) as ", record("_args", columns), ", lateral ", name,
		"(", strings.Join(named, ", "), ") t) ")
	s.answer(answering{
		rows:   "select " + s.outputs(q.outputs) + " from _source t" + s.order(q.order),
		silent: r.returns != "representation", strip: r.stripNulls,
	})
	answer, err := d.run(r, pgx.ReadWrite, s.done(), r.writeCheck(false))
	if refusedAs(err, gone) {
		answer, err = result{body: []byte("[]"), total: -1}, nil
	}
	if err != nil {
		return err
	}
	return r.written(table, http.StatusOK, answer)
}

// refusedAs reports whether the database refused with one of the codes.
func refusedAs(err error, codes []string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, pg.Code)
}
