package realtime_test

import (
	"fmt"
	"slices"
	"testing"
)

// A page whose connection broke joins again with the same payload and a greater number, and sees all that happened meanwhile, in order.
func TestAClientGoesOnWhereItsConnectionBroke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, vsn := range []string{"1.0.0", "2.0.0"} {
		p := w.page(vsn)
		p.join(vsn, w.a.token, generations(w.a))
		w.generation(w.a, vsn+" 0")
		p.locations(vsn + " 0")
		must(t, p.conn.CloseNow())
		for i := range 4 {
			w.generation(w.a, fmt.Sprint(vsn, " away ", i))
		}
		p.connect(w.web)
		p.join(vsn, w.a.token, generations(w.a))
		w.generation(w.a, vsn+" back")
		got := slices.DeleteFunc(p.locations(vsn+" back"), func(l string) bool { return l == vsn+" 0" }) // at least once
		if want := []string{vsn + " away 0", vsn + " away 1", vsn + " away 2", vsn + " away 3", vsn + " back"}; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", vsn, got, want)
		}
	}
}

// Only the page that had it goes on with a lease: another page, whose numbers begin anew, another user and another subscription begin from now.
func TestALeaseIsForTheSamePageOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.page("2.0.0")
	old.ref = 40
	old.join("x", w.a.token, generations(w.a))
	must(t, old.conn.CloseNow())
	w.generation(w.a, "away")
	w.dispatched()
	others := map[string]func(p *page){
		"a fresh page":  func(p *page) { p.join("x", w.a.token, generations(w.a)) },
		"another topic": func(p *page) { p.ref = 50; p.join("y", w.a.token, generations(w.a)) },
		"another binding": func(p *page) {
			p.ref = 50
			p.join("x", w.a.token, binding{"event": "*", "schema": "public", "table": "generations"})
		},
		"another user's page": func(p *page) { p.ref = 50; p.join("x", w.b.token, generations(w.a), generations(w.b)) },
	}
	var pages []*page
	for what, join := range others {
		p := w.page("2.0.0")
		join(p)
		t.Log(what)
		pages = append(pages, p)
	}
	w.generation(w.a, "last")
	w.generation(w.b, "last")
	for _, p := range pages {
		if got := p.locations("last"); len(got) != 1 {
			t.Errorf("got %q", got)
		}
	}
	old.connect(w.web)
	old.join("x", w.a.token, generations(w.a))
	if got := old.locations("last"); !slices.Equal(got, []string{"away", "last"}) {
		t.Errorf("the page itself got %q", got)
	}
}

// The gateway stops, or is killed, and the page goes on at another one.
func TestAClientGoesOnAtAnotherGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other, _ := w.gateway()
	p := w.page("2.0.0")
	p.join("x", w.a.token, generations(w.a))
	for i := range 50 {
		w.generation(w.a, fmt.Sprint("a", i))
	}
	p.locations("a20") // the rest is under way, or read by nobody
	w.stop()
	for i := range 10 {
		w.generation(w.a, fmt.Sprint("b", i))
	}
	p.connect(other)
	p.join("x", w.a.token, generations(w.a))
	w.generation(w.a, "last")
	got := p.locations("last")
	var want []string
	for i := 21; i < 50; i++ {
		want = append(want, fmt.Sprint("a", i))
	}
	for i := range 10 {
		want = append(want, fmt.Sprint("b", i))
	}
	if want = append(want, "last"); !slices.Equal(after("a20", got), want) {
		t.Errorf("got %q", got)
	}
}

// after is what comes after the last of what was seen before: delivery is at least once.
func after(seen string, list []string) []string {
	return list[slices.Index(list, seen)+1:]
}

// Beyond what is kept the first join is refused, once, and the next begins from now.
func TestBeyondRetentionTheFirstJoinIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.page("2.0.0")
	p.join("x", w.a.token, generations(w.a))
	must(t, p.conn.CloseNow())
	w.leaseIsLost(1)
	w.generation(w.a, "away")
	w.forget()
	p.connect(w.web)
	if f := p.tryJoin("x", w.a.token, generations(w.a)); f.Payload.Status != "error" || f.Payload.Response.Reason == "" {
		t.Errorf("the first join: %s", f.raw)
	}
	eventually(t, "the lease has ended", func() bool {
		return w.count("select count(*) from darkroom.realtime_leases where owner_id is not null") == 0
	})
	p.join("x", w.a.token, generations(w.a))
	w.generation(w.a, "now")
	if got := p.locations("now"); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

// Leaving ends the lease: whoever comes again begins from now.
func TestLeavingEndsTheLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.page("2.0.0")
	p.join("x", w.a.token, generations(w.a))
	p.reply(p.send("realtime:x", "phx_leave", map[string]any{}))
	eventually(t, "the lease has ended", func() bool {
		return w.count("select count(*) from darkroom.realtime_leases where owner_id is not null") == 0
	})
	w.generation(w.a, "away")
	w.dispatched()
	p.join("x", w.a.token, generations(w.a))
	w.generation(w.a, "now")
	if got := p.locations("now"); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

// leaseIsLost waits until so many leases are known to have lost their connection.
func (w *world) leaseIsLost(n int) {
	w.t.Helper()
	eventually(w.t, "the gateway has written down that the connection broke", func() bool {
		return w.count("select count(*) from darkroom.realtime_leases where lost_at is not null and owner_id is not null") == n
	})
}

func (w *world) count(sql string, args ...any) int {
	w.t.Helper()
	var n int
	must(w.t, w.pg.Pool.QueryRow(w.t.Context(), sql, args...).Scan(&n))
	return n
}
