package clients_test

import (
	"strings"
	"testing"

	"darkroom/gateway/web/webtest"
)

// TestTheHooksAgainstAGateway runs the tests of @darkroom/client that want a real one: gateway/web/client/gateway.
func TestTheHooksAgainstAGateway(t *testing.T) {
	t.Parallel()
	folder := webtest.Workspace(t, "../web")
	w := newWorld(t)
	env := struct {
		environment

		ServiceKey string `json:"serviceKey"`
		Realtime   bool   `json:"realtime"` // whether the gateway speaks it itself
		Explains   bool   `json:"explains"` // whether the database has explain_task, retry_task and list_workers
	}{environment: w.environment(true), ServiceKey: serviceKey}
	env.Realtime = w.serves("/realtime/v1/websocket")
	must(t, w.pg.Pool.QueryRow(t.Context(), "select count(*) = 3 from pg_proc where proname in ('explain_task', 'retry_task', 'list_workers')").Scan(&env.Explains))
	said := webtest.RunWith(t, []string{"DARKROOM_TEST_WORLD=" + string(mustJSON(env))}, folder, "npm", "run", "test:gateway", "-w", "client")
	if !strings.Contains(said, " passed") {
		t.Errorf("nothing was tested:\n%s", said)
	}
	w.healthy()
}
