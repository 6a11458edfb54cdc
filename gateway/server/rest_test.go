package server_test

import (
	"net/http"
	"testing"
)

// What is refused before a request reaches the REST door is refused in its words.
func TestRESTBehindTheServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if got := b.send(http.MethodGet, "/rest/v1/tools?select=tool_id&order=tool_id&limit=1", ""); got.status != http.StatusOK || string(got.body) != `[{"tool_id":"image-generation"}]` {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := b.send(http.MethodPost, "/rest/v1/rpc/get_task", `{"task_id":"`+b.user.String()+`"}`); got.status != http.StatusNotFound || got.json(t)["code"] != "TD021" {
		t.Errorf("%d %s", got.status, got.body)
	}
	for key, want := range map[string]string{"": "PGRST302", "Bearer wrong": "PGRST301"} {
		var pairs []string
		if key != "" {
			pairs = []string{"Authorization", key}
		}
		got := do(t, http.MethodGet, b.web.URL+"/rest/v1/tools", "", pairs...)
		if body := got.json(t); got.status != http.StatusUnauthorized || body["code"] != want || len(body) != 4 {
			t.Errorf("%q: %d %s, want %s", key, got.status, got.body, want)
		}
	}
	if got := b.send("PROPFIND", "/rest/v1/tools", ""); got.status != http.StatusMethodNotAllowed || got.json(t)["code"] != "PGRST117" {
		t.Errorf("%d %s", got.status, got.body)
	}
}
