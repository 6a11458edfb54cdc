package clients_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/sql/taskdb"
)

// args are the arguments of a function by name, as JSON has them.
type args map[string]any

// row is one row of an answer.
type row map[string]any

// door is one way to call Darkroom's functions.
type door interface {
	// call calls a function as that caller, in a transaction of its own. The answer is its rows; a function without rows answers none, one
	// that gives a bare value a row with the key "value". A refusal is a *refusal, any other error a fault of the door.
	call(ctx context.Context, who caller, function string, with args) ([]row, error)
}

// refusal is what a door said when it refused.
type refusal struct {
	Code, Message, Detail, Hint string
	Status                      int // of HTTP; 0 elsewhere
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: %s: %s", r.Code, r.Message, r.Detail) }

// caller is somebody who calls: the role and the claims with which a transaction runs, and what HTTP carries for that.
type caller struct {
	name   string
	role   string
	claims json.RawMessage // null: whoever logs in to the database with that role
	bearer string
}

// sqlDoor is an app with its own connection and its own login: a member of the role that it acts as. It sets the claims, no role.
type sqlDoor struct {
	logins map[string]*pgxpool.Pool // by role
}

// lists are the arguments that are lists of a composite type. In SQL they are made from JSON.
var lists = map[string]string{"create_tasks": "new_task", "complete_tasks": "completion"}

func (d *sqlDoor) call(ctx context.Context, who caller, function string, with args) ([]row, error) {
	var list []string
	var values []any
	for _, name := range slices.Sorted(maps.Keys(with)) {
		place := fmt.Sprintf("$%d", len(values)+1)
		value := with[name]
		switch value.(type) {
		case args, []args:
			value = mustJSON(value)
			if composite := lists[function]; composite != "" && (name == "tasks" || name == "completions") {
				place = fmt.Sprintf("array(select e from jsonb_populate_recordset(null::%s, %s) e)", composite, place)
			}
		}
		list = append(list, name+" => "+place)
		values = append(values, value)
	}
	function += "(" + strings.Join(list, ", ") + ")"
	text := "select to_jsonb(r) from " + function + " r"
	void := strings.HasPrefix(function, "report_progress(") || strings.HasPrefix(function, "arm_event_bell(")
	if void {
		text = "select to_jsonb(" + function + "::text)"
	}
	var answer []row
	err := pgx.BeginFunc(ctx, d.logins[who.role], func(tx pgx.Tx) error {
		if who.claims != nil {
			if _, err := tx.Exec(ctx, "select set_config('request.jwt.claims', $1, true)", string(who.claims)); err != nil {
				return err
			}
		}
		rows, err := tx.Query(ctx, text, values...)
		if err != nil {
			return err
		}
		answer, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (row, error) {
			var data []byte
			if err := r.Scan(&data); err != nil {
				return nil, err
			}
			return rowOf(data)
		})
		return err
	})
	if void {
		answer = nil
	}
	if pg, is := errors.AsType[*pgconn.PgError](err); is {
		return nil, &refusal{Code: pg.Code, Message: pg.Message, Detail: pg.Detail, Hint: pg.Hint}
	}
	return answer, err
}

// goDoor is a Go program that uses package taskdb. One login may act as every role and takes the caller's in the transaction.
type goDoor struct {
	login *pgxpool.Pool
}

func (d *goDoor) call(ctx context.Context, who caller, function string, with args) ([]row, error) {
	method := methods[function]
	if method == nil {
		return nil, fmt.Errorf("no method of taskdb is known for %s", function)
	}
	var result any
	err := pgx.BeginFunc(ctx, d.login, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)", who.role, string(who.claims)); err != nil {
			return err
		}
		var err error
		result, err = method(ctx, taskdb.New(tx), mustJSON(with))
		return err
	})
	var td *taskdb.Error
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &td):
		return nil, &refusal{Code: td.Code, Message: td.Message, Detail: td.Detail, Hint: td.Hint}
	case errors.As(err, &pg):
		return nil, &refusal{Code: pg.Code, Message: pg.Message, Detail: pg.Detail, Hint: pg.Hint}
	case err != nil:
		return nil, err
	}
	if value, is := result.(json.RawMessage); is { // one value, even where it is a list
		one, err := rowOf(value)
		return []row{one}, err
	}
	return rowsOf(mustJSON(result))
}

// rowsOf reads an answer in JSON, whatever its form: a list, an object, a bare value, nothing.
func rowsOf(data []byte) ([]row, error) {
	if len(data) == 0 || string(data) == "null" {
		return nil, nil
	}
	if data[0] != '[' {
		one, err := rowOf(data)
		return []row{one}, err
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(data, &elements); err != nil {
		return nil, err
	}
	var list []row
	for _, element := range elements {
		one, err := rowOf(element)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

func rowOf(data []byte) (row, error) {
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		return nil, fmt.Errorf("%q is no JSON: %w", data, err)
	}
	switch v := value.(type) {
	case map[string]any:
		return v, nil
	default:
		return row{"value": v}, nil
	}
}

func mustJSON(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return data
}
