package realtime_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
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

// An old client whose connection broke between a join and its answer numbers no join any more. It goes on where it was all the same, and so does a join
// on the connection that has the channel.
func TestAClientThatNumbersNoJoinGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.page("1.0.0")
	p.join("x", w.a.token, generations(w.a))
	w.generation(w.a, "first")
	p.locations("first")
	must(t, p.conn.CloseNow())
	w.generation(w.a, "away")
	w.dispatched()
	p.connect(w.web)
	join := map[string]any{
		"topic": "realtime:x", "event": "phx_join", "ref": "", "join_ref": "",
		"payload": map[string]any{"config": map[string]any{"postgres_changes": []binding{generations(w.a)}}, "access_token": w.a.token},
	}
	again := func() {
		t.Helper()
		data, err := json.Marshal(join)
		must(t, err)
		must(t, p.conn.Write(t.Context(), websocket.MessageText, data))
		if f := p.until("the answer", func(f frame) bool { return f.Event == "phx_reply" }); f.Payload.Status != "ok" {
			t.Fatalf("joining again: %s", f.raw)
		}
		p.until("a broken channel", func(f frame) bool { return f.Event == "phx_error" }) // or the client would leave it
	}
	again()
	w.generation(w.a, "back")
	if got := slices.DeleteFunc(p.locations("back"), func(l string) bool { return l == "first" }); !slices.Equal(got, []string{"away", "back"}) {
		t.Errorf("got %q", got)
	}
	for n := range 3 {
		name := fmt.Sprintf("between %d", n)
		w.generation(w.a, name)
		again()
		p.locations(name)
	}
	if n := w.count("select count(*) from darkroom.realtime_leases where owner_id = $1", w.a.id); n != 1 {
		t.Errorf("%d leases, want 1", n)
	}
}

// What was sent and did not arrive before the connection broke comes again.
func TestWhatDidNotArriveComesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.page("2.0.0")
	p.join("x", w.a.token, generations(w.a))
	w.generation(w.a, "read")
	p.locations("read")
	eventually(t, "what was read has arrived", func() bool {
		p.reply(p.send("phoenix", "heartbeat", map[string]any{})) // reads, and so answers pings
		return w.count("select count(*) from darkroom.realtime_leases where owner_id = $1 and position is null", w.a.id) == 1 &&
			w.count("select count(*) from darkroom.realtime_gateways where seen_at > (select max(created_at) + interval '2 seconds' from generations where location = 'read')") == 1
	})
	for _, name := range []string{"sent", "sent too"} {
		w.generation(w.a, name)
		w.dispatched() // the page does not read, and so answers no ping
	}
	must(t, p.conn.CloseNow())
	p.connect(w.web)
	p.join("x", w.a.token, generations(w.a))
	w.generation(w.a, "last")
	if got := slices.DeleteFunc(p.locations("last"), func(l string) bool { return l == "read" }); !slices.Equal(got, []string{"sent", "sent too", "last"}) {
		t.Errorf("got %q", got)
	}
}

// A page that came back before anybody knew that its gateway had died does not begin where that died again and again; but where another page may have
// come back instead, the oldest place is taken.
func TestAGatewayThatDiedIsNotGoneBackToForever(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	take := func(gateway, key string, ref int) (lease, from string) {
		t.Helper()
		must(t, w.pg.Pool.QueryRow(t.Context(), "select lease_id::text, coalesce(resume_from, '') from auth.take_lease($1, $2, $3, $4)", gateway, []byte(key), w.a.id, ref).Scan(&lease, &from))
		return lease, from
	}
	for _, others := range []int{0, 1} {
		key, first, second := fmt.Sprint("key ", others), uuid.NewString(), uuid.NewString()
		w.exec("select auth.keep_leases($1, 'old', '{}', '{}', '{}', '{}')", first)
		w.exec("select auth.keep_leases($1, 'new', '{}', '{}', '{}', '{}')", second)
		take(first, key, 5)
		if others == 1 {
			take(first, key, 4)
		}
		lease, from := take(second, key, 7)
		if from != "old" {
			t.Errorf("others %d: at first it goes on from %q", others, from)
		}
		w.exec("update darkroom.realtime_gateways set seen_at = seen_at - interval '1 minute' where id = $1", first)
		w.exec("select auth.keep_leases($1, 'newer', array[$2::uuid], '{8}', '{new}', '{true}')", second, lease)
		want, left := "new", 1
		if others == 1 {
			want, left = "old", 3
		}
		if _, from = take(second, key, 9); from != want {
			t.Errorf("others %d: then from %q, want %q", others, from, want)
		}
		if n := w.count("select count(*) from darkroom.realtime_leases where key = $1", []byte(key)); n != left {
			t.Errorf("others %d: %d leases, want %d", others, n, left)
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

// PostgreSQL ends all connections of the gateway, again and again, as when it is restarted: nobody's socket breaks and nothing is missed.
func TestBrokenDatabaseConnectionsLoseNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.page("2.0.0")
	p.join("x", w.a.token, generations(w.a))
	wait := w.writers(200, 4)
	for range 5 {
		w.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename <> current_user")
		p.change()
	}
	wait()
	w.generation(w.a, "end")
	p.locations("end")
	if f := p.reply(p.send("phoenix", "heartbeat", map[string]any{})); f.Payload.Status != "ok" {
		t.Errorf("the socket: %s", f.raw)
	}
	if n := w.count("select count(*) from generations where project_id = $1", w.a.project); n != p.seen {
		t.Errorf("the page got %d of %d", p.seen, n)
	}
}

// A gateway that is asked to stop closes its connections, so that their clients go on elsewhere, and ends soon.
func TestAStoppingGatewaySendsItsClientsElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateway := w.process()
	p := w.pageAt(gateway.web, "2.0.0")
	p.join("x", w.a.token, generations(w.a))
	here := w.web
	w.web = gateway.web
	s := w.stream(w.a, w.a.token, "")
	w.web = here
	w.generation(w.a, "before")
	p.locations("before")
	last := s.next()
	began := time.Now()
	if err := gateway.term(); err != nil {
		t.Errorf("the gateway ended with %v: %s", err, w.log)
	}
	if took := time.Since(began); took > awhile {
		t.Errorf("it took %s", took)
	}
	if e := s.next(); e.event != "end" || e.reason == "" {
		t.Errorf("the stream ends with %v", e)
	}
	for {
		_, err := p.tryRead(awhile)
		if closed := (websocket.CloseError{}); errors.As(err, &closed) {
			if closed.Code != websocket.StatusServiceRestart {
				t.Errorf("the socket is closed with %v", closed)
			}
			break
		}
		must(t, err)
	}
	w.generation(w.a, "between")
	p.connect(w.web)
	p.join("x", w.a.token, generations(w.a))
	w.generation(w.a, "after")
	if got := once(append([]string{"before"}, p.locations("after")...)); !slices.Equal(got, []string{"before", "between", "after"}) {
		t.Errorf("the page got %q", got)
	}
	again := w.stream(w.a, w.a.token, last.id)
	if e := again.next(); e.data.Record["location"] != "between" {
		t.Errorf("the stream goes on with %v", e)
	}
}

// after is what comes after the last of what was seen before: delivery is at least once.
func after(seen string, list []string) []string {
	return list[slices.Index(list, seen)+1:]
}

// Beyond what is kept the first join is refused, once, and the next begins from now. A client of 1.0.0 joins again only if it hears phx_error too.
func TestBeyondRetentionTheFirstJoinIsRefused(t *testing.T) {
	t.Parallel()
	for _, vsn := range []string{"1.0.0", "2.0.0"} {
		w := newWorld(t)
		p := w.page(vsn)
		p.join("x", w.a.token, generations(w.a))
		must(t, p.conn.CloseNow())
		w.leaseIsLost(1)
		w.generation(w.a, "away")
		w.forget()
		p.connect(w.web)
		if f := p.tryJoin("x", w.a.token, generations(w.a)); f.Payload.Status != "error" || f.Payload.Response.Reason == "" {
			t.Errorf("%s: the first join: %s", vsn, f.raw)
		}
		if vsn == "1.0.0" {
			if f := p.read(); f.Event != "phx_error" || f.Ref == nil || *f.Ref != strconv.Itoa(p.ref) {
				t.Errorf("%s: after it: %s", vsn, f.raw)
			}
		}
		eventually(t, "the lease has ended", func() bool {
			return w.count("select count(*) from darkroom.realtime_leases where owner_id is not null") == 0
		})
		p.join("x", w.a.token, generations(w.a))
		w.generation(w.a, "now")
		if got := p.locations("now"); len(got) != 1 {
			t.Errorf("%s: got %q", vsn, got)
		}
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

// Leases that nobody comes back to do not grow without bound.
func TestAUserKeepsAThousandLeases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`insert into darkroom.realtime_leases (key, owner_id, gateway_id, last_ref, position, lost_at)
		select '\x00', $1, gen_random_uuid(), n, 'x', now() - interval '1 hour' + n * interval '1 second' from generate_series(1, 1005) n`, w.a.id)
	_, err := w.db.PurgeExpired(t.Context())
	must(t, err)
	if n := w.count("select count(*) from darkroom.realtime_leases where owner_id = $1 and last_ref > 5", w.a.id); n != 1000 {
		t.Errorf("%d of the latest are left", n)
	}
	if n := w.count("select count(*) from darkroom.realtime_leases where owner_id = $1 and last_ref <= 5", w.a.id); n != 0 {
		t.Errorf("%d of the oldest are left", n)
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

// A client that does not read is cut off, harms nobody, and misses nothing when it comes back.
func TestASlowClientIsCutOffAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow, quick := w.page("2.0.0"), w.page("2.0.0")
	slow.join("x", w.a.token, generations(w.a))
	quick.join("y", w.a.token, generations(w.a))
	const events, together = 500, 25
	var want []string
	for i := range events { // 50 MB, as fast as the quick one reads
		want = append(want, strconv.Itoa(i))
		w.exec(`insert into generations (project_id, type, location, params) values ($1, 'image', $2, jsonb_build_object('x', repeat('x', 100000)))`, w.a.project, want[i])
		if i%together == together-1 {
			if got := quick.locations(want[i]); !slices.Equal(got, want[i+1-together:]) {
				t.Errorf("the quick one got %q", got)
			}
		}
	}
	var got []string
	for {
		f, err := slow.tryRead(awhile)
		if err != nil {
			break
		}
		if f.Event == "postgres_changes" {
			location, _ := f.Payload.Data.Record["location"].(string)
			got = append(got, location)
		}
	}
	if len(got) == events || len(got) == 0 {
		t.Fatalf("the slow one got %d before it was cut off", len(got))
	}
	slow.connect(w.web)
	slow.join("x", w.a.token, generations(w.a))
	if again := slow.locations(want[events-1]); !slices.Equal(once(append(got, again...)), want) {
		t.Errorf("the slow one got %q, then %q", got, again)
	}
}

// once leaves out what came before: delivery is at least once.
func once(list []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool {
		before := seen[s]
		seen[s] = true
		return before
	})
}

// Gateways are killed while events come in transactions that commit in any order, and clients go on at the next one: all get everything.
func TestKilledGatewaysLoseNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const clients, rounds, each = 8, 4, 120
	pages := make([]*page, clients)
	got := make([][]string, clients)
	for i := range pages {
		pages[i] = &page{t: t, vsn: []string{"1.0.0", "2.0.0"}[i%2], ref: i * 100}
	}
	for round := range rounds {
		gateway := w.process()
		last := fmt.Sprint(round, " last")
		for i, p := range pages {
			p.connect(gateway.web)
			p.join("x", w.a.token, generations(w.a), binding{"event": "*", "schema": "public", "table": "credit_ledger"})
			if i == 0 && round == 0 {
				defer w.writers(each*rounds, 4)()
			}
		}
		var reading sync.WaitGroup
		for i, p := range pages {
			reading.Go(func() {
				for range each / 2 {
					f, err := p.tryRead(awhile)
					if err != nil {
						t.Errorf("client %d: %v", i, err)
						return
					}
					if location, is := f.Payload.Data.Record["location"].(string); is {
						got[i] = append(got[i], location)
					}
				}
			})
		}
		reading.Wait()
		gateway.kill()
		w.generation(w.a, last)
	}
	w.written.Wait()
	w.generation(w.a, "end")
	var want []string
	rows, err := w.pg.Pool.Query(t.Context(), "select location from generations where project_id = $1 order by location", w.a.project)
	must(t, err)
	want, err = pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	for i, p := range pages {
		p.connect(w.web)
		p.join("x", w.a.token, generations(w.a), binding{"event": "*", "schema": "public", "table": "credit_ledger"})
		got[i] = once(append(got[i], p.locations("end")...))
		if slices.Sort(got[i]); !slices.Equal(got[i], slices.Sorted(slices.Values(want))) {
			t.Errorf("client %d got %d events of %d", i, len(got[i]), len(want))
		}
	}
}
