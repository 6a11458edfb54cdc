package realtime

import (
	"encoding/json"
	"time"

	"darkroom/gateway/realtime/eventlog"
)

// changeOf is an event as postgres_changes tells it.
func (d *Door) changeOf(e *eventlog.Event) []byte {
	const rest = 256
	t := d.tables[e.Table]
	b := make([]byte, 0, rest+len(t.json)+len(e.Record)+len(e.Old))
	b = append(b, `{"schema":"public","table":"`...)
	b = append(b, e.Table...) // of realtime_tables: a plain name
	b = append(b, `","commit_timestamp":"`...)
	b = e.At.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","type":"`...)
	b = append(b, e.Kind...)
	b = append(b, `","columns":`...)
	b = append(b, t.json...)
	b = appendRows(b, e)
	return append(b, `,"errors":null}`...)
}

// streamOf is an event as streams tell it.
func streamOf(e *eventlog.Event) []byte {
	const rest = 128
	b := make([]byte, 0, rest+len(e.Record)+len(e.Old))
	b = append(b, `{"table":"`...)
	b = append(b, e.Table...)
	b = append(b, `","type":"`...)
	b = append(b, e.Kind...)
	b = append(b, `","commit_timestamp":"`...)
	b = e.At.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	b = appendRows(b, e)
	return append(b, '}')
}

func appendRows(b []byte, e *eventlog.Event) []byte {
	if e.Record != nil {
		b = append(append(b, `,"record":`...), e.Record...)
	}
	if e.Old != nil {
		b = append(append(b, `,"old_record":`...), e.Old...)
	}
	return b
}

// castOf is an event of a task as task-update tells it.
func castOf(e *eventlog.Event) []byte {
	var task struct {
		ID        json.RawMessage `json:"id"`
		Project   json.RawMessage `json:"project_id"`
		Type      json.RawMessage `json:"task_type"`
		Status    json.RawMessage `json:"status"`
		Attempt   json.RawMessage `json:"attempt"`
		Progress  json.RawMessage `json:"progress"`
		Output    json.RawMessage `json:"output_location"`
		Thumbnail json.RawMessage `json:"thumbnail_url"`
		Error     json.RawMessage `json:"error_message"`
		Created   json.RawMessage `json:"created_at"`
		Updated   json.RawMessage `json:"updated_at"`
		Completed json.RawMessage `json:"completed_at"`
	}
	row := e.Record
	if e.Kind == eventlog.Delete {
		row = e.Old
	}
	_ = json.Unmarshal(row, &task) // of to_jsonb
	data, err := json.Marshal(struct {
		Change eventlog.Kind `json:"change"`
		Task   any           `json:"task"`
	}{e.Kind, task})
	if err != nil {
		panic(err) // it was JSON
	}
	return data
}
