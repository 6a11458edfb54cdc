package clients_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// logged is one event of the log.
type logged struct {
	owner, project, table, kind string
	row, mark, at               string
}

// log reads what is stored after an event, in the order of the log.
func (s *storm) log(ctx context.Context, after int64) []logged {
	s.t.Helper()
	rows, err := s.pool.Query(ctx, `
		select to_char(created_at, 'HH24:MI:SS.MS ') || id || ' ' || xid, owner_id::text, coalesce(project_id::text, ''), table_name, kind, row_id,
		  concat_ws(' ', table_name, kind, row_id, case when kind <> 'DELETE' then
		    case table_name
		      when 'shots' then data ->> 'name' when 'projects' then data ->> 'name' when 'generations' then data -> 'metadata' ->> 'n'
		      when 'shot_generations' then data ->> 'position'
		      when 'tasks' then (case kind when 'INSERT' then concat('Queued/0/false/', (select to_jsonb(t.created_at) #>> '{}' from public.tasks t where t.id::text = row_id))
		        else concat_ws('/', data ->> 'status', data ->> 'attempt', coalesce(data ->> 'generation_created', 'false'), data ->> 'updated_at') end)
		    end
		  end)
		from darkroom.task_events where id > $1 order by id`, after)
	must(s.t, err)
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (l logged, err error) {
		err = r.Scan(&l.at, &l.owner, &l.project, &l.table, &l.kind, &l.row, &l.mark)
		return l, err
	})
	must(s.t, err)
	return list
}

// shows tells whether a client is to receive an event.
func (m member) shows(l logged) bool {
	here := l.project == m.Project
	switch m.Kind {
	case "spec":
		return here && l.table == "generations"
	case "stream":
		return here
	case "all":
		return l.owner == m.Owner
	}
	switch l.table {
	case "tasks":
		return here && l.kind != "DELETE"
	case "generations", "shots":
		return here
	}
	return l.owner == m.Owner && l.table != "projects"
}

const (
	notTheirs   = "received what is not stored, or not theirs: "
	showMissing = 10
	showFaults  = 14
)

// tally is what came of clients.
type tally struct{ clients, streams, received, twice, joins, errors, left int }

func (a *tally) add(b tally) {
	a.clients += b.clients
	a.streams += b.streams
	a.received += b.received
	a.twice += b.twice
	a.joins += b.joins
	a.errors += b.errors
	a.left += b.left
}

// compare holds what a client received to what is stored and theirs. For each row the changes must follow each other; after a connection broke they may
// begin again at an earlier one, and from there follow each other again, to the last.
func (s *storm) compare(m member, stored []logged, received got) tally {
	s.t.Helper()
	type place struct {
		row string
		nth int
	}
	places, length := map[string]place{}, map[string]int{}
	for _, l := range stored {
		if !m.shows(l) {
			continue
		}
		row := l.table + " " + l.row
		if _, again := places[l.mark]; again {
			s.t.Fatalf("two events look alike: %s", l.mark)
		}
		places[l.mark] = place{row, length[row]}
		length[row]++
	}
	result := tally{clients: 1, received: len(received.Events), joins: received.Statuses["SUBSCRIBED"], errors: received.Statuses["CHANNEL_ERROR"]}
	if m.Kind == "stream" {
		result.streams = 1
	}
	at, seen := map[string]int{}, map[string]bool{}
	var faults []string
	fault := func(text string, args ...any) { faults = append(faults, fmt.Sprintf(text, args...)) }
	for _, mark := range received.Events {
		mark = strings.TrimRight(mark, " ")
		p, known := places[mark]
		if !known {
			fault(notTheirs+"%s", mark)
			continue
		}
		next := at[p.row]
		if p.nth > next {
			fault("out of order: change %d of its row after %d of %d: %s", p.nth, next-1, length[p.row], mark)
		}
		at[p.row] = p.nth + 1
		if seen[mark] {
			result.twice++
		}
		seen[mark] = true
	}
	for _, row := range slices.Sorted(maps.Keys(length)) {
		if at[row] != length[row] {
			fault("the last of %d changes received is %d: %s", length[row], at[row], row)
		}
	}
	missing := 0
	for _, l := range stored {
		if _, theirs := places[l.mark]; theirs && !seen[l.mark] {
			if missing++; missing <= showMissing {
				fault("missing, of %s: %s", l.at, l.mark)
			}
		}
	}
	if missing > 0 {
		fault("%d of %d events are missing", missing, len(places))
	}
	if received.Resets > 0 {
		fault("%d resets", received.Resets)
	}
	if received.Statuses["CLOSED"] > 0 { // it left by itself, and told the app, which subscribed anew: what it received must be theirs
		result.left = 1
		faults = slices.DeleteFunc(faults, func(text string) bool { return !strings.HasPrefix(text, notTheirs) })
	}
	if len(faults) > 0 {
		s.t.Errorf("client %s: %d faults, such as\n  %s\n %s", m.Name, len(faults), strings.Join(faults[max(0, len(faults)-showFaults):], "\n  "), strings.Join(received.History, "; "))
	}
	return result
}
