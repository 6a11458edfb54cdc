package realtime_test

import (
	"strings"
	"testing"
)

// A client of vsn 1.0.0 joins with the public key, hears that it is in, sends the token of its user, and has missed nothing since it was in.
func TestAnOldClientJoinsBeforeItSendsItsToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	late := w.page("1.0.0") // never sends one
	late.join("late", anonKey, generations(w.a))
	system := func(p *page) string {
		f := p.until("a refusal", func(f frame) bool { return f.Event == "system" && f.Payload.Status == "error" })
		p.until("the end of the channel", func(f frame) bool { return f.Event == "phx_error" })
		return f.Payload.Message
	}

	p := w.page("1.0.0")
	reply := p.join("anything", anonKey, generations(w.a))
	if !strings.Contains(string(reply.Payload.Response.Changes), `"id":1`) {
		t.Errorf("the bindings do not come back: %s", reply.raw)
	}
	w.generation(w.a, "before the token")
	w.generation(w.b, "of another")
	w.dispatched()
	p.send("realtime:anything", "access_token", map[string]any{"access_token": w.a.token})
	w.generation(w.a, "after")
	if got := p.locations("after"); len(got) != 2 || got[0] != "before the token" {
		t.Errorf("after the token come %v", got)
	}
	p.send("realtime:anything", "access_token", map[string]any{"access_token": w.a.token}) // the next is a renewal
	w.generation(w.a, "after a renewal")
	p.locations("after a renewal")

	p.join("nobody", anonKey, generations(w.a))
	p.send("realtime:nobody", "access_token", map[string]any{"access_token": anonKey})
	if said := system(p); !strings.Contains(said, "Nobody is signed in") {
		t.Errorf("to the public key: %q", said)
	}
	p.join("task-updates:"+w.b.project.String(), anonKey)
	p.send("realtime:task-updates:"+w.b.project.String(), "access_token", map[string]any{"access_token": w.a.token})
	if said := system(p); !strings.Contains(said, "no such project") {
		t.Errorf("of somebody else's project: %q", said)
	}
	if f := p.tryJoin("bad", anonKey, binding{"event": "*", "schema": "public", "table": "generations", "filter": "colour=eq.red"}); f.Payload.Status != "error" || !strings.Contains(f.Payload.Response.Reason, "colour") {
		t.Errorf("a bad filter: %s", f.raw)
	}
	p.join("left", anonKey, generations(w.a))
	if f := p.reply(p.send("realtime:left", "phx_leave", map[string]any{})); f.Payload.Status != "ok" {
		t.Errorf("leaving: %s", f.raw)
	}
	p.send("realtime:left", "access_token", map[string]any{"access_token": w.a.token})

	// The new client comes back from a refusal, with its token.
	if f := w.page("2.0.0").tryJoin("anything", anonKey, generations(w.a)); f.Payload.Status != "error" || !strings.Contains(f.Payload.Response.Reason, "Nobody is signed in") {
		t.Errorf("vsn 2.0.0: %s", f.raw)
	}
	if said := system(late); !strings.Contains(said, "Nobody is signed in") {
		t.Errorf("without a token: %q", said)
	}
}

// An old client comes back from a refusal only when its channel breaks.
func TestAnOldClientIsSentBackForATokenThatExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.page("1.0.0")
	if f := p.tryJoin("anything", w.sign(w.a.id, -1), generations(w.a)); f.Payload.Status != "error" || !strings.Contains(f.Payload.Response.Reason, "expired") {
		t.Errorf("an expired token: %s", f.raw)
	}
	p.until("a broken channel", func(f frame) bool { return f.Event == "phx_error" })
	p.join("anything", w.a.token, generations(w.a))
}
