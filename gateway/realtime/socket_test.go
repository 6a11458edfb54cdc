package realtime_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Both framings: join, the echo of the bindings, heartbeat, changes, leave.
func TestAClientJoinsSeesChangesAndLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, vsn := range []string{"1.0.0", "2.0.0"} {
		p := w.page(vsn)
		if f := p.reply(p.send("phoenix", "heartbeat", map[string]any{})); f.Payload.Status != "ok" {
			t.Fatalf("%s: heartbeat: %s", vsn, f.raw)
		}
		reply := p.join("anything", w.a.token, generations(w.a), binding{"event": "INSERT", "schema": "public", "table": "shots"})
		// Trap 1: in the same order, what was absent stays absent.
		want := fmt.Sprintf(`[{"id":1,"event":"*","schema":"public","table":"generations","filter":"project_id=eq.%s"},{"id":2,"event":"INSERT","schema":"public","table":"shots"}]`, w.a.project)
		if got := string(reply.Payload.Response.Changes); got != want {
			t.Errorf("%s: the bindings come back as\n%s, not\n%s", vsn, got, want)
		}
		system := p.read()
		if system.Event != "system" || system.Payload.Status != "ok" || system.Payload.Message != "Subscribed to PostgreSQL" {
			t.Errorf("%s: after the reply: %s", vsn, system.raw)
		}
		w.generation(w.a, "first "+vsn)
		f := p.until("a change", func(f frame) bool { return f.Event == "postgres_changes" })
		data := f.Payload.Data
		if f.Topic != "realtime:anything" || !slices.Equal(f.Payload.IDs, []int{1}) || data.Type != "INSERT" || data.Record["location"] != "first "+vsn || data.Errors != nil {
			t.Errorf("%s: %s", vsn, f.raw)
		}
		if at, _ := data.Record["created_at"].(string); !strings.Contains(at, "T") { // trap 5
			t.Errorf("%s: created_at is %q", vsn, at)
		}
		if !slices.ContainsFunc(data.Columns, func(c struct{ Name, Type string }) bool { return c.Name == "params" && c.Type == "jsonb" }) {
			t.Errorf("%s: columns: %v", vsn, data.Columns)
		}
		w.exec("update generations set params = '{\"x\": 1}' where location = $1", "first "+vsn)
		if c := p.change(); c.Type != "UPDATE" || c.Record["location"] != "first "+vsn || c.Old["id"] != c.Record["id"] || len(c.Old) != 1 {
			t.Errorf("%s: update: %v", vsn, c)
		}
		w.exec("delete from generations where location = $1", "first "+vsn)
		if c := p.change(); c.Type != "DELETE" || c.Old["location"] != "first "+vsn || c.Record != nil { // the whole row, to its owner
			t.Errorf("%s: delete: %v", vsn, c)
		}
		if f := p.reply(p.send("realtime:anything", "phx_leave", map[string]any{})); f.Payload.Status != "ok" {
			t.Errorf("%s: leave: %s", vsn, f.raw)
		}
		if f := p.read(); f.Event != "phx_close" { // trap 2: only then
			t.Errorf("%s: after leaving: %s", vsn, f.raw)
		}
	}
}

// A change of a task shows the whole row, though the log keeps only what has changed.
func TestAnUpdateOfATaskIsTheWholeRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.page("2.0.0")
	p.join("t", w.a.token, binding{"event": "UPDATE", "schema": "public", "table": "tasks", "filter": "project_id=eq." + w.a.project.String()})
	w.task(w.a)
	_, _, err := w.db.ClaimNextTask(t.Context(), anyWorker)
	must(t, err)
	c := p.change()
	var want map[string]any
	var row []byte
	must(t, w.pg.Pool.QueryRow(t.Context(), "select to_jsonb(t) from tasks t").Scan(&row))
	must(t, json.Unmarshal(row, &want))
	if c.Record["status"] != "In Progress" || fmt.Sprint(c.Record) != fmt.Sprint(want) {
		t.Errorf("the change shows\n%v\nthe row is\n%v", c.Record, want)
	}
}

// Two users see their own: whatever the filter says, and none at all.
func TestUsersSeeTheirOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pa, pb, ps := w.page("2.0.0"), w.page("1.0.0"), w.page("2.0.0")
	all := []binding{{"event": "*", "schema": "public"}, generations(w.a), {"event": "*", "schema": "public", "table": "credit_ledger"}}
	pa.join("all", w.a.token, all...)
	pb.join("all", w.b.token, all...)
	ps.join("all", serviceKey, all...)
	w.generation(w.a, "of a")
	_, err := w.db.GrantCredits(t.Context(), w.a.id, 1000, "", "")
	must(t, err)
	w.generation(w.b, "of b")
	if got := pa.change(); got.Record["location"] != "of a" {
		t.Errorf("a sees %v", got)
	}
	if got := pa.change(); got.Table != "credit_ledger" || got.Record["owner_id"] != w.a.id.String() {
		t.Errorf("a sees %v", got)
	}
	if got := pb.change(); got.Record["location"] != "of b" {
		t.Errorf("b sees %v", got)
	}
	for _, want := range []string{"of a", "", "of b"} {
		if got := ps.change(); got.Record["location"] != want && want != "" {
			t.Errorf("the service sees %v, not %q", got, want)
		}
	}
	w.generation(w.a, "last")
	pa.locations("last")
	w.generation(w.b, "last of b")
	if got := pb.locations("last of b"); len(got) != 1 {
		t.Errorf("b sees %v", got)
	}
}

// A project that is deleted takes its rows with it: its owner sees all of that go, nobody else does.
func TestWhatIsDeletedIsShownToItsOwnerOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.generation(w.a, "doomed")
	w.dispatched()
	pa, pb := w.page("2.0.0"), w.page("2.0.0")
	pa.join("x", w.a.token, generations(w.a), binding{"event": "DELETE", "schema": "public", "table": "projects"})
	pb.join("x", w.b.token, generations(w.a), binding{"event": "DELETE", "schema": "public", "table": "projects"}, generations(w.b))
	w.exec("delete from shots where project_id = $1", w.a.project)
	w.exec("delete from generations where project_id = $1", w.a.project)
	w.exec("delete from projects where id = $1", w.a.project)
	for range 2 {
		c := pa.change()
		if c.Type != "DELETE" || c.Table == "generations" && c.Old["location"] != "doomed" || c.Table == "projects" && c.Old["id"] != w.a.project.String() {
			t.Errorf("the owner sees %v", c)
		}
	}
	w.generation(w.b, "own")
	if c := pb.change(); c.Record["location"] != "own" {
		t.Errorf("somebody else sees %v", c)
	}
}
