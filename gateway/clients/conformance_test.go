package clients_test

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

// doors are those that every scenario goes through. The first is what the others are compared with.
var doors = []struct {
	name string
	open func(w *world) door
	part bool // its rows need not have all columns
}{
	{"sql", (*world).sqlDoor, false},
	{"go", (*world).goDoor, false},
	{"http", func(w *world) door { return &httpDoor{w.gateway()} }, false},
	{"functions", func(w *world) door { return &functionsDoor{httpDoor{w.gateway()}} }, true},
}

// step is a call and what came of it, with names in place of what differs from run to run.
type step struct {
	place    int
	who      string
	function string
	rows     []row
	said     *refusal
}

// script is one scenario at one door.
type script struct {
	*world
	door  door
	part  bool              // see doors
	names map[string]string // of ids
	steps []step
}

// do calls a function, which must not refuse, and returns its rows.
func (s *script) do(who caller, function string, with args) []row {
	s.t.Helper()
	rows, err := s.door.call(s.t.Context(), who, function, with)
	if err != nil {
		s.t.Fatalf("%s: %s(%s): %v", who.name, function, mustJSON(with), err)
	}
	s.note(who, function, rows, nil)
	return rows
}

// one calls a function, which must answer one row.
func (s *script) one(who caller, function string, with args) row {
	s.t.Helper()
	rows := s.do(who, function, with)
	if len(rows) != 1 {
		s.t.Fatalf("%s: %s(%s): %d rows, want 1: %v", who.name, function, mustJSON(with), len(rows), rows)
	}
	return rows[0]
}

// either calls a function, which may refuse: only that all doors answer alike counts.
func (s *script) either(who caller, function string, with args) {
	s.t.Helper()
	rows, err := s.door.call(s.t.Context(), who, function, with)
	var said *refusal
	if err != nil && !errors.As(err, &said) {
		s.t.Fatalf("%s: %s(%s): %v", who.name, function, mustJSON(with), err)
	}
	s.note(who, function, rows, said)
}

// none calls a function, which must answer nothing.
func (s *script) none(who caller, function string, with args) {
	s.t.Helper()
	if rows := s.do(who, function, with); len(rows) > 0 {
		s.t.Fatalf("%s: %s(%s): %v, want nothing", who.name, function, mustJSON(with), rows)
	}
}

// refused calls a function, which must refuse with that code and message.
func (s *script) refused(who caller, function string, with args, want *taskdb.Error) {
	s.t.Helper()
	rows, err := s.door.call(s.t.Context(), who, function, with)
	var said *refusal
	if !errors.As(err, &said) {
		s.t.Fatalf("%s: %s(%s): %v, %v, want %v", who.name, function, mustJSON(with), rows, err, want)
	}
	if said.Code != want.Code || said.Message != want.Message {
		s.t.Fatalf("%s: %s(%s): %v, want %v", who.name, function, mustJSON(with), said, want)
	}
	s.note(who, function, nil, said)
}

func (s *script) note(who caller, function string, rows []row, said *refusal) {
	s.steps = append(s.steps, step{len(s.steps) + 1, who.name, function, s.tidyRows(rows), s.tidyRefusal(said)})
}

var (
	anID    = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	aTime   = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:\d\d)$`)
	aSecret = regexp.MustCompile(`dr_(worker|user)_[0-9a-f]+|#[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}\b`) // and what sets two workers of one name apart
)

// tidy puts names in place of ids, times and secrets; ids are numbered as they appear.
func (s *script) tidy(value any) any {
	switch v := value.(type) {
	case map[string]any:
		tidied := map[string]any{}
		for _, key := range slices.Sorted(maps.Keys(v)) { // so that ids get the same numbers at every door
			tidied[key] = s.tidy(v[key])
		}
		if _, has := tidied["login"]; has { // in the audit log: each door has its own
			tidied["login"], tidied["role"] = "<login>", "<role>"
		}
		return tidied
	case []any:
		tidied := make([]any, len(v))
		for i, inner := range v {
			tidied[i] = s.tidy(inner)
		}
		return tidied
	case string:
		if aTime.MatchString(v) {
			return "<time>"
		}
		return s.tidyText(v)
	default:
		return value
	}
}

func (s *script) tidyText(text string) string {
	return anID.ReplaceAllStringFunc(aSecret.ReplaceAllString(text, "<secret>"), func(id string) string {
		if s.names[id] == "" {
			s.names[id] = fmt.Sprintf("<id %d>", len(s.names)+1)
		}
		return s.names[id]
	})
}

func (s *script) tidyRows(rows []row) []row {
	tidied := make([]row, len(rows))
	for i, r := range rows {
		tidied[i], _ = s.tidy(map[string]any(r)).(map[string]any)
	}
	return tidied
}

func (s *script) tidyRefusal(r *refusal) *refusal {
	if r == nil {
		return nil
	}
	return &refusal{Code: r.Code, Message: r.Message, Detail: s.tidyText(r.Detail), Hint: r.Hint}
}

// String is the step as it is compared.
func (s step) String() string {
	answer := mustJSON(s.rows)
	if s.said != nil {
		answer = mustJSON(s.said)
	}
	return fmt.Sprintf("%d. %s: %s -> %s", s.place, s.who, s.function, answer)
}

// keepColumnsOf leaves those columns in the rows of a step that the other's have too.
func keepColumnsOf(s *step, other step) {
	rows := make([]row, len(s.rows))
	for i, r := range s.rows {
		rows[i] = maps.Clone(r)
		if i < len(other.rows) {
			maps.DeleteFunc(rows[i], func(column string, _ any) bool { _, has := other.rows[i][column]; return !has })
		}
	}
	s.rows = rows
}

// TestAllDoorsAnswerAlike runs every scenario at every door, each on a database of its own.
func TestAllDoorsAnswerAlike(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	called, ran := map[string]bool{}, 0
	t.Run("scenario", func(t *testing.T) {
		for _, scenario := range scenarios {
			t.Run(scenario.name, func(t *testing.T) {
				t.Parallel()
				var told [][]step
				for _, at := range doors {
					t.Run(at.name, func(t *testing.T) {
						s := newScript(t, at.open)
						s.part = at.part
						scenario.run(s)
						s.healthy()
						told = append(told, s.steps)
					})
				}
				if len(told) != len(doors) {
					t.Fatal("a door failed") // it has said why
				}
				for i, at := range doors[1:] {
					compare(t, at.name, told[0], told[i+1], at.part)
				}
				mu.Lock()
				defer mu.Unlock()
				ran++
				for _, s := range told[0] {
					called[s.function] = true
				}
			})
		}
	})

	// A new function needs a scenario.
	rows, err := taskdbtest.New(t).Pool.Query(t.Context(), `
		select proname from pg_proc where pronamespace = 'public'::regnamespace and prorettype <> 'trigger'::regtype`)
	must(t, err)
	functions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	incomplete := ran < len(scenarios) // one that was not to run, or failed, has not said what it calls
	for _, function := range functions {
		if !called[function] && !incomplete {
			t.Errorf("no scenario calls %s", function)
		}
	}
}

func newScript(t *testing.T, open func(*world) door) *script {
	t.Helper()
	w := newWorld(t)
	return &script{world: w, door: open(w), names: map[string]string{
		w.ada.id: "<ada>", w.ada.project: "<ada's project>", w.ada.shot: "<ada's shot>",
		w.bob.id: "<bob>", w.bob.project: "<bob's project>", w.bob.shot: "<bob's shot>",
		w.cleo.id: "<cleo>", w.cleo.project: "<cleo's project>", w.cleo.shot: "<cleo's shot>",
	}}
}

func compare(t *testing.T, name string, want, got []step, part bool) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("%s: %d steps, want %d", name, len(got), len(want))
	}
	for i := range want {
		if part {
			keepColumnsOf(&want[i], got[i])
		}
		if want[i].String() != got[i].String() {
			t.Errorf("%s:\n got %s\nwant %s", name, got[i], want[i])
		}
	}
}
